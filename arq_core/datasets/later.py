"""The files of benchmarks younger than Table A.4, OGBench's (Park et al. 2025) and Minari's (Younis
et al. 2024), fetched by the addresses of their rows. Neither publishes hashes: the first file that
comes is locked (datasets.fetch).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from arq_core.algorithm.types import DataError
from arq_core.config.files import replacing
from arq_core.config.paths import cache_folder
from arq_core.config.tasks import Task, task
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.fetch import fetch_locked
from arq_core.datasets.official import file_name
from arq_core.datasets.readers.minari import METADATA, NUMBERS, read_minari
from arq_core.datasets.readers.ogbench import read_ogbench


def file_names(row: Task) -> tuple[str, ...]:
    """The names in the cache of all files that a downloaded row is read from."""
    beside = (f"{row.task}.{METADATA}",) if row.suite == "minari" else ()
    return (file_name(row), *beside)


def load_ogbench(name: str) -> Dataset:
    """The training file of a row of OGBench's, as the data of the row's single task."""
    row = task(name)
    path = fetch_locked(file_name(row), row.source.split(), row.sha256)
    return _of_row(row, read_ogbench(path, row.fidelity, row.task), path)


def load_minari(name: str) -> Dataset:
    """The dataset of a row of Minari's: its two files, put into a folder as Minari has them."""
    row = task(name)
    addresses = row.source.split()
    data = fetch_locked(file_name(row), addresses, row.sha256)
    beside = [f"{address.rsplit('/', 1)[0]}/{METADATA}" for address in addresses]
    metadata = fetch_locked(file_names(row)[1], beside)
    folder = cache_folder() / "minari" / row.task / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in ((data, folder / NUMBERS), (metadata, folder / METADATA)):
        _linked(source, target)
    return _of_row(row, read_minari(folder, row.fidelity), data)


def _linked(source: Path, target: Path) -> None:
    """The file under a second name, a copy of it where the file system has no links."""
    if target.is_file() and os.path.samefile(source, target):
        return
    with replacing(target) as part:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)


def _of_row(row: Task, data: Dataset, path: Path) -> Dataset:
    """The dataset, which has the row's dimensions, with a note of what it is."""
    seen, expected = (data.state_dim, data.action_dim), (row.state_dim, row.action_dim)
    if seen != expected:
        raise DataError(
            f"{path}: saw {seen[0]} state and {seen[1]} action dimensions, expected "
            f"{expected[0]} and {expected[1]} of {row.task}; give the file of this task."
        )
    named = "its published SHA-256" if row.sha256 else "no published SHA-256: the first that came"
    return replace(data, notes=(*data.notes, f"{row.task}, version {row.version}, {named}"))
