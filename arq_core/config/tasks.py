"""A task is a row of `data/tasks.csv`: where its data comes from, where its policies are tried, and
how a return becomes a score.

Nothing is decided by a part of a name: what differs between two tasks is a column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from arq_core.config.files import read_csv, read_text
from arq_core.config.paths import DATA
from arq_core.config.settings import pick

if TYPE_CHECKING:  # a list of tasks needs no torch
    from arq_core.datasets.dataset import Dataset
    from arq_core.envs.vector import VectorEnv


MADE = {
    "compute": "computed when it is loaded",
    "rebuild": "rebuilt from a file that is fetched",
    "download": "downloaded from its publisher",
    "collect": "collected by a recipe of ours, on request",
}


@dataclass(frozen=True)
class Task:
    """One row. `loader` and `environment` are "module:function", imported when they are first
    needed.
    """

    task: str
    published_name: str  # the paper's name of the dataset; "" where the paper has none
    suite: str
    group: str  # of hyperparameters.toml
    stands_for: str  # the task that these data are collected in place of; "" for none
    loader: str  # called with the task's name -> Dataset
    made: str  # how the data come here: a key of MADE
    # called with a number of episodes -> VectorEnv; "" where there is none
    environment: str
    simulator: str
    horizon: int  # steps of an evaluation episode
    termination: str  # what ends an episode earlier
    reward: str
    state_dim: int
    action_dim: int
    score_min: float  # the return that scores 0
    score_max: float  # and the one that scores 100
    score_source: str
    fidelity: str  # a key of labels.FIDELITIES
    version: str  # of the dataset, by its publisher's count
    cuts: str  # where a file in D4RL's layout ends its episodes (datasets.readers.cuts)
    # addresses of the same file, the publisher's first, or how the data were made
    source: str
    # "name=address": files that go by a similar name and hold other numbers
    other_versions: str
    sha256: str  # of the file; "" where nobody states it
    sha256_source: str
    transitions: int | None  # steps in the file; None where no source states them
    transitions_source: str
    licence: str
    also_known: str  # what else goes by the same name, one sentence

    def load(self) -> Dataset:
        """The data: computed, rebuilt, fetched or collected; DataError where they cannot be had."""
        return resolve_name(self.loader)(self.task)

    def environments(self, n: int) -> VectorEnv:
        """n episodes of its simulator as one; EnvError where that is not installed."""
        return resolve_name(self.environment)(n)

    def score(self, returns: np.ndarray) -> np.ndarray:
        """100·(return - min)/(max - min): 0 is D4RL's random policy and 100 its expert; our own
        problems keep their return.
        """
        if self.suite == "ours":
            return returns
        return 100 * (returns - self.score_min) / (self.score_max - self.score_min)


NUMBERS = {
    "horizon": int,
    "state_dim": int,
    "action_dim": int,
    "score_min": float,
    "score_max": float,
    "transitions": lambda text: int(text) if text else None,
}


def listed(path: str | Path = DATA / "tasks.csv") -> Mapping[str, Mapping[str, str]]:
    """The rows of tasks.csv as texts, by the task's name; nobody can change them."""
    return _listed(Path(path), read_text(path))


@lru_cache(maxsize=8)
def _listed(path: Path, text: str) -> Mapping[str, Mapping[str, str]]:
    rows = {row["task"]: MappingProxyType(row) for row in read_csv(path, "task")}
    return MappingProxyType(rows)


def tasks() -> dict[str, Task]:
    """All rows of `data/tasks.csv`, by name."""
    return {
        task: Task(**{name: NUMBERS.get(name, str)(text) for name, text in row.items()})
        for task, row in listed().items()
    }


def task(name: str) -> Task:
    """The task of that name; an unknown name ends in an error that lists the known ones."""
    return pick("task", name, tasks())


def for_own_data(name: str, group: str, like: str = "") -> Task:
    """A task for a user's own file: tried in the simulator of task `like`, and scored as there;
    without it, trained but not scored.
    """
    if not like:
        blank = {field: "" for field in Task.__dataclass_fields__}
        own: dict[str, Any] = dict(
            task=name,
            suite="own",
            group=group,
            horizon=0,
            state_dim=0,
            action_dim=0,
            score_min=0.0,
            score_max=1.0,
            fidelity="own",
            transitions=None,
        )
        return Task(**{**blank, **own})
    nothing = dict.fromkeys(
        (
            "published_name",
            "stands_for",
            "loader",
            "made",
            "version",
            "cuts",
            "source",
            "other_versions",
            "sha256",
            "sha256_source",
            "transitions_source",
            "licence",
            "also_known",
        ),
        "",
    )
    return replace(task(like), **nothing, task=name, group=group, fidelity="own", transitions=None)
