"""Loaders of what is made in this repository, in the form that `data/tasks.csv` asks for: called with the task's name.

Each imports its maker when it is called, so that one task does not ask for the simulator of another.
"""
from __future__ import annotations

from arq_core.datasets import Dataset


def maze(task_name: str) -> Dataset:
    from arq_core.envs.maze import collect_maze
    return collect_maze()


def bridge(task_name: str) -> Dataset:
    from arq_core.envs.bridge import collect_bridge
    return collect_bridge()


def door_human(task_name: str) -> Dataset:
    from arq_core.datasets.door import load_door_human
    return load_door_human()
