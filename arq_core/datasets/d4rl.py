"""Files in D4RL's HDF5 layout (Fu et al. 2020), a user's own included: flat arrays with one row per environment step."""
from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch

from arq_core.datasets import Dataset, clip_actions
from arq_core.datasets.fetch import sha256_of
from arq_core.types import DataError, Transitions

FIELDS = {"observations": 2, "actions": 2, "rewards": 1, "terminals": 1, "timeouts": 1}    # name: number of axes
OPTIONAL = {"next_observations": 2}


def read_d4rl(path: str | Path, expected_state_dim: int | None = None, expected_action_dim: int | None = None,
              fidelity: str = "own") -> Dataset:
    """The file as a `Dataset`: states and actions as float32, actions clipped to the box, episodes cut by its flags."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: saw no such file, expected an HDF5 file in D4RL's layout; give the path of one.")
    try:
        with h5py.File(path, "r") as file:
            arrays = _read(file, path, {"observations": expected_state_dim, "actions": expected_action_dim})
    except (OSError, KeyError, RuntimeError) as error:      # what h5py raises for damaged files
        raise DataError(f"{path}: saw {path.stat().st_size:,} bytes that cannot be read as HDF5 ({error}), expected a complete "
                        "file; copy or download it again.") from error
    arrays["actions"], clipped = clip_actions(arrays["actions"])
    transitions, notes = to_transitions(**arrays, source=str(path))
    return Dataset(transitions, sha256_of(path), fidelity, f"{path.name} (D4RL layout)", (clipped, *notes))


def _read(file, path, dims) -> dict[str, np.ndarray]:
    """All fields; each is converted to its final type while it is read, so no second copy is held."""
    names = _check_layout(file, path, dims)
    return {name: (_flags if name in ("terminals", "timeouts") else _numbers)(file[name], f"{path}: field {name!r}")
            for name in names}


def _check_layout(file, path, dims) -> list[str]:
    """Names of the fields to read, after a look at types, axes, lengths and dimensions (no data is read yet)."""
    missing = [name for name in FIELDS if name not in file]
    if missing:
        raise DataError(f"{path}: saw the fields {', '.join(file) or 'none'}, expected also {', '.join(missing)}; add them (one "
                        "row per step, false where nothing ended).")
    axes = FIELDS | {name: ndim for name, ndim in OPTIONAL.items() if name in file}
    for name, ndim in axes.items():
        field, shape = file[name], getattr(file[name], "shape", None) or ()
        if not isinstance(field, h5py.Dataset) or field.dtype.kind not in "fiub" or len(shape) != ndim or 0 in shape:
            raise DataError(f"{path}: field {name!r}: saw {getattr(field, 'dtype', 'a group')} of shape {shape}, expected "
                            f"numbers with {ndim} axes, one row per step and at least one step; convert it.")
    steps = len(file["actions"])
    dims = dims | {"next_observations": file["observations"].shape[1]}
    for name in axes:
        if len(file[name]) != steps:
            raise DataError(f"{path}: field {name!r}: saw {len(file[name]):,} rows, expected {steps:,}, as many as actions; make "
                            "all fields the same length.")
        if dims.get(name) not in (None, file[name].shape[-1]):
            raise DataError(f"{path}: field {name!r}: saw dimension {file[name].shape[-1]}, expected {dims[name]}; give a file "
                            "of this task.")
    return list(axes)


def _numbers(field, where) -> np.ndarray:
    x = np.empty(field.shape, np.float32)
    field.read_direct(x)
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        at = tuple(int(i) for i in np.unravel_index(bad[0], x.shape))
        raise DataError(f"{where}: saw {x[at]} at index {at} ({len(bad):,} such entries), expected finite float32 numbers; drop "
                        "or repair these rows.")
    return x


def _flags(field, where) -> np.ndarray:
    x = field[:]
    bad = np.flatnonzero((x != 0) & (x != 1))
    if len(bad):
        raise DataError(f"{where}: saw {x[bad[0]]} at index {bad[0]}, expected 0 or 1; write flags.")
    return x.astype(bool)


def to_transitions(observations, actions, rewards, terminals, timeouts, next_observations=None, source="arrays"):
    """Flat arrays [M ...] in order of time -> (Transitions, notes); each state is stored once, s' of m is s of m + 1.

    An episode ends at a terminal, at a time-out, where the arrays end, and where next_observations says that the next row does
    not follow. A terminal transition is kept. Any other last transition is dropped, as in the released code: its next action is
    unknown. At a terminal s' is next_observations' row; without that field it is s itself, since nothing is bootstrapped there.
    """
    m = len(actions)
    end = terminals | timeouts
    end[-1] = True
    jumps = np.zeros(m, bool)
    if next_observations is not None:
        jumps[:-1] = (next_observations[:-1] != observations[1:]).any(1) & ~end[:-1]
    keep = terminals | ~(end | jumps)
    if not keep.any():
        raise DataError(f"{source}: saw {m:,} steps, each the last of its episode, expected consecutive steps of episodes; store "
                        "the steps in order of time, with timeouts true only where an episode was cut.")
    state, after = np.arange(m), np.arange(1, m + 1)
    after[terminals] = state[terminals]
    if next_observations is not None:
        after[terminals] = m + np.arange(terminals.sum())
        observations = np.concatenate([observations, next_observations[terminals]])
    used = np.zeros(len(observations), bool)
    used[state[keep]] = used[after[keep]] = True
    row = np.cumsum(used) - 1
    states = observations if used.all() else observations[used]
    episode = np.concatenate([[0], np.cumsum((end | jumps)[:-1])])
    tensor = torch.from_numpy
    transitions = Transitions(
        states=tensor(states), state=tensor(row[state[keep]]), next_state=tensor(row[after[keep]]),
        actions=tensor(actions[keep]), rewards=tensor(rewards[keep]), terminals=tensor(terminals[keep]),
        episode=tensor(np.unique(episode[keep], return_inverse=True)[1]))
    notes = []
    if not keep.all():
        notes.append(f"dropped the last transition of {m - keep.sum():,} episodes that were cut, not ended: the next action is "
                     "unknown")
    if jumps.any():
        notes.append(f"next_observations differs from the following observation after {jumps.sum():,} of {m:,} steps (first: "
                     f"step {np.flatnonzero(jumps)[0]}): an episode was cut at each")
    if not (terminals[-1] or timeouts[-1]):
        notes.append("the last step is neither terminal nor time-out: its episode was cut there")
    return transitions, tuple(notes)
