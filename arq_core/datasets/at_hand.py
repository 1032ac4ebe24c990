"""What can be had without a download and without collecting anything: pages ask this, so that
building the book starts neither.
"""

from __future__ import annotations

import json
from pathlib import Path

from arq_core.config.paths import DATA, cache_folder, local_folder
from arq_core.config.tasks import Task, task, tasks
from arq_core.datasets.official import file_name
from arq_core.datasets.own import is_own, layout_of, own_name, read_own
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.datasets.readers.robomimic import read_robomimic

# what a row's loader begins with; what its simulator is
COLLECTED_BY, IN_NUMPY = "arq_core.collectors.", "ours, in numpy"


def is_collected(row: Task) -> bool:
    """Whether the data are collected by a recipe, on request."""
    return row.loader.startswith(COLLECTED_BY)


def file_of(row: Task) -> Path | None:
    """The task's file in the cache or the local folder; None where there is none (or where the task
    needs none).
    """
    if is_collected(row):
        return max(
            (cache_folder() / "collected").glob(f"{row.task}-*.hdf5"),
            key=lambda path: path.stat().st_mtime,
            default=None,
        )
    if "://" not in row.source:
        return None
    name = file_name(row)
    return next(
        (
            path
            for folder in (cache_folder() / "downloads", local_folder())
            if (path := folder / name).is_file()
        ),
        None,
    )


def why_not(name: str) -> str:
    """Why the dataset of that name is not at hand, and what to do about it; "" where it is.

    A file of your own is its own answer.
    """
    if is_own(name):
        return ""
    row = task(name)
    if row.simulator == IN_NUMPY or file_of(row):
        return ""
    if is_collected(row):
        return (
            f"{name} has not been collected on this machine. "
            f"`make collect TASK={name}` collects it."
        )
    return (
        f"The file of {name} is not in the cache. Loading the task downloads it, "
        f"where the publisher's server can be reached: {row.source.split()[0]}"
    )


def load(name: str):
    """The Dataset of a task, or of a file of your own.

    A collected file is read as it lies there, without the simulator it came from.
    """
    if is_own(name):
        return read_own(name)
    row = task(name)
    path = file_of(row) if is_collected(row) else None
    if path is None:
        return row.load()
    if layout_of(path) == "robomimic":
        return read_robomimic(path, fidelity="recollected", success_only=True)
    return read_d4rl(path, row.state_dim, row.action_dim, fidelity="recollected")


def known(name: str) -> Task | None:
    """The row of a task; None for data of your own."""
    return None if is_own(name) else task(name)


def title(name: str) -> str:
    """What to call it."""
    return own_name(name) if is_own(name) else name


def data_card(name: str, folder: Path | None = None) -> dict | None:
    """The committed card of a collected dataset (data/cards/NAME.json): counts, returns, texts.

    None where there is none yet.
    """
    path = (folder or DATA / "cards") / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def stands_for(row: Task) -> list[str]:
    """Tasks that are collected in place of this one: the same name before its version, with
    -recollected.
    """
    name = row.task.removesuffix(f"-{row.version}") if row.version else row.task
    return [t for t in tasks() if t == f"{name}-recollected"]
