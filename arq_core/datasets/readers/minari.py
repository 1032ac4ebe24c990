"""Minari's datasets (Younis et al. 2024; storage of Minari 0.5), read from their HDF5 files; the
library is needed only to download.

    metadata.json           data_format, observation_space, action_space (JSON in JSON),
        total_episodes, total_steps, dataset_id
    main_data.hdf5
      episode_0             observations [T+1 ...] (a group where the space is a Dict), actions [T
          ...], rewards [T], terminations [T],
                            truncations [T]
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from arq_core.algorithm.types import DataError
from arq_core.config import paths
from arq_core.config.files import sha256_of
from arq_core.datasets.boxes import Box, box_of, scaled_note, to_unit, unit
from arq_core.datasets.dataset import Dataset, boxed, clip_actions
from arq_core.datasets.fetch import FetchError
from arq_core.datasets.readers.d4rl import with_recorded
from arq_core.datasets.readers.guards import READING
from arq_core.datasets.readers.hdf5 import (
    by_argument,
    flags,
    group,
    joined,
    listed,
    numbers,
    opened,
    printable,
)
from arq_core.envs import layout as layouts
from arq_core.envs.layout import Layout

LAYOUT = "Minari's layout"
METADATA, NUMBERS = "metadata.json", "main_data.hdf5"  # the files of a dataset
# of gymnasium-robotics' goal environments, in the order joined here
GOAL_KEYS = ("achieved_goal", "observation", "desired_goal")
# bytes; spaces list every bound, a large one takes kilobytes
MOST_METADATA = 1 << 24
# numbers per step; more is no vector
MOST_WIDTH = 1 << 20


def read_minari(
    id_or_path: str | Path, fidelity: str = "own", observation_keys: Sequence[str] | None = None
) -> Dataset:
    """A Minari dataset as a `Dataset`: from its folder, or by its id ("D4RL/door/human-v2") from
    Minari's own folder, else by download.

    A termination is a terminal, a truncation a cut: the last transition before a cut is dropped,
    since its next action is unknown. Of a Dict observation the parts are joined in the order of
    observation_keys, by default all. Goal environments: achieved_goal, observation, desired_goal,
    without achieved_goal where the observation begins with the same numbers. So PointMaze has 6
    numbers (x, y, velocities, goal; D4RL's maze2d has the first 4) and AntMaze 31 (x, y, 27, goal;
    D4RL's antmaze has the first 29). The order is kept (`layout`): a simulator's observations are
    joined in it too. Actions of another box than [-1, 1] are scaled to it, which a
    note says; of your own data with an unbounded one nobody has said the box (datasets.boxes).
    """
    folder = _folder(str(id_or_path))
    meta = _metadata(folder / "metadata.json")
    leaves = _leaves(meta["observation_space"], "observations", observation_keys, folder)
    width, box = _box(meta["action_space"], folder, fidelity)
    path = folder / "main_data.hdf5"
    with opened(path, LAYOUT) as file:
        episodes = [
            _episode(group(file, name, str(path)), leaves, width, f"{path}: {name}")
            for name in _names(file, meta, path)
        ]
        rounded = READING.get().notes()
    arrays = joined([arrays for arrays, _ in episodes])
    notes = _said(meta, episodes)
    if len(leaves) > 1:
        if not observation_keys:
            leaves, said = _without_repetition(arrays, leaves)
            notes.append(_joining(leaves) + said)
        else:
            notes.append(_joining(leaves))
    recorded, scaled = arrays["actions"], []
    if box is None:
        actions, clipped, recorded = boxed(recorded, fidelity)
    else:
        actions, clipped = clip_actions(to_unit(recorded, box))
        scaled = [] if box == unit(width) else [scaled_note(box)]
        if fidelity != "own" or not ((recorded < box.low) | (recorded > box.high)).any():
            recorded = None
    transitions, cut, recorded = with_recorded(
        recorded, **arrays | dict(actions=actions), source=str(path)
    )
    named = printable(str(meta.get("dataset_id", "")))[:200]
    source = f"{named or folder} (Minari, {len(episodes):,} episodes)"
    return Dataset(
        transitions,
        sha256_of(path),
        fidelity,
        source,
        (*scaled, clipped, *notes, *cut, *rounded),
        layout=() if list(leaves) == ["observations"] else _layout(leaves),
        name=named,
        bounds=box,
        recorded=recorded,
    )


def _folder(id_or_path: str) -> Path:
    """The folder that holds metadata.json."""
    root = paths.minari_folder()
    given = paths.given(id_or_path)
    is_id = re.fullmatch(r"([\w-]+/)*[\w-]+-v\d+", id_or_path, re.ASCII)
    places = [
        given.parent if given.name == "main_data.hdf5" else given,
        given / "data",
        *([root / id_or_path / "data"] if is_id else []),
    ]
    for place in places:
        if (place / "metadata.json").is_file():
            return place
    if given.exists() or not is_id:
        raise DataError(
            f"{id_or_path}: saw neither a folder with metadata.json and main_data.hdf5 "
            "nor a dataset's id, expected one, such as D4RL/door/human-v2; give the "
            "folder or the id."
        )
    return _downloaded(id_or_path, root)


def _downloaded(name: str, root: Path) -> Path:
    try:
        import minari
    except ImportError as error:
        raise FetchError(
            f"{name}: saw no such dataset in {root} and no library to download it with, "
            "expected the package minari; pip install 'arq-core[minari]', "
            "or copy the dataset's folder there."
        ) from error
    if os.environ.get("MINARI_DATASETS_PATH"):  # the library fills in no ~ and no $
        os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        minari.download_dataset(name)
    except Exception as error:
        # whatever the library, its host's client or the network raises
        raise FetchError(
            f"{name}: saw {type(error).__name__}: {error}, expected a download by "
            f"Minari; copy the dataset's folder to {root} by other means."
        ) from error
    folder = root / name / "data"
    if not (folder / "metadata.json").is_file():
        raise FetchError(
            f"{name}: saw no metadata.json in {folder} after Minari's download, "
            "expected one; check MINARI_DATASETS_PATH."
        )
    return folder


def _metadata(path: Path) -> dict:
    """metadata.json, with both spaces parsed."""
    size = path.stat().st_size
    try:
        meta = json.loads(path.read_bytes()) if size <= MOST_METADATA else {}
        spaces = {k: meta[k] for k in ("observation_space", "action_space")}
        meta |= {k: json.loads(s) if isinstance(s, str) else s for k, s in spaces.items()}
        if not all(isinstance(meta[k], dict) for k in spaces):
            raise TypeError("a space that is no object")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f"{path}: saw {size:,} bytes without readable spaces "
            f"({type(error).__name__}: {error}), expected Minari's metadata with "
            "observation_space and action_space; write or download the dataset again "
            "with Minari 0.5."
        ) from error
    if meta.get("data_format", "hdf5") != "hdf5":
        raise DataError(
            f"{path}: saw data_format {str(meta['data_format'])[:40]!r}, expected "
            "'hdf5'; copy the dataset with Minari into a MinariStorage.new(..., "
            "data_format='hdf5') by its update_from_storage."
        )
    return meta


def _parts(space):
    """The parts of a Dict by name; None for another space."""
    return (
        space.get("subspaces") if isinstance(space, dict) and space.get("type") == "Dict" else None
    )


def _leaves(
    space, name: str, keys: Sequence[str] | None, where, whole: Mapping | None = None
) -> dict[str, int]:
    """{field in an episode: numbers per step} in the order in which they are joined; `keys` choose
    among the parts of a Dict, `whole` are those of the Dict that this space is a part of.
    """
    parts = _parts(space)
    if not isinstance(parts, dict):
        if keys:
            raise DataError(
                f"{where}: observation_keys: saw {listed(keys)} for an observation without "
                "parts, expected None; leave it out."
            )
        return {name: _width(space, name, where, whole or {})}
    chosen = keys or (GOAL_KEYS if set(parts) == set(GOAL_KEYS) else tuple(parts))
    missing = [k for k in chosen if k not in parts]
    if missing or not chosen:
        raise DataError(
            f"{where}: observation_keys: saw {listed(missing)}, expected some of "
            f"{listed(parts)}; choose among these: "
            f"{by_argument(f'observation_keys={list(parts)[:2]}')}."
        )
    leaves: dict[str, int] = {}
    for key in chosen:
        leaves |= _leaves(parts[key], f"{name}/{key}", None, where, whole or parts)
    return leaves


def _is_vector(space) -> bool:
    """Whether it is a Box of numbers, and no picture."""
    if not isinstance(space, dict) or space.get("type") != "Box":
        return False
    shape = space.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        return False
    return math.prod(shape) <= MOST_WIDTH and (len(shape) < 2 or space.get("dtype") != "uint8")


def _width(space, what: str, where, parts: Mapping = MappingProxyType({})) -> int:
    """Numbers in a Box. Pictures and every other space are refused; of the parts, those that fit
    are named.
    """
    space = space if isinstance(space, dict) else dict(type=space)
    shape, dtype = space.get("shape"), str(space.get("dtype"))
    if not _is_vector(space):
        fit = [printable(k)[:40] for k, part in parts.items() if _is_vector(part)][:2]
        raise DataError(
            f"{where}: {what}: saw the space {str(space.get('type'))[:40]} of shape "
            f"{str(shape)[:40]} and type {dtype[:20]}, expected a Box of numbers that "
            "are no pictures; convert the dataset"
            + (f", or choose parts: {by_argument(f'observation_keys={fit}')}" if fit else "")
            + "."
        )
    return math.prod(shape)


def _box(space, where, fidelity: str) -> tuple[int, Box | None]:
    """The number of actions, and the box of lowest and highest ones. Without bounds (infinite) that
    of data of one's own is not known: None, as for arrays.
    """
    width = _width(space, "actions", where)
    sides = [space.get(k) for k in ("low", "high")]
    if fidelity == "own" and _endless(sides):
        return width, None
    return width, box_of(*sides, width, f"{where}: action_space")


def _endless(sides) -> bool:
    """Whether a bound is infinite, and none is anything but a number."""
    try:
        numbers = [np.asarray(side, np.float32) for side in sides]
    except (ValueError, TypeError, OverflowError):
        return False
    return any(np.isinf(x).any() for x in numbers) and not any(np.isnan(x).any() for x in numbers)


def _names(file, meta, path) -> list[str]:
    """episode_0 to episode_n-1, all that the metadata promise."""
    total = meta.get("total_episodes")
    here = {n for n in file if re.fullmatch(r"episode_\d{1,9}", printable(n), re.ASCII)}
    if (
        type(total) is not int
        or total < 1
        or len(here) != total
        or any(f"episode_{i}" not in here for i in range(total))
    ):
        raise DataError(
            f"{path}: saw {len(here):,} episodes and total_episodes {str(total)[:20]} "
            "in metadata.json, expected as many, numbered from 0, and at least one; "
            "copy or download the dataset again."
        )
    return [f"episode_{i}" for i in range(total)]


def _episode(episode, leaves, action_dim, where) -> tuple[dict[str, np.ndarray], dict[str, bool]]:
    """One episode's arrays [T ...], and what was remarkable about it."""
    actions = numbers(episode, "actions", where, width=action_dim)
    steps = len(actions)
    parts = {name: numbers(episode, name, where, width=n) for name, n in leaves.items()}
    seen = layouts.joined(parts, tuple(leaves.items()))
    lacks_last = len(seen) == steps
    # files written by old collectors: what the last step returned was lost
    if lacks_last:
        seen = np.concatenate([seen, seen[-1:]])
    if len(seen) != steps + 1:
        raise DataError(
            f"{where}: saw {len(seen):,} observations and {steps:,} actions, expected "
            "one observation more than actions; write the episode again."
        )
    terminals, timeouts = (
        flags(episode, name, where, steps) for name in ("terminations", "truncations")
    )
    inside = bool((terminals | timeouts)[:-1].any())
    timeouts = timeouts & ~terminals
    timeouts[-1] = not terminals[-1]
    arrays = dict(
        observations=seen[:-1],
        actions=actions,
        rewards=numbers(episode, "rewards", where, steps, 1)[:, 0],
        terminals=terminals,
        timeouts=timeouts,
        next_observations=seen[1:],
    )
    return arrays, dict(lacks_last=lacks_last, inside=inside)


def _said(meta, episodes) -> list[str]:
    lacking, inside = (sum(e[k] for _, e in episodes) for k in ("lacks_last", "inside"))
    steps, total = sum(len(a["rewards"]) for a, _ in episodes), meta.get("total_steps")
    notes = []
    if lacking:
        notes.append(
            f"the observation after the last step is missing in {lacking:,} of "
            f"{len(episodes):,} episodes: the one before it stands there"
        )
    if inside:
        notes.append(
            f"{inside:,} of {len(episodes):,} episodes end before their last step: the "
            "rest is an episode of its own"
        )
    if total is not None and total != steps:
        notes.append(
            f"metadata.json says total_steps {str(total)[:20]}, the episodes have {steps:,}"
        )
    return notes


def _layout(leaves) -> Layout:
    """The leaves under the names that they have in the space."""
    return tuple((name.removeprefix("observations/"), width) for name, width in leaves.items())


def _joining(leaves) -> str:
    return f"a state is {layouts.text(_layout(leaves))} joined"


def _without_repetition(arrays, leaves) -> tuple[dict[str, int], str]:
    """Leaves achieved_goal out of the arrays where observation begins with it in every row: the
    leaves that stay, and what to say.
    """
    names, widths = list(leaves), list(leaves.values())
    goal = widths[0]
    if names[:2] != [f"observations/{k}" for k in GOAL_KEYS[:2]] or widths[1] < goal:
        return leaves, ""
    both = [arrays[k] for k in ("observations", "next_observations")]
    if any((x[:, :goal] != x[:, goal : 2 * goal]).any() for x in both):
        return leaves, ""
    arrays["observations"], arrays["next_observations"] = (
        np.ascontiguousarray(x[:, goal:]) for x in both
    )
    return (
        {k: leaves[k] for k in names[1:]},
        "; achieved_goal is left out, observation begins with it",
    )
