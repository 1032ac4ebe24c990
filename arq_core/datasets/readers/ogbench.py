"""Files in OGBench's npz layout (Park et al. 2025; ogbench 1.2, utils.py), the package not needed.

    observations [R S], actions [R A], terminals [R]     one row a state, of trajectories in order
    qpos [R n], button_states [R b]                      what goals are judged by
    rewards [R], masks [R]                               only in files somebody relabelled

A trajectory of T steps has T + 1 rows: the last, the only one whose terminal is true, has no state
after it. So terminals say where a recording stops. Where the task is done, and nothing is to be
bootstrapped, masks are 0; a recording goes on behind that. Both files and goals are those of the
single tasks: without a task named, such data have no reward.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32

from arq_core.algorithm.types import DataError, Transitions
from arq_core.config.files import read_toml, sha256_of
from arq_core.config.paths import given
from arq_core.config.processes import memory
from arq_core.datasets.dataset import Dataset, boxed
from arq_core.datasets.readers.guards import HELD, MOST_INFLATED, SMALL
from arq_core.datasets.readers.hdf5 import by_argument, listed
from arq_core.datasets.readers.narrow import Rounding
from arq_core.datasets.readers.saved import read_header

LAYOUT = "OGBench's layout"
FIELDS = {"observations": 2, "actions": 2, "terminals": 1}  # name: number of axes
LABELS = ("rewards", "masks")  # of a file that was relabelled already
# how the publisher calls the file that is no training data
VALIDATION = "-val"
PIECE = 2**22  # bytes read at once
DAMAGED = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Part:
    """One condition of a goal: these columns of a field lie within a distance of the target."""

    field: str
    columns: tuple[int, ...]
    target: tuple[float, ...]
    within: float


Goal = tuple[Part, ...]


def goals() -> dict[str, Goal]:
    """The goals of `data/ogbench_goals.toml` by the single task's name."""
    # not at the top: other files are read where there are no settings
    from arq_core.config.paths import DATA

    return {
        name: tuple(
            Part(p["field"], tuple(p["columns"]), tuple(map(float, p["target"])), p["within"])
            for p in goal["parts"]
        )
        for name, goal in read_toml(DATA / "ogbench_goals.toml").items()
    }


def read_ogbench(path: str | Path, fidelity: str = "own", goal: str | None = None) -> Dataset:
    """The training file as a `Dataset` of one single task: rewards and terminals by its `goal`, a
    name of `data/ogbench_goals.toml`, or the file's own rewards and masks where it has them.

    The reward of a step is the number of the goal's conditions that its state s fulfils, minus all
    of them: 0 where the task is done, else below. Done steps are terminals, and the trajectory goes
    on behind them. Source: relabel_utils.py of ogbench 1.2. The row behind the last step of a
    trajectory gives its s' alone. Holds at most twice what the file's arrays take as float32.
    """
    path = given(path)
    chosen = None if goal is None else _goal(goal)
    _refuse_validation(path)
    with _opened(path) as archive:
        fields = _described(archive, path)
        rows = _check_layout(fields, path, chosen)
        notes: list[str] = []
        ends = _flags(fields["terminals"], rows)
        if chosen:
            rewards, done = _by_goal(fields, rows, chosen, path)
        else:
            rewards = _numbers(fields["rewards"], notes)
            done = ~_flags(fields["masks"], rows)
        observations = _numbers(fields["observations"], notes)
        actions, clipped, recorded = boxed(_numbers(fields["actions"], notes), fidelity)
    transitions, kept, said = _transitions(observations, actions, rewards, done, ends, path)
    task = f"single task {goal}" if goal else "rewards and masks of the file"
    return Dataset(
        transitions,
        sha256_of(path),
        fidelity,
        f"{path.name} (OGBench layout; {task})",
        (clipped, *said, *notes),
        recorded=None if recorded is None else torch.from_numpy(recorded[kept]),
    )


def _goal(name: str) -> Goal:
    # not at the top: as in `goals`
    from arq_core.config.settings import pick

    return pick("goal", name, goals())


def _refuse_validation(path: Path) -> None:
    if path.stem.endswith(VALIDATION):
        raise DataError(
            f"{path}: saw the validation file of a dataset, expected its training file, "
            f"{path.stem.removesuffix(VALIDATION)}{path.suffix}; give that one, or a copy of this "
            "under another name if you mean it."
        )


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, open for reading; whatever a damaged one raises becomes a DataError."""
    if not path.is_file():
        raise DataError(
            f"{path}: saw no such file, expected an npz file in {LAYOUT}; give the path of one."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(
            f"{path}: saw {path.stat().st_size:,} bytes that cannot be read as npz "
            f"({type(error).__name__}: {error}), expected a complete file in {LAYOUT}; copy or "
            "download it again."
        ) from error


@dataclass(frozen=True)
class Field:
    """An array of the archive, by its header: nothing of it is read yet."""

    archive: zipfile.ZipFile
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    where: str
    begin: int  # bytes of the header

    def pieces(self) -> Iterator[tuple[slice, np.ndarray]]:
        """(rows, their numbers), first to last: at most PIECE bytes, or one row, at once."""
        width = self.dtype.itemsize * math.prod(self.shape[1:])
        step = max(1, PIECE // max(1, width))
        with self.archive.open(self.member) as file:
            file.read(self.begin)
            for i in range(0, self.shape[0], step):
                rows = min(step, self.shape[0] - i)
                held = file.read(rows * width)
                if len(held) < rows * width:
                    raise DataError(
                        f"{self.where}: saw it end at row {i + len(held) // max(1, width):,} of "
                        f"{self.shape[0]:,}, expected all; copy or download the file again."
                    )
                x = np.frombuffer(held, self.dtype).reshape(rows, *self.shape[1:])
                yield slice(i, i + rows), x
            if file.read(1):
                raise DataError(
                    f"{self.where}: saw more bytes than its {self.shape[0]:,} rows have, expected "
                    "none; copy or download the file again."
                )


def _described(archive: zipfile.ZipFile, path: Path) -> dict[str, Field]:
    """The arrays of the archive by name, from their headers."""
    out = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        where = f"{path}: field {name!r}"
        with archive.open(info) as file:
            header = read_header(file, where)
        if header.by_columns and len(header.shape) > 1:
            raise DataError(
                f"{where}: saw an array stored column by column, expected row by row; write "
                "numpy.ascontiguousarray of it."
            )
        out[name] = Field(archive, info.filename, header.shape, header.dtype, where, header.begin)
    return out


def _check_layout(fields: dict[str, Field], path: Path, goal: Goal | None) -> int:
    """Refuses missing and unfit fields; the number of rows."""
    wanted = dict(FIELDS)
    if goal:
        wanted |= {part.field: 2 for part in goal}
    missing = [name for name in wanted if name not in fields]
    if missing:
        raise DataError(
            f"{path}: saw the fields {listed(fields)}, expected also {', '.join(missing)}; give a "
            "training file of OGBench"
            + (", or one whose goal can be judged" if set(missing) - set(FIELDS) else "")
            + "."
        )
    if not goal:
        if any(name not in fields for name in LABELS):
            raise DataError(
                f"{path}: saw no rewards and masks, as in OGBench's files, which serve any goal; "
                "expected the name of a single task, such as "
                f"{next(iter(goals()))}; choose one of data/ogbench_goals.toml: "
                f"{by_argument(f'goal={next(iter(goals()))!r}')}."
            )
        wanted |= dict.fromkeys(LABELS, 1)
    rows = (fields["observations"].shape or (0,))[0]
    for name, ndim in wanted.items():
        field = fields[name]
        if field.dtype.kind not in "fiub" or len(field.shape) != ndim or 0 in field.shape:
            raise DataError(
                f"{field.where}: saw {field.dtype} of shape {field.shape}, expected numbers with "
                f"{ndim} axes and at least one row; pictures and discrete actions are not read."
            )
        if field.shape[0] != rows:
            raise DataError(
                f"{field.where}: saw {field.shape[0]:,} rows, expected {rows:,}, as many as "
                "observations; copy or download the file again."
            )
    for part in goal or ():
        width = fields[part.field].shape[1]
        if max(part.columns) >= width:
            raise DataError(
                f"{fields[part.field].where}: saw {width} columns, expected more than "
                f"{max(part.columns)}, where this goal looks; name a goal of this file's "
                "environment."
            )
    asked = sum(4 * math.prod(fields[name].shape) for name in ("observations", "actions"))
    most = MOST_INFLATED * path.stat().st_size + SMALL
    if HELD * asked > max(memory(), most):
        raise DataError(
            f"{path}: saw fields of {asked:,} bytes as float32, of which a reader holds up to "
            f"{HELD} copies, expected what fits into this machine's {memory():,} bytes; write a "
            "file of fewer rows, or use a machine with more memory."
        )
    return rows


def _numbers(field: Field, notes: list[str]) -> np.ndarray:
    """The field as finite float32, of its own shape."""
    out, rounding = None, Rounding(field.where)
    for rows, wide in field.pieces():
        # after the first bytes came: a header may claim anything
        out = np.empty(field.shape, np.float32) if out is None else out
        with np.errstate(over="ignore", invalid="ignore"):
            out[rows] = wide
        rounding.add(wide, out[rows])
        bad = ~np.isfinite(out[rows])
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise DataError(
                f"{field.where}: saw {wide[at]} in row {rows.start + at[0]:,} ({int(bad.sum()):,} "
                "such entries near it), expected finite float32 numbers; drop or repair these "
                "rows."
            )
    assert out is not None  # no field without a row comes here
    notes += rounding.notes()
    return out


def _flags(field: Field, rows: int) -> np.ndarray:
    out = np.zeros(rows, bool)
    for at, x in field.pieces():
        if (bad := (x != 0) & (x != 1)).any():
            i = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{field.where}: saw {x[i]} at index {at.start + i}, expected 0 or 1; write flags."
            )
        out[at] = x != 0
    return out


def _by_goal(
    fields: dict[str, Field], rows: int, goal: Goal, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """(rewards, done) of each row, by `judged` on pieces of the fields that the goal looks at."""
    fulfilled = np.zeros(rows, np.int32)
    for name in dict.fromkeys(part.field for part in goal):
        own = tuple(part for part in goal if part.field == name)
        for at, x in fields[name].pieces():
            looked_at = x[:, sorted({c for part in own for c in part.columns})]
            if not np.isfinite(looked_at).all():
                raise DataError(
                    f"{fields[name].where}: saw entries that are not finite in rows {at.start:,} "
                    f"to {at.stop - 1:,} where the goal looks, expected numbers; drop or repair "
                    "these rows."
                )
            fulfilled[at] += judged(x, own)
    return (fulfilled - len(goal)).astype(np.float32), fulfilled == len(goal)


def judged(x: np.ndarray, parts: Sequence[Part]) -> np.ndarray:
    """How many of the conditions each row of a field [R n] fulfils: the distance of the chosen
    columns to the target is at most `within` (relabel_utils.py, relabel_dataset) [R].
    """
    out = np.zeros(len(x), np.int32)
    for part in parts:
        apart = x[:, list(part.columns)].astype(np.float64) - np.asarray(part.target)
        out += np.linalg.norm(apart, axis=-1) <= part.within
    return out


def _transitions(
    observations: Float32[np.ndarray, "R S"],
    actions: Float32[np.ndarray, "R A"],
    rewards: Float32[np.ndarray, " R"],
    done: Bool[np.ndarray, " R"],
    ends: Bool[np.ndarray, " R"],
    path: Path,
) -> tuple[Transitions, np.ndarray, list[str]]:
    """(transitions, their rows, notes): the rows but the last of each trajectory, as the regular
    dataset of load_dataset in utils.py has them; every row is a state.
    """
    last = ends.copy()
    last[-1] = True
    first = np.concatenate([[True], last[:-1]])
    notes = []
    alone = int((first & last).sum())
    if alone:
        notes.append(f"{alone:,} trajectories have one row, and with it no step: left out")
    if not ends[-1]:
        notes.append("the last row ends no trajectory: it was cut there")
    kept = np.flatnonzero(~last)
    if not len(kept):
        raise DataError(
            f"{path}: saw {len(ends):,} rows, each the last of its trajectory, expected steps; "
            "terminals are true in the last row of a trajectory alone."
        )
    terminals = done[kept]
    # an episode ends with its trajectory, and where the task is done: behind it begins another
    begins = np.ones(len(kept), bool)
    begins[1:] = first[kept[1:]] | terminals[:-1] | (np.diff(kept) > 1)
    notes.append(
        f"{int(terminals.sum()):,} of {len(kept):,} steps begin where the task is done: each is a "
        "terminal, and the trajectory goes on behind it"
    )
    used = ~(first & last)
    number = np.cumsum(used) - 1
    transitions = Transitions(
        states=torch.from_numpy(observations if used.all() else observations[used]),
        state=torch.from_numpy(number[kept]),
        next_state=torch.from_numpy(number[kept + 1]),
        actions=torch.from_numpy(actions[kept]),
        rewards=torch.from_numpy(rewards[kept]),
        terminals=torch.from_numpy(terminals),
        episode=torch.from_numpy(np.cumsum(begins) - 1),
    )
    return transitions, kept, notes
