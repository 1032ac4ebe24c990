"""Data of your own: a file or folder whose layout is found by looking inside, or arrays."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np

from arq_core.algorithm.types import DataError
from arq_core.config.paths import given
from arq_core.datasets.dataset import Dataset, clip_actions
from arq_core.datasets.readers.d4rl import read_d4rl, to_transitions
from arq_core.datasets.readers.hdf5 import opened
from arq_core.datasets.readers.minari import read_minari
from arq_core.datasets.readers.robomimic import read_robomimic

# endings that HDF5 files have, in any case; a name with one is a file's, whether it exists or not
HDF5 = (".hdf5", ".hdf", ".h5", ".hd5", ".he5", ".h5py")
# in front of an id of Minari's where a task's name could stand
MINARI = "minari:"
# a field at a file's root, and the layout that has it
SIGNS = {"observations": "d4rl", "data": "robomimic"}


# hexadecimal digits of a dataset's hash in the name of its rows, and letters before them
DIGITS, LETTERS = 8, 60


def is_own(name: str | Path) -> bool:
    """Whether a name that is no task's is a path, or an id of Minari's with MINARI before it.

    What exists is a path; what does not is one where it is written as one: with a separator, ~ or $
    in front, or an ending of HDF5.
    """
    text = str(name)
    if text.startswith(MINARI):
        return True
    path = given(text)
    written = text.startswith(("~", "$")) or any(s in text for s in (os.sep, os.altsep) if s)
    return bool(text) and (
        isinstance(name, Path) or written or path.suffix.lower() in HDF5 or os.path.exists(path)
    )


def own_name(name: str) -> str:
    """What data of your own are called: a file by its name without the ending, a folder by its
    name, an id with - for what else it has.
    """
    if name.startswith(MINARI):
        return plain_name(name.removeprefix(MINARI))
    path = given(name).absolute()
    if os.path.isdir(path) and path.name == "data":  # Minari's folder of a dataset has no other
        path = path.parent
    return plain_name(path.name if os.path.isdir(path) else path.stem)


def plain_name(name: str) -> str:
    """Letters, digits, _, + and - alone, as the names of rows and files have them; accents are
    dropped.
    """
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_+]+", "-", ascii_only)[:LETTERS].strip("-") or "own-data"


def row_name(title: str, dataset: Dataset) -> str:
    """What rows of data of your own are called: their name and the first DIGITS of their hash.

    So a copy in another folder has the same rows, and other data never: not two files of one name,
    nor what `from_arrays` made twice.
    """
    return f"{plain_name(dataset.name or title)}-{dataset.sha256[:DIGITS]}"


def no_such_path(path: str | Path) -> str:
    """What is said of a path where nothing is."""
    text = str(path)
    looks = re.search(rf"([\w-]+{re.escape(os.sep)})*[\w-]+-v\d+$", text, re.ASCII)
    hint = " For a dataset of Minari's by its id write minari: before the id." if looks else ""
    return (
        f"{text}: saw no such file or folder, expected an HDF5 file in D4RL's or robomimic's "
        f"layout, or a folder of Minari's; correct the path.{hint}"
    )


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


def read_own(path: str | Path) -> Dataset:
    """The transitions of a file in D4RL's or robomimic's layout, of a folder of Minari's, or of
    "minari:" and an id of its.
    """
    if str(path).startswith(MINARI):
        return read_minari(str(path).removeprefix(MINARI))
    if not os.path.exists(path := given(path)):
        raise DataError(no_such_path(path))
    read = {"d4rl": read_d4rl, "robomimic": read_robomimic, "minari": read_minari}
    dataset = read[layout_of(path)](path)
    return replace(dataset, name=dataset.name or own_name(str(path)))


def from_arrays(
    observations, actions, rewards, terminals, timeouts, next_observations=None, *, name: str = ""
) -> Dataset:
    """Arrays with one row per step, in order of time: observations [M S], actions [M A] in [-1, 1],
    rewards, terminals, timeouts [M].

    `terminals`: the decision process ended at this step; `timeouts`: only the clock did. Actions
    outside of the box are clipped, and counted in the notes. The hash is that of the transitions.
    `name` is what rows call the data, before the beginning of that hash.
    """
    called = name
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
    arrays["actions"], clipped = clip_actions(arrays["actions"])
    transitions, notes = to_transitions(**arrays)
    return Dataset(
        transitions,
        transitions.fingerprint(),
        "own",
        "arrays given in Python",
        (clipped, *notes),
        called,
    )
