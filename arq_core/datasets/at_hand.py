"""What can be had without a download and without collecting anything: pages ask this, so that
building the book starts neither.
"""

from __future__ import annotations

import json
from pathlib import Path

from arq_core.config.files import files_in
from arq_core.config.paths import DATA, cache_folder, local_folder
from arq_core.config.tasks import Task, tasks
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.official import file_name
from arq_core.datasets.own import layout_of
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.datasets.readers.robomimic import read_robomimic


def file_of(row: Task) -> Path | None:
    """The task's file in the cache or the local folder; None where there is none (or where the task
    needs none).
    """
    if row.made == "compute":
        return None
    if row.made == "collect":
        found = files_in(cache_folder() / "collected", f"{row.task}-*.hdf5")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)
    places = [folder / file_name(row) for folder in (cache_folder() / "downloads", local_folder())]
    return next((path for path in places if path.is_file()), None)


def why_not(row: Task) -> str:
    """Why the dataset of a task is not at hand, and what to do about it; "" where it is."""
    if row.made == "compute" or file_of(row):
        return ""
    if row.made == "collect":
        return (
            f"{row.task} has not been collected on this machine. "
            f"`make collect TASK={row.task}` collects it."
        )
    return (
        f"The file of {row.task} is not in the cache. Loading the task downloads it, "
        f"where the publisher's server can be reached: {row.source.split()[0]}"
    )


def read(row: Task) -> Dataset:
    """The Dataset of a task that is at hand.

    A collected file is read as it lies there, without the simulator it came from.
    """
    path = file_of(row) if row.made == "collect" else None
    if path is None:
        return row.load()
    if layout_of(path) == "robomimic":
        return read_robomimic(path, fidelity="recollected", success_only=True)
    return read_d4rl(path, row.state_dim, row.action_dim, fidelity="recollected")


def data_card(name: str, folder: Path | None = None) -> dict | None:
    """The committed card of a collected dataset (data/cards/NAME.json): counts, returns, texts.

    None where there is none yet.
    """
    path = (folder or DATA / "cards") / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def stand_ins(row: Task) -> list[str]:
    """Tasks that are collected in place of this one."""
    return [name for name, other in tasks().items() if other.stands_for == row.task]
