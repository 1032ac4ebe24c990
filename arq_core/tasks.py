"""A task is a row of `data/tasks.csv`: where its data comes from, where its policies are tried, and how a return becomes a score."""
from __future__ import annotations

import csv
import importlib
from dataclasses import dataclass

import numpy as np

from arq_core.datasets import Dataset
from arq_core.evaluate import VectorEnv
from arq_core.settings import DATA, pick


@dataclass(frozen=True)
class Task:
    """One row. `loader` and `environment` are "module:function", imported when they are first needed."""

    task: str
    published_name: str
    suite: str
    group: str
    loader: str
    environment: str
    horizon: int
    score_min: float
    score_max: float
    fidelity: str

    def load(self) -> Dataset:
        return _resolve(self.loader)()

    def environments(self, n: int) -> VectorEnv:
        return _resolve(self.environment)(n)

    def score(self, returns: np.ndarray) -> np.ndarray:
        """100·(return - min)/(max - min): 0 is D4RL's random policy and 100 its expert; our own problems keep their return."""
        if self.suite == "ours":
            return returns
        return 100 * (returns - self.score_min) / (self.score_max - self.score_min)


def _resolve(path: str):
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def tasks() -> dict[str, Task]:
    """All rows of `data/tasks.csv`, by name."""
    with open(DATA / "tasks.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    numbers = dict(horizon=int, score_min=float, score_max=float)
    return {r["task"]: Task(**{k: numbers.get(k, str)(r[k]) for k in Task.__dataclass_fields__}) for r in rows}


def task(name: str) -> Task:
    """The task of that name; an unknown name ends in an error that lists the known ones."""
    return pick("task", name, tasks())
