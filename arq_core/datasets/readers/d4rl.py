"""Files in D4RL's HDF5 layout (Fu et al. 2020), of versions 0, 1 and 2 and a user's own: flat
arrays with one row per environment step.

What else such a file holds (infos, metadata of the policy that collected it) is not read.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch

from arq_core.algorithm.types import DataError, Transitions
from arq_core.config.files import sha256_of
from arq_core.config.paths import given
from arq_core.datasets.dataset import Dataset, boxed
from arq_core.datasets.readers.cuts import apply, asks_for_timeouts
from arq_core.datasets.readers.guards import check_field
from arq_core.datasets.readers.hdf5 import by_argument, listed, opened
from arq_core.datasets.readers.narrow import Rounding

# name: number of axes
FIELDS = {"observations": 2, "actions": 2, "rewards": 1, "terminals": 1, "timeouts": 1}
OPTIONAL = {"next_observations": 2}
PIECE = 2**16  # rows moved at once where an array is packed into itself


def read_d4rl(
    path: str | Path,
    expected_state_dim: int | None = None,
    expected_action_dim: int | None = None,
    fidelity: str = "own",
    cuts: str = "timeouts",
) -> Dataset:
    """The file as a `Dataset`: states and actions as float32, actions clipped to the box, episodes
    ended by the rule `cuts` (datasets.readers.cuts).

    Holds at most twice what the file's arrays take.
    """
    path = given(path)
    with opened(path, "D4RL's layout") as file:
        arrays, rounded = _read(
            file,
            path,
            {"observations": expected_state_dim, "actions": expected_action_dim},
            asks_for_timeouts(cuts),
        )
    arrays["actions"], clipped, recorded = boxed(arrays["actions"], fidelity)
    transitions, notes, recorded = with_recorded(
        recorded, **arrays, source=str(path), cuts=cuts, overwrite=True
    )
    return Dataset(
        transitions,
        sha256_of(path),
        fidelity,
        f"{path.name} (D4RL layout)",
        (clipped, *notes, *rounded),
        recorded=recorded,
    )


def _read(file, path, dims, with_timeouts) -> tuple[dict[str, np.ndarray], list[str]]:
    """All fields, and what float32 loses of them; each is converted to its final type while it is
    read, so no second copy is held.
    """
    names, notes = _check_layout(file, path, dims, with_timeouts), []
    arrays = {
        name: (_flags if name in ("terminals", "timeouts") else _numbers)(
            file[name], f"{path}: field {name!r}", (FIELDS | OPTIONAL)[name], notes
        )
        for name in names
    }
    return arrays, notes


def _check_layout(file, path, dims, with_timeouts) -> list[str]:
    """Names of the fields to read, after a look at types, axes, lengths, dimensions and how it is
    stored (no data is read yet).
    """
    axes = {name: ndim for name, ndim in FIELDS.items() if with_timeouts or name != "timeouts"}
    missing = [name for name in axes if name not in file]
    if missing:
        raise DataError(
            f"{path}: saw the fields {listed(file)}, expected also "
            f"{', '.join(missing)}; add them (one row per step, false where nothing "
            "ended)"
            + (
                ", or give a rule without timeouts, such as cuts='lengths:1000': "
                + by_argument("cuts='lengths:1000'")
                if missing == ["timeouts"]
                else ""
            )
            + "."
        )
    axes |= {name: ndim for name, ndim in OPTIONAL.items() if name in file}
    for name, ndim in axes.items():
        field, shape = file[name], getattr(file[name], "shape", None) or ()
        # rewards of the replay files; the terminals of some
        column = ndim == 1 and shape[1:] == (1,)
        if (
            not isinstance(field, h5py.Dataset)
            or field.dtype.kind not in "fiub"
            or len(shape) - column != ndim
            or 0 in shape
        ):
            raise DataError(
                f"{path}: field {name!r}: saw {getattr(field, 'dtype', 'a group')} of shape "
                f"{shape}, expected numbers with {ndim} axes, one row per step and at least "
                "one step; convert it."
            )
    steps = len(file["actions"])
    dims = dims | {"next_observations": file["observations"].shape[1]}
    for name in axes:
        if len(file[name]) != steps:
            raise DataError(
                f"{path}: field {name!r}: saw {len(file[name]):,} rows, expected {steps:,}, "
                "as many as actions; make all fields the same length."
            )
        if dims.get(name) not in (None, file[name].shape[-1]):
            raise DataError(
                f"{path}: field {name!r}: saw dimension {file[name].shape[-1]}, expected "
                f"{dims[name]}; give a file of this task."
            )
    for name in axes:
        check_field(file[name], f"{path}: field {name!r}")
    return list(axes)


def _numbers(field, where, ndim, notes) -> np.ndarray:
    x = np.empty(field.shape, np.float32)
    rounding = Rounding(where)
    if np.can_cast(field.dtype, np.float32, "safe"):
        field.read_direct(x)
    else:
        # whole chunks, so that none is inflated twice
        chunk = field.chunks[0] if field.chunks else 1
        rows = chunk * max(1, PIECE // chunk)
        for i in range(0, len(x), rows):
            wide = field[i : i + rows]
            with np.errstate(over="ignore", invalid="ignore"):
                x[i : i + rows] = wide
            rounding.add(wide, x[i : i + rows])
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        at = tuple(int(i) for i in np.unravel_index(bad[0], x.shape))
        raise DataError(
            f"{where}: saw {x[at]} at index {at} ({len(bad):,} such entries), expected "
            "finite float32 numbers; drop or repair these rows."
        )
    x = x.reshape(x.shape[:ndim])
    notes += rounding.notes()
    return x


def _flags(field, where, ndim, notes) -> np.ndarray:
    x = field[:].reshape(-1)
    bad = np.flatnonzero((x != 0) & (x != 1))
    if len(bad):
        raise DataError(
            f"{where}: saw {x[bad[0]]} at index {bad[0]}, expected 0 or 1; write flags."
        )
    return x.astype(bool)


def to_transitions(
    observations,
    actions,
    rewards,
    terminals,
    timeouts=None,
    next_observations=None,
    source="arrays",
    cuts="timeouts",
    overwrite=False,
):
    """Flat arrays [M ...] in order of time -> (Transitions, notes); each state is stored once, s'
    of m is s of m + 1.

    Episodes end by the rule `cuts` (datasets.readers.cuts), where the arrays end, and where
    next_observations says that the next row does not follow. A terminal transition is kept. Any
    other last transition is dropped, as in the released code: its next action is unknown. At a
    terminal s' is next_observations' row; without that field it is s itself, since nothing is
    bootstrapped there. `overwrite`: the arrays are not needed any more and may be used as memory.
    """
    transitions, notes, _ = with_recorded(
        None,
        observations,
        actions,
        rewards,
        terminals,
        timeouts,
        next_observations,
        source,
        cuts,
        overwrite,
    )
    return transitions, notes


def with_recorded(
    recorded,
    observations,
    actions,
    rewards,
    terminals,
    timeouts=None,
    next_observations=None,
    source="arrays",
    cuts="timeouts",
    overwrite=False,
):
    """As `to_transitions`, and of the actions as recorded [M A], before they were clipped or
    scaled, those of the transitions (None for None).
    """
    m = len(actions)
    terminals, timeouts, notes = apply(cuts, terminals, timeouts, source)
    end = terminals | timeouts
    end[-1] = True
    jumps = np.zeros(m, bool)
    if next_observations is not None:
        jumps[:-1] = ~end[:-1]
        jumps[:-1] &= (next_observations[:-1] != observations[1:]).any(1)
    unfinished = not (terminals[-1] or timeouts[-1])
    end |= jumps
    keep = terminals | ~end
    if not keep.any():
        raise DataError(
            f"{source}: saw {m:,} steps, each the last of its episode, expected "
            "consecutive steps of episodes; store the steps in order of time, with "
            "timeouts true only where an episode was cut."
        )
    notes += _notes(m, end, keep, jumps, unfinished)
    kept = np.flatnonzero(keep)
    before = None if recorded is None else torch.from_numpy(recorded[kept])
    ended = terminals[kept]
    after = kept + 1
    after[ended] = kept[ended]
    if next_observations is not None:
        after[ended] = m + np.arange(ended.sum())
        observations = np.concatenate([observations, next_observations[terminals]])
    arrays = {
        "actions": _pack(actions, kept, overwrite),
        "rewards": _pack(rewards, kept, overwrite),
        "terminals": ended,
        "episode": _numbered(end, kept),
    }
    arrays |= dict(
        zip(
            ("states", "state", "next_state"),
            _used(observations, kept, after, overwrite),
            strict=True,
        )
    )
    transitions = Transitions(**{name: torch.from_numpy(x) for name, x in arrays.items()})
    return transitions, tuple(notes), before


def _used(observations, state, after, overwrite):
    """The observations that a transition begins or ends with, and its rows among them (in the
    memory of `state` and `after`).
    """
    used = np.zeros(len(observations), bool)
    used[state] = used[after] = True
    if used.all():
        return observations, state, after
    row = np.cumsum(used, dtype=np.int32) - np.int32(1)
    for rows in (state, after):
        for i in range(0, len(rows), PIECE):
            rows[i : i + PIECE] = row[rows[i : i + PIECE]]
    return _pack(observations, np.flatnonzero(used), overwrite), state, after


def _pack(x: np.ndarray, rows: np.ndarray, overwrite: bool) -> np.ndarray:
    """x[rows] for rising rows; with `overwrite` piece by piece into x itself, so that no second
    array is held.
    """
    if len(rows) == len(x):
        return x
    if not overwrite:
        return x[rows]
    for i in range(0, len(rows), PIECE):
        piece = rows[i : i + PIECE]
        x[i : i + len(piece)] = x[piece]
    return x[: len(rows)]


def _numbered(end: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Episode of each kept row, counted from 0 without gaps [n]."""
    number = np.zeros(len(end), np.int32)
    np.cumsum(end[:-1], out=number[1:])
    number = number[kept]
    out = np.zeros(len(kept), np.int64)
    np.cumsum(number[1:] != number[:-1], out=out[1:])
    return out


def _notes(m, end, keep, jumps, unfinished) -> list[str]:
    """What was done to the rows, one sentence each, with counts."""
    notes = []
    if not keep.all():
        alone = int((~keep[1:] & end[:-1]).sum() + (not keep[0]))
        notes.append(
            f"dropped the last transition of {m - keep.sum():,} episodes that were cut, "
            "not ended: the next action is unknown"
            + (f" ({alone:,} of them had no other step)" if alone else "")
        )
    if jumps.any():
        notes.append(
            "next_observations differs from the following observation after "
            f"{jumps.sum():,} of {m:,} steps (first: step {np.flatnonzero(jumps)[0]}): "
            "an episode was cut at each"
        )
    if unfinished:
        notes.append("the last step is neither terminal nor time-out: its episode was cut there")
    return notes
