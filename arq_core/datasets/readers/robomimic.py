"""Low-dimensional files in robomimic's HDF5 layout (Mandlekar et al. 2021; robomimic 0.1 to 0.5), a
user's own included.

    data                    attributes: total, env_args (JSON: env_name, env_version since robomimic
        0.3, env_kwargs)
      demo_0                attributes: num_samples, model_file;  fields: actions, rewards, dones,
          states
        obs, next_obs       one field per observation key; next_obs may be missing
    mask                    filter keys: names of demonstrations, as texts of any kind

Names are the same in the files of 2021 (low_dim.hdf5) and in those made anew for robosuite 1.4.1
and 1.5 (low_dim_v141.hdf5, low_dim_v15.hdf5); their numbers are not, so `Dataset.source` says which
simulator a file names.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch

from arq_core.algorithm.types import DataError, Transitions
from arq_core.config.files import sha256_of
from arq_core.config.paths import given
from arq_core.datasets.dataset import Dataset, boxed
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
    text,
    texts,
)

LAYOUT = "robomimic's layout"
# of each robot; low-dim observation of the study and of the released code
ROBOT_KEYS = ("eef_pos", "eef_quat", "gripper_qpos")
# characters; those of the published files are a few thousand
MOST_ENV_ARGS = 1 << 20
# characters of a demonstration's name
LONGEST_NAME = 1000


def read_robomimic(
    path: str | Path,
    horizon: int | None = None,
    filter_key: str | None = None,
    observation_keys: Sequence[str] | None = None,
    fidelity: str = "own",
    success_only: bool = False,
) -> Dataset:
    """The file as a `Dataset`: demonstrations in order of their numbers, those under
    `mask/<filter_key>` or all.

    States are the observation keys joined: by default robot0_eef_pos, robot0_eef_quat,
    robot0_gripper_qpos, the same of robot1 where there is one, object. `dones` can be true several
    times in a demonstration. As in the released code each is a terminal (discount 0) and the
    demonstration goes on behind it; its last transition is dropped unless done. robomimic also
    writes a done where a demonstration merely stops: with success_only a done without a positive
    reward is such a cut and no terminal (the released code bootstraps nothing there either way). A
    demonstration longer than `horizon` is cut there, as by a time limit; the released code cuts
    none.
    """
    path = given(path)
    if horizon is not None and horizon < 1:
        raise DataError(
            f"horizon: saw {horizon}, expected at least 1 step, or None for whole "
            "demonstrations; give one."
        )
    with opened(path, LAYOUT) as file:
        data = group(file, "data", str(path))
        demos = _demonstrations(file, data, filter_key, path)
        keys = _observation_keys(data[demos[0]], observation_keys, f"{path}: {demos[0]}")
        simulator = _simulator(data, path)
        episodes = []
        for name in demos:
            episodes.append(_episode(data[name], keys, horizon, f"{path}: {name}"))
            _check_widths(episodes[0], episodes[-1], f"{path}: {name}")
        layout = tuple((key, _width(data[demos[0]]["obs"][key])) for key in keys)
        notes = _said(data, episodes, filter_key)
        rounded = READING.get().notes()
    arrays = joined([e["arrays"] for e in episodes])
    arrays["terminals"], meant = _terminals(arrays, success_only)
    arrays["timeouts"] &= ~arrays["terminals"]
    arrays["actions"], clipped, recorded = boxed(arrays["actions"], fidelity)
    transitions, cut, recorded = with_recorded(recorded, **arrays, source=str(path))
    what = (
        f"{len(demos):,} "
        f"demonstrations{f' of filter key {filter_key!r}' if filter_key else ''}, "
        f"{simulator}"
    )
    source = f"{path.name} (robomimic layout; {what})"
    return Dataset(
        _each_state_once(transitions),
        sha256_of(path),
        fidelity,
        source,
        (clipped, *notes, *meant, *cut, *rounded),
        layout=layout,
        recorded=recorded,
    )


def _demonstrations(file, data, filter_key, path) -> list[str]:
    """Names of the demonstrations to read, by number: demo_10 comes after demo_2."""
    names = list(data) if filter_key is None else _filtered(file, filter_key, path)
    odd = [n for n in names if not re.fullmatch(r"demo_\d{1,9}", printable(n), re.ASCII)]
    absent = [n for n in names if n not in odd and not isinstance(data.get(n), h5py.Group)]
    if not names or odd or absent or len(set(names)) < len(names):
        place = f"under the filter key {filter_key!r}" if filter_key else "in data"
        others = [key for key in _masks(file) if key != filter_key]
        raise DataError(
            f"{path}: saw {listed(odd or absent or names)} {place}, expected groups "
            "demo_0, demo_1 and so on, at least one and each once; repair the file"
            + (f", or choose of it: {by_argument(f'filter_key={others[0]!r}')}" if others else "")
            + "."
        )
    return sorted(names, key=lambda name: int(name[5:]))


def _filtered(file, filter_key, path) -> list[str]:
    mask = _masks(file)
    names = mask.get(filter_key)
    if not isinstance(names, h5py.Dataset):
        raise DataError(
            f"{path}: filter_key: saw {filter_key!r}, expected one of those in the "
            f"file: {listed(mask)}; choose one, or None for all demonstrations."
        )
    return texts(names, f"{path}: mask/{filter_key}", LONGEST_NAME)


def _masks(file) -> Mapping:
    """The filter keys of the file."""
    mask = file.get("mask")
    return mask if isinstance(mask, h5py.Group) else {}


def _observation_keys(demo, observation_keys, where) -> tuple[str, ...]:
    if "obs" not in demo:
        raise DataError(
            f"{where}: saw {listed(demo)}, expected also the group obs; this is a raw "
            "file: extract observations with robomimic's dataset_states_to_obs.py, or "
            "get the file low_dim of this task."
        )
    obs = group(demo, "obs", where)
    robots = [
        f"robot{i}_{key}"
        for i in range(2)
        for key in ROBOT_KEYS
        if i == 0 or f"robot{i}_{ROBOT_KEYS[0]}" in obs
    ]
    keys = tuple(observation_keys or (*robots, "object"))
    missing = [k for k in keys if k not in obs]
    if missing:
        raise DataError(
            f"{where}: observation keys: saw {listed(obs, 40)}, expected also "
            f"{listed(missing)}; choose among the file's: "
            f"{by_argument(f'observation_keys={_example(obs)}')}."
        )
    return keys


def _example(obs) -> list[str]:
    """Two keys of the file that have a vector for each step."""
    return [printable(key) for key in obs if len(getattr(obs[key], "shape", ())) == 2][:2]


def _episode(demo, keys, horizon, where) -> dict:
    """One demonstration: its arrays [T ...], and what was remarkable about it."""
    actions = numbers(demo, "actions", where, check=lambda n: _check_steps(demo, n, where))
    steps = len(actions)
    obs = _joined_keys(demo, "obs", keys, steps, where)
    has_next = "next_obs" in demo
    after = (
        _joined_keys(demo, "next_obs", keys, steps, where)
        if has_next
        else np.concatenate([obs[1:], obs[-1:]])
    )
    timeouts = np.zeros(steps, bool)
    timeouts[min(steps, horizon or steps) - 1] = True
    arrays = dict(
        observations=obs,
        actions=actions,
        rewards=numbers(demo, "rewards", where, steps, 1)[:, 0],
        terminals=flags(demo, "dones", where, steps),
        timeouts=timeouts,
        next_observations=after,
    )
    return dict(
        arrays={k: v[:horizon] for k, v in arrays.items()},
        cut=bool(horizon and horizon < steps),
        has_next=has_next,
        steps=steps,
    )


def _width(field: h5py.Dataset) -> int:
    """Numbers a row, as `numbers` joins them."""
    return math.prod(field.shape[1:])


def _check_steps(demo, steps, where) -> None:
    """Refuses what does not fit the number of actions, before they are read."""
    told = np.asarray(demo.attrs.get("num_samples", steps))
    told = told.item() if told.size == 1 else told
    if np.size(told) != 1 or np.ravel(told)[0] != steps:
        raise DataError(
            f"{where}: saw {steps:,} actions and the attribute num_samples {told!r}, "
            "expected the same number; copy or extract the file again."
        )
    for name in ("rewards", "dones"):
        seen = (getattr(demo.get(name), "shape", None) or (steps,))[0]
        if seen != steps:
            raise DataError(
                f"{where}: field {name!r}: saw {seen:,} rows, expected {steps:,}; make "
                "an episode's fields fit its actions."
            )


def _joined_keys(demo, name, keys, steps, where) -> np.ndarray:
    fields = group(demo, name, where)
    return np.concatenate([numbers(fields, key, f"{where}: {name}", steps) for key in keys], axis=1)


def _check_widths(first, other, where) -> None:
    for name in ("observations", "actions", "next_observations"):
        expected, seen = (e["arrays"][name].shape[1] for e in (first, other))
        if seen != expected:
            raise DataError(
                f"{where}: saw {seen} {name} numbers a step, expected {expected}, as in the "
                "first demonstration read; keep one task per file."
            )


def _terminals(arrays, success_only) -> tuple[np.ndarray, list[str]]:
    """Which steps are terminals (docstring of `read_robomimic`), and a sentence where dones say two
    things.
    """
    dones, unrewarded = arrays["terminals"], arrays["terminals"] & (arrays["rewards"] <= 0)
    if not unrewarded.any():
        return dones, []
    fate = (
        "a cut, no terminal (success_only)"
        if success_only
        else "a terminal, as in the released code"
    )
    note = (
        f"{unrewarded.sum():,} of {dones.sum():,} dones come without a positive "
        f"reward: each is {fate}"
    )
    return dones & ~unrewarded if success_only else dones, [note]


def _each_state_once(t: Transitions) -> Transitions:
    """s' of a done step is the state of the step that follows it, where the demonstration goes on:
    one row of `states`, not two.
    """
    done = t.terminals[:-1].nonzero().squeeze(1)
    repeats = done[(t.states[t.next_state[done]] == t.states[t.state[done + 1]]).all(1)]
    next_state = t.next_state.clone()
    next_state[repeats] = t.state[repeats + 1]
    rows, both = torch.cat([t.state, next_state]).unique(return_inverse=True)
    state, next_state = both.chunk(2)
    return replace(t, states=t.states[rows], state=state, next_state=next_state)


def _said(data, episodes, filter_key) -> list[str]:
    notes = []
    often = sum(e["arrays"]["terminals"].sum() > 1 for e in episodes)
    cut, without = sum(e["cut"] for e in episodes), sum(not e["has_next"] for e in episodes)
    total, steps = data.attrs.get("total"), sum(e["steps"] for e in episodes)
    if often:
        notes.append(
            f"dones is true several times in {often:,} of {len(episodes):,} "
            "demonstrations: each is a terminal, and the demonstration goes on behind "
            "it"
        )
    if cut:
        notes.append(f"cut {cut:,} of {len(episodes):,} demonstrations at the horizon")
    if without:
        notes.append(
            f"next_obs is missing in {without:,} of {len(episodes):,} demonstrations: "
            "the following obs stands for it"
        )
    if filter_key is None and np.size(total) == 1 and total is not None and total != steps:
        notes.append(
            f"the attribute total says {np.ravel(total)[0]}, the demonstrations have {steps:,} "
            "steps"
        )
    return notes


def _simulator(data, path) -> str:
    """What env_args says of the simulator, such as "Lift, simulator version 1.5.1"."""
    stored = data.attrs.get("env_args")
    if stored is None:
        return "environment not named"
    said = text(stored)
    try:
        args = json.loads(said) if said is not None and len(said) <= MOST_ENV_ARGS else None
    except (ValueError, RecursionError):
        args = None
    if not isinstance(args, dict) or not isinstance(args.get("env_name"), str):
        raise DataError(
            f"{path}: attribute env_args: saw {str(stored if said is None else said)[:60]!r}, "
            "expected a JSON object with env_name; repair or remove it."
        )
    version = args.get("env_version")
    said = (
        f"simulator version {printable(str(version))[:20]}"
        if version
        else "no simulator version, as in the files of 2021"
    )
    return f"{printable(args['env_name'])[:80]}, {said}"
