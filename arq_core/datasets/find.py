"""A name, a file, a folder, an id or arrays: one Source, whatever a dataset was asked for by.

The only place that tells them apart.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from arq_core.config.paths import given
from arq_core.config.settings import pick
from arq_core.config.tasks import Task, tasks
from arq_core.datasets import at_hand
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.own import MINARI, is_own, own_name, plain_name, read_own


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from, before anything is loaded.

    `title` is its name; `task` its row of data/tasks.csv, None for data of one's own, which are
    `own`: a path, "minari:" and an id, or the Dataset itself. Rows of these have the beginning of
    their hash behind the title (own.row_name).
    """

    title: str
    task: Task | None
    own: str | Dataset = ""

    def load(self) -> Dataset:
        """The data, fetched, rebuilt or collected where they are not here; DataError where not."""
        if self.task:
            return self.task.load()
        return self.own if isinstance(self.own, Dataset) else read_own(self.own)

    def exists(self) -> bool:
        """Whether a file or folder of one's own is there; true of all else."""
        named = isinstance(self.own, str) and self.own and not self.own.startswith(MINARI)
        return os.path.exists(str(self.own)) if named else True

    def why_not(self) -> str:
        """Why the data cannot be read here and now, and what to do about it; "" where they can."""
        return at_hand.why_not(self.task) if self.task else ""

    def read(self) -> Dataset:
        """The data as they lie here: nothing is fetched or collected."""
        return at_hand.read(self.task) if self.task else self.load()


def find(name: str | Path | Dataset) -> Source:
    """The source of a task's name, of an HDF5 file (D4RL's or robomimic's layout), of a folder of
    Minari's, of "minari:" and an id, or of a Dataset.

    A task's name is the task, whatever files and folders lie around: `./maze` is the folder. What
    exists is a path, whatever its ending; ~ and $VARIABLES are filled in. A path that does not
    exist is found by whoever reads it; any other name ends in UnknownName, which lists the tasks.
    """
    if isinstance(name, Dataset):
        return Source(plain_name(name.name), None, name)
    text, known = str(name), tasks()
    if text in known and not (isinstance(name, Path) and os.path.exists(name)):
        return Source(text, known[text])
    if is_own(name):
        where = text if text.startswith(MINARI) else str(given(text).absolute())
        return Source(own_name(text), None, where)
    return Source(text, pick("task (or a file or folder of yours)", text, known))
