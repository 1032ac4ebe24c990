"""A task for data of one's own: tried in the simulator of a task, or in one of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arq_core.config import settings
from arq_core.config.tasks import Task, for_own_data
from arq_core.envs.gym import PREFIX, by_id
from arq_core.envs.vector import VectorEnv


@dataclass(frozen=True)
class OwnTask(Task):
    """A task for data and a simulator of your own; the score is the return."""

    make: Callable[[int], VectorEnv]

    def environments(self, n: int) -> VectorEnv:
        return self.make(n)

    def score(self, returns: np.ndarray) -> np.ndarray:
        return returns


# a task's name, "gymnasium:<id>", a function of the number of episodes; "" is none
Simulator = str | Callable[[int], VectorEnv]


def own_task(name: str, group: str, environment: Simulator) -> Task:
    """A task for data of your own: the hyperparameters of `group`, tried in the simulator of a task
    or in one of your own.

    A task's simulator brings its horizon and its scale of scores; with one of your own the score is
    the return.
    """
    settings.hyper(group)
    if isinstance(environment, str) and environment.startswith(PREFIX):
        environment = by_id(environment)
    if callable(environment):
        said = dict(
            environment=f"{environment.__module__}:{environment.__qualname__}",
            horizon=environment(1).horizon,
        )
        return OwnTask(**vars(for_own_data(name, group)) | said, make=environment)
    return for_own_data(name, group, environment)
