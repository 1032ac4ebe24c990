"""Data of your own: a file or folder whose layout is found by looking inside, or arrays."""

from __future__ import annotations

import os
import re
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from arq_core.algorithm.types import DataError
from arq_core.config.paths import given
from arq_core.datasets.boxes import Bounds, with_bounds
from arq_core.datasets.dataset import Dataset, boxed, fingerprint_of
from arq_core.datasets.readers.arrays import checked
from arq_core.datasets.readers.d4rl import read_d4rl, with_recorded
from arq_core.datasets.readers.hdf5 import listed, opened
from arq_core.datasets.readers.minari import read_minari
from arq_core.datasets.readers.ogbench import read_ogbench
from arq_core.datasets.readers.robomimic import read_robomimic
from arq_core.datasets.readers.saved import is_saved

# endings that HDF5 files have, in any case; a name with one is a file's, whether it exists or not
HDF5 = (".hdf5", ".hdf", ".h5", ".hd5", ".he5", ".h5py")
# and OGBench's
NPZ = ".npz"
# in front of an id of Minari's where a task's name could stand
MINARI = "minari:"
# a field at a file's root, and the layout that has it
SIGNS = {"observations": "d4rl", "data": "robomimic"}
# what a choice of read_own can be, in words and as a test
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = dict(
    cuts=("a rule in words, such as 'lengths:1000'", lambda x: isinstance(x, str)),
    filter_key=("the name of a filter key", lambda x: isinstance(x, str)),
    observation_keys=("names of parts", lambda x: all(isinstance(key, str) for key in x)),
    horizon=(
        "an integer of steps, at least 1",
        lambda x: isinstance(x, int | np.integer) and not isinstance(x, bool) and x >= 1,
    ),
    goal=("the name of a single task of OGBench", lambda x: isinstance(x, str)),
    success_only=("True or False", lambda x: isinstance(x, bool | np.bool_) or x in (0, 1)),
)
NAMES = dict(d4rl="D4RL's", robomimic="robomimic's", minari="Minari's", ogbench="OGBench's")


# hexadecimal digits of a dataset's hash in the name of its rows, and letters before them
DIGITS, LETTERS = 8, 60


def is_own(name: str | Path) -> bool:
    """Whether a name that is no task's is a path, or an id of Minari's with MINARI before it.

    What exists is a path; what does not is one where it is written as one: with a separator, ~ or $
    in front, or an ending of HDF5 or npz.
    """
    text = str(name)
    if text.startswith(MINARI):
        return True
    path = given(text)
    written = text.startswith(("~", "$")) or any(s in text for s in (os.sep, os.altsep) if s)
    return bool(text) and (
        isinstance(name, Path)
        or written
        or path.suffix.lower() in (*HDF5, NPZ)
        or os.path.exists(path)
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


def row_name(title: str, dataset: Dataset, *tried: str) -> str:
    """What rows of data of your own are called: their name, the first DIGITS of their hash, and
    what they were tried with (whose hyperparameters, which simulator; "" is left out).

    So a copy in another folder has the same rows, and other data never: not two files of one name,
    nor what `from_arrays` made twice; nor has one file the same in two simulators.
    """
    named = f"{plain_name(dataset.name or title)}-{dataset.sha256[:DIGITS]}"
    return "-".join([named, *(plain_name(what) for what in tried if what)])


def no_such_path(path: str | Path) -> str:
    """What is said of a path where nothing is."""
    text = str(path)
    looks = re.search(rf"([\w-]+{re.escape(os.sep)})*[\w-]+-v\d+$", text, re.ASCII)
    hint = " For a dataset of Minari's by its id write minari: before the id." if looks else ""
    return (
        f"{text}: saw no such file or folder, expected an HDF5 file in D4RL's or robomimic's "
        f"layout, an npz file in OGBench's, or a folder of Minari's; correct the path.{hint}"
    )


def layout_of(path: Path) -> str:
    """ "d4rl", "robomimic", "minari" or "ogbench", by what is inside."""
    if path.is_dir():
        return "minari"
    if path.suffix.lower() == NPZ or path.is_file() and zipfile.is_zipfile(path):
        return "ogbench"
    if is_saved(path):
        raise DataError(
            f"{path}: saw a single array that numpy.save wrote, expected a whole dataset; load the "
            "arrays in Python and give them to arq_core.from_arrays."
        )
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
        f"{path}: saw {listed(names, 8) if names else 'nothing'} at its root, expected "
        f"either `observations` (D4RL's layout) or `data` (robomimic's).{hint}"
    )


def read_own(
    path: str | Path,
    *,
    cuts: str | None = None,
    filter_key: str | None = None,
    observation_keys: Sequence[str] | None = None,
    horizon: int | None = None,
    goal: str | None = None,
    success_only: bool | None = None,
    bounds: Bounds = None,
) -> Dataset:
    """The transitions of a file in D4RL's, robomimic's or OGBench's layout, of a folder of
    Minari's, or of "minari:" and an id of its.

    What can be chosen is that of the layout's reader: `cuts` of D4RL's (datasets.readers.cuts),
    `filter_key`, `horizon` and `success_only` of robomimic's, `observation_keys` of robomimic's and
    Minari's, `goal` of OGBench's (a name of `data/ogbench_goals.toml`); None is what the reader
    does by itself. With a choice the hash is that of the transitions, since the same file holds
    other data too. `bounds` as for `from_arrays`.
    """
    if isinstance(observation_keys, str):
        observation_keys = [observation_keys]
    choices = dict(
        cuts=cuts,
        filter_key=filter_key,
        observation_keys=observation_keys and list(observation_keys),
        horizon=horizon,
        goal=goal,
        success_only=success_only,
    )
    if str(path).startswith(MINARI):
        data = _chosen("minari", str(path).removeprefix(MINARI), choices)
    else:
        if not os.path.exists(path := given(path)):
            raise DataError(no_such_path(path))
        data = _chosen(layout_of(path), path, choices)
        data = replace(data, name=data.name or own_name(str(path)))
    return with_bounds(data, bounds)


def _chosen(layout: str, where: str | Path, choices: dict) -> Dataset:
    """What the layout's reader makes of it, with those of the choices that are not None."""
    read = dict(d4rl=read_d4rl, robomimic=read_robomimic, minari=read_minari, ogbench=read_ogbench)[
        layout
    ]
    made = {name: value for name, value in choices.items() if value is not None}
    for name, value in made.items():
        kind, fits = KINDS[name]
        if not fits(value):
            raise DataError(f"{name}: saw {value!r}, expected {kind}; give that, or leave it out.")
    known = [name for name in choices if name in signature(read).parameters]
    if unfit := [name for name in made if name not in known]:
        raise DataError(
            f"{where}: {unfit[0]}: saw {made[unfit[0]]!r} for data in {NAMES[layout]} layout, "
            f"expected only {' and '.join(known)} to be chosen; leave it out."
        )
    data = read(where, **made)
    if not made:
        return data
    said = "read with " + ", ".join(f"{name}={value!r}" for name, value in made.items())
    return replace(
        data, sha256=fingerprint_of(data.transitions, data.recorded), notes=(*data.notes, said)
    )


def from_arrays(
    observations,
    actions,
    rewards,
    terminals,
    timeouts,
    next_observations=None,
    bounds: Bounds = None,
    *,
    name: str = "",
) -> Dataset:
    """Arrays with one row per step, in order of time: observations [M S], actions [M A], rewards,
    terminals, timeouts [M].

    `terminals`: the decision process ended at this step; `timeouts`: only the clock did. `bounds`
    is the box in which the actions were recorded, (low, high) with numbers or arrays [A], or
    "normalized" for actions in [-1, 1] that the simulator stretches to its own; without it that of
    the simulator decides (datasets.boxes). The few that lie outside are clipped, and counted in the
    notes. The hash is that of the transitions. `name` is what rows call the data, before the
    beginning of that hash.
    """
    if not isinstance(name, str):
        raise DataError(f"name: saw {name!r}, expected a text, or '' for none; write it in quotes.")
    arrays = dict(
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminals=terminals,
        timeouts=timeouts,
    )
    if next_observations is not None:
        arrays["next_observations"] = next_observations
    arrays, rounded = checked(arrays)
    arrays["actions"], clipped, recorded = boxed(arrays["actions"], "own")
    transitions, notes, recorded = with_recorded(recorded, **arrays)
    data = Dataset(
        transitions,
        fingerprint_of(transitions, recorded),
        "own",
        "arrays given in Python",
        (clipped, *notes, *rounded),
        name=name,
        recorded=recorded,
    )
    return with_bounds(data, bounds)
