"""The published files of Table A.4: fetched from wherever they are to be had, recognised, and read
by the rule of their row.

What makes a file the right one is its hash, where somebody published one; else its size and shape.
A file of another version is refused by what it is, not only by what it is not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from arq_core.algorithm.types import DataError
from arq_core.config.files import read_csv, sha256_of
from arq_core.config.paths import DATA, cache_folder, local_folder
from arq_core.config.tasks import Task, task, tasks
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.fetch import FetchError, fetch_locked
from arq_core.datasets.readers.cuts import asks_for_timeouts
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.datasets.readers.robomimic import read_robomimic


@dataclass(frozen=True)
class Seen:
    """What a file shows before its numbers are read; None where it does not say."""

    sha256: str
    steps: int | None = None
    state_dim: int | None = None
    action_dim: int | None = None
    timeouts: bool | None = None

    def __str__(self) -> str:
        if self.steps is None:
            return f"SHA-256 {self.sha256}"
        dims = f"{self.state_dim} observed numbers, " if self.state_dim else ""
        flags = {True: ", timeouts", False: ", no timeouts", None: ""}[self.timeouts]
        return (
            f"{self.steps:,} steps, {dims}{self.action_dim} actions{flags}, SHA-256 {self.sha256}"
        )


def load_official(name: str) -> Dataset:
    """The published dataset of that task."""
    row = task(name)
    try:
        path = fetch_locked(file_name(row), row.source.split(), row.sha256)
    except FetchError as error:
        raise FetchError(f"{error}{_at_hand(row)}") from error
    return read_official(row, path)


def file_name(row: Task) -> str:
    """Its name in the cache: the publisher's, or that of the task where the publisher gives several
    files one name.
    """
    name = _basename(row)
    alone = Counter(map(_basename, tasks().values()))[name] == 1
    return name if alone else f"{row.task}{Path(name).suffix}"


def _basename(row: Task) -> str:
    return row.source.split()[0].rsplit("/", 1)[-1]


def read_official(row: Task, path: Path) -> Dataset:
    """A file as the dataset of that row; a file that is not the one the row describes is
    refused.
    """
    check(row, path)
    if row.cuts:
        data = read_d4rl(path, row.state_dim, row.action_dim, row.fidelity, row.cuts)
    else:
        # no horizon: the released code cuts no demonstration
        data = read_robomimic(path, fidelity=row.fidelity)
    if (data.state_dim, data.action_dim) != (row.state_dim, row.action_dim):
        raise DataError(
            f"{path}: saw {data.state_dim} state and {data.action_dim} action "
            f"dimensions, expected {row.state_dim} and {row.action_dim} of {row.task}; "
            "give the file of this task."
        )
    named = (
        "its published SHA-256"
        if row.sha256
        else "no published SHA-256: recognised by its shape alone"
    )
    return replace(data, notes=(*data.notes, f"{row.task}, version {row.version}, {named}"))


def check(row: Task, path: Path) -> None:
    """Refuses the file if it is plainly not the row's, and says whose it looks like."""
    seen = look(path)
    timeouts = True if row.cuts and asks_for_timeouts(row.cuts) else None
    wanted = Seen(
        row.sha256 or seen.sha256,
        row.transitions,
        row.state_dim if row.cuts else None,
        row.action_dim,
        timeouts,
    )
    if seen.sha256 == row.sha256 or not row.sha256 and _fits(seen, wanted):
        return
    raise DataError(
        f"{path}: saw {seen}, expected {_said(wanted, row)}{looks_like(seen)}; get "
        f"{row.task} from {row.source.split()[0]}."
    )


def _said(wanted: Seen, row: Task) -> str:
    parts = [
        f"{wanted.steps:,} steps" if wanted.steps else "",
        f"{wanted.state_dim} observed numbers" if wanted.state_dim else "",
        f"{wanted.action_dim} actions",
        "timeouts" if wanted.timeouts else "",
        f"SHA-256 {row.sha256}" if row.sha256 else "",
    ]
    return ", ".join(filter(None, parts)) + f" ({row.task}, version {row.version})"


def look(path: Path) -> Seen:
    """Hash, steps, dimensions and flags of an HDF5 file in either layout; only the hash of what is
    neither.
    """
    sha256 = sha256_of(path)
    try:
        with h5py.File(path, "r") as file:
            if isinstance(file.get("actions"), h5py.Dataset) and isinstance(
                file.get("observations"), h5py.Dataset
            ):
                return Seen(
                    sha256,
                    len(file["actions"]),
                    file["observations"].shape[-1],
                    file["actions"].shape[-1],
                    "timeouts" in file,
                )
            demos = [d["actions"].shape for d in file["data"].values()] if "data" in file else []
            return (
                Seen(sha256, sum(n for n, _ in demos), None, demos[0][1]) if demos else Seen(sha256)
            )
    except (OSError, KeyError, RuntimeError, ValueError, AttributeError):
        # no HDF5 or no such layout: its reader says what is wrong
        return Seen(sha256)


def _fits(seen: Seen, known: Seen) -> bool:
    """Whether everything that is known of a file is so; with nothing seen there is nothing to
    compare.
    """
    return seen.steps is not None and all(
        getattr(known, name) in (None, getattr(seen, name))
        for name in ("sha256", "steps", "state_dim", "action_dim", "timeouts")
    )


def looks_like(seen: Seen) -> str:
    """The published files, of any version, that have this hash; or else those whose steps,
    dimensions and flags are these.
    """
    files = _published()
    if same := [name for name, known in files.items() if known.sha256 == seen.sha256]:
        return f"; this is {' or '.join(same)}"
    shaped = {
        name: replace(known, sha256=seen.sha256) for name, known in files.items() if known.steps
    }
    alike = [name for name, known in shaped.items() if _fits(seen, known)]
    return f"; this has the counts of {' or '.join(alike)}" if alike else ""


def _published() -> dict[str, Seen]:
    """What is known of each published file: the rows of tasks.csv and the other versions that they
    name.
    """
    others = {r["name"]: r for r in read_csv(DATA / "known_files.csv", "name")}
    out = {}
    for row in tasks().values():
        dims = (row.state_dim if row.cuts else None, row.action_dim)
        if row.fidelity == "official":
            out[row.task] = Seen(
                row.sha256,
                row.transitions,
                *dims,
                True if row.cuts and asks_for_timeouts(row.cuts) else None,
            )
        for name, _, _ in (other.partition("=") for other in row.other_versions.split()):
            if name in others:
                r = others[name]
                out[name] = Seen(
                    r["sha256"],
                    int(r["steps"]) if r["steps"] else None,
                    row.state_dim,
                    row.action_dim,
                    {"yes": True, "no": False, "": None}[r["timeouts"]],
                )
    return out


def _at_hand(row: Task) -> str:
    """What lies where the file should be, if it can be recognised."""
    places = [folder / file_name(row) for folder in (cache_folder() / "downloads", local_folder())]
    texts = [(place, looks_like(look(place))) for place in places if place.is_file()]
    return "".join(f"\n{place}{text}." for place, text in texts if text)
