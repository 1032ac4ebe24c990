"""A task for data of one's own: tried in the simulator of a task, or in one of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from arq_core.algorithm.types import DataError
from arq_core.config import settings
from arq_core.config.tasks import Task, for_own_data, tasks
from arq_core.datasets.boxes import Bounds, Box, fitted, given, says_of_actions, unit, with_bounds
from arq_core.datasets.dataset import Dataset
from arq_core.envs.gym import PREFIX
from arq_core.envs.layout import Layout, said_by, text
from arq_core.envs.own import label, vectors
from arq_core.envs.vector import EnvError, VectorEnv, close
from arq_core.experiments.episodes import check_layout, usable_states, usable_step

UNNAMED = "the simulator does not say"  # how a note begins
TRIED = 2  # episodes of the trial: with one, a wrong shape can look right


@dataclass(frozen=True)
class OwnTask(Task):
    """A task for data and a simulator of your own; the score is the return."""

    make: Callable[[int], VectorEnv]
    # the box of its actions, where it says one, and the order of the data's states
    box: Box | None = None
    layout: Layout = ()

    def environments(self, n: int) -> VectorEnv:
        envs = self.make(n)
        arrange = getattr(envs, "arrange", None)
        if self.layout and arrange and said_by(envs):
            arrange(self.layout)
        return envs

    def score(self, returns: np.ndarray) -> np.ndarray:
        return returns


# a task's name, "gymnasium:<id>", or what `envs.own` takes: a function of the number of episodes,
# such as lambda n: gymnasium.make_vec(ID, num_envs=n); "" is none
Simulator = str | Callable[..., Any]


def own_task(name: str, group: str, environment: Simulator) -> Task:
    """A task for data of your own: the hyperparameters of `group`, tried in the simulator of a task
    or in one of your own.

    A task's simulator brings its horizon and its scale of scores; with one of your own the score is
    the return. Of one of your own two episodes are begun here, and one step is made.
    """
    settings.hyper(group)
    if isinstance(environment, str) and not environment.startswith(PREFIX):
        if environment:
            check_simulator(environment)
        return for_own_data(name, group, environment)
    make = vectors(environment)
    horizon, box = tried(make, min(TRIED, getattr(environment, "num_envs", TRIED)))
    said = dict(environment=label(environment), horizon=horizon)
    return OwnTask(**vars(for_own_data(name, group)) | said, make=make, box=box)


def check_simulator(name: str) -> None:
    """Refuse a text that names neither a task nor, with PREFIX in front, an environment of
    Gymnasium's.
    """
    if not name.startswith(PREFIX):
        kind = f"environment (the task in whose simulator to score, or {PREFIX}ID)"
        settings.pick(kind, name, tasks())


def tried(make: Callable[[int], VectorEnv], n: int = TRIED) -> tuple[int, Box | None]:
    """Horizon and action box of a simulator, after a reset and a step of n episodes in the middle
    of the box: whatever is wrong with these is one EnvError, before anything is trained.
    """
    doing, envs = "being made", None
    try:
        envs = make(n)
        for name in ("state_dim", "action_dim", "horizon"):
            value = getattr(envs, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise EnvError(
                    f"environment: saw {name} {value!r}, expected an integer of at least 1; "
                    "mend the environment."
                )
        live, width = np.ones(n, bool), envs.state_dim
        doing = "reset"
        usable_states(envs.reset(list(range(n))), n, width, live, "at the trial's start")
        doing = "step"
        step = envs.step(np.zeros((n, envs.action_dim), np.float32))
        usable_step(step, n, width, live, "at the trial's first step")
        said = getattr(envs, "action_box", None)
        box = given(said, envs.action_dim, "environment: action_box")
        return int(envs.horizon), box if isinstance(box, Box) else None
    except (EnvError, DataError):
        raise
    except Exception as error:  # whatever a user's simulator raises
        raise EnvError(
            f"environment: saw {type(error).__name__}: {error} while {n} episodes were tried "
            f"({doing}), expected a reset and a step before training; mend the environment."
        ) from error
    finally:
        close(envs)


def suited(chosen: Task, dataset: Dataset, bounds: Bounds) -> tuple[Task, Dataset]:
    """Task and data of one's own, fit for each other: the actions scaled from the box in which they
    were recorded, the simulator's states joined as the data's are; DataError where they cannot be.

    What was decided on the way is printed. Dimensions are compared when the policy is measured.
    """
    dataset = with_bounds(dataset, bounds)
    box = None
    if isinstance(chosen, OwnTask):
        if dataset.layout:
            chosen = replace(chosen, layout=dataset.layout)
            envs = chosen.environments(1)
            try:
                check_layout(envs, dataset.layout)
                if not said_by(envs):
                    note = (
                        f"{UNNAMED} how its states are joined: those of the data are "
                        f"{text(dataset.layout)}, in this order"
                    )
                    dataset = replace(dataset, notes=(*dataset.notes, note))
            finally:
                close(envs)
        box = chosen.box
    if box is None and chosen.environment:
        box = unit(chosen.action_dim or dataset.action_dim)
    if box is None or len(box.low) == dataset.action_dim:
        dataset = fitted(dataset, box)
    for note in dataset.notes:
        if note.startswith(UNNAMED) or says_of_actions(note):
            print(f"{chosen.task}: {note}")
    return chosen, dataset
