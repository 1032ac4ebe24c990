"""Data of your own: a file or folder whose layout is found by looking inside, or arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path

from arq_core.algorithm.types import DataError
from arq_core.datasets.dataset import Dataset, clip_actions
from arq_core.datasets.readers.arrays import checked
from arq_core.datasets.readers.d4rl import read_d4rl, to_transitions
from arq_core.datasets.readers.hdf5 import listed, opened
from arq_core.datasets.readers.minari import read_minari
from arq_core.datasets.readers.robomimic import read_robomimic

HDF5 = (".hdf5", ".h5")
# in front of an id of Minari's where a task's name could stand
MINARI = "minari:"
# a field at a file's root, and the layout that has it
SIGNS = {"observations": "d4rl", "data": "robomimic"}
NAMES = dict(d4rl="D4RL's", robomimic="robomimic's", minari="Minari's")


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
    success_only: bool | None = None,
) -> Dataset:
    """The transitions of a file in D4RL's or robomimic's layout, of a folder of Minari's, or of
    "minari:" and an id of its.

    What can be chosen is that of the layout's reader: `cuts` of D4RL's (datasets.readers.cuts),
    `filter_key`, `horizon` and `success_only` of robomimic's, `observation_keys` of robomimic's and
    Minari's; None is what the reader does by itself. With a choice the hash is that of the
    transitions, since the same file holds other data too.
    """
    choices = dict(
        cuts=cuts,
        filter_key=filter_key,
        observation_keys=[observation_keys]
        if isinstance(observation_keys, str)
        else observation_keys,
        horizon=horizon,
        success_only=success_only,
    )
    if str(path).startswith(MINARI):
        return _chosen("minari", str(path).removeprefix(MINARI), choices)
    return _chosen(layout_of(Path(path)), Path(path), choices)


def _chosen(layout: str, where: str | Path, choices: dict) -> Dataset:
    """What the layout's reader makes of it, with those of the choices that are not None."""
    read = dict(d4rl=read_d4rl, robomimic=read_robomimic, minari=read_minari)[layout]
    made = {name: value for name, value in choices.items() if value is not None}
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
    return replace(data, sha256=data.transitions.fingerprint(), notes=(*data.notes, said))


def from_arrays(
    observations, actions, rewards, terminals, timeouts, next_observations=None
) -> Dataset:
    """Arrays with one row per step, in order of time: observations [M S], actions [M A] in [-1, 1],
    rewards, terminals, timeouts [M].

    `terminals`: the decision process ended at this step; `timeouts`: only the clock did. Actions
    outside of the box are clipped, and counted in the notes. The hash is that of the transitions.
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
    arrays, rounded = checked(given)
    arrays["actions"], clipped = clip_actions(arrays["actions"])
    transitions, notes = to_transitions(**arrays)
    return Dataset(
        transitions,
        transitions.fingerprint(),
        "own",
        "arrays given in Python",
        (clipped, *notes, *rounded),
    )
