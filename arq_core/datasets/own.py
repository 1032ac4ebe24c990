"""Data of your own: a file or folder whose layout is found by looking inside, or arrays."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from arq_core.algorithm.types import DataError
from arq_core.datasets.boxes import Bounds, with_bounds
from arq_core.datasets.dataset import Dataset, boxed, fingerprint_of
from arq_core.datasets.readers.d4rl import read_d4rl, with_recorded
from arq_core.datasets.readers.hdf5 import opened
from arq_core.datasets.readers.minari import read_minari
from arq_core.datasets.readers.robomimic import read_robomimic

HDF5 = (".hdf5", ".h5")
# in front of an id of Minari's where a task's name could stand
MINARI = "minari:"
# a field at a file's root, and the layout that has it
SIGNS = {"observations": "d4rl", "data": "robomimic"}


def is_own(name: str) -> bool:
    """Whether a name is a file, a folder or an id of Minari's rather than the name of a task."""
    return name.startswith(MINARI) or Path(name).suffix in HDF5 or Path(name).is_dir()


def own_name(name: str) -> str:
    """What rows call data of your own: the name of the file or folder without its ending, or the id
    with - for what else it has.
    """
    if name.startswith(MINARI):
        return re.sub(r"[^A-Za-z0-9_+-]", "-", name.removeprefix(MINARI))
    return Path(name).stem


def layout_of(path: Path) -> str:
    """ "d4rl", "robomimic" or "minari", by what is inside."""
    if path.is_dir():
        return "minari"
    with opened(path, "D4RL's or robomimic's layout (of Minari give the folder)") as file:
        names = list(file)
    found = [layout for name, layout in SIGNS.items() if name in names]
    if len(found) == 1:
        return found[0]
    hint = (
        " It looks like Minari's main_data.hdf5: give the folder that holds `data`."
        if "episode_0" in names
        else ""
    )
    raise DataError(
        f"{path}: saw {', '.join(names[:8]) or 'nothing'} at its root, expected "
        f"either `observations` (D4RL's layout) or `data` (robomimic's).{hint}"
    )


def read_own(path: str | Path, bounds: Bounds = None) -> Dataset:
    """The transitions of a file in D4RL's or robomimic's layout, of a folder of Minari's, or of
    "minari:" and an id of its. `bounds` as for `from_arrays`.
    """
    return with_bounds(_read(path), bounds)


def _read(path: str | Path) -> Dataset:
    if str(path).startswith(MINARI):
        return read_minari(str(path).removeprefix(MINARI))
    path = Path(path)
    return {"d4rl": read_d4rl, "robomimic": read_robomimic, "minari": read_minari}[layout_of(path)](
        path
    )


def from_arrays(
    observations,
    actions,
    rewards,
    terminals,
    timeouts,
    next_observations=None,
    bounds: Bounds = None,
) -> Dataset:
    """Arrays with one row per step, in order of time: observations [M S], actions [M A], rewards,
    terminals, timeouts [M].

    `terminals`: the decision process ended at this step; `timeouts`: only the clock did. `bounds`
    is the box in which the actions were recorded, (low, high) with numbers or arrays [A], or
    "normalized" for actions in [-1, 1] that the simulator stretches to its own; without it that of
    the simulator decides (datasets.boxes). The few that lie outside are clipped, and counted in the
    notes. The hash is that of the transitions.
    """
    given = dict(
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminals=terminals,
        timeouts=timeouts,
    )
    if next_observations is not None:
        given["next_observations"] = next_observations
    arrays = {}
    for name, x in given.items():
        axes, flag = (
            (1 if name in ("rewards", "terminals", "timeouts") else 2),
            name in ("terminals", "timeouts"),
        )
        x = np.asarray(x)
        if (
            x.dtype.kind not in "fiub"
            or x.ndim != axes
            or len(x) != len(given["actions"])
            or not x.size
        ):
            raise DataError(
                f"{name}: saw {x.dtype} of shape {x.shape}, expected numbers with {axes} "
                f"axes and {len(given['actions']):,} rows, one per action."
            )
        arrays[name] = x.astype(np.float32)
        if not np.isfinite(arrays[name]).all():
            raise DataError(
                f"{name}: saw {int((~np.isfinite(arrays[name])).sum()):,} entries that are "
                "not finite, expected finite float32 numbers; drop or repair these rows."
            )
        if flag:
            if not np.isin(x, (0, 1)).all():
                raise DataError(
                    f"{name}: saw {x[~np.isin(x, (0, 1))][0]}, expected 0 or 1; write flags."
                )
            arrays[name] = x.astype(bool)
    arrays["actions"], clipped, recorded = boxed(arrays["actions"], "own")
    transitions, notes, recorded = with_recorded(recorded, **arrays)
    data = Dataset(
        transitions,
        fingerprint_of(transitions, recorded),
        "own",
        "arrays given in Python",
        (clipped, *notes),
        recorded=recorded,
    )
    return with_bounds(data, bounds)
