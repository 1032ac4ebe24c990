"""Mistakes that circulate with the datasets, each on a corridor so small that its values are known
exactly.

The corridor has CELLS cells in a row and the goal at its right end: 1 for the step that reaches it,
which ends the episode. An action is -1 or +1, a step to the left or the right; at the left wall a
step to the left stays. From each cell but the goal two walkers start, one that always goes left and
one that always goes right, and each is stopped after LIMIT steps. So nearly half of the cells are
farther from the goal than any recording is long: only stitching the recordings together leads from
there to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int

from arq_core.algorithm.types import Transitions
from arq_core.datasets.readers.d4rl import to_transitions
from arq_core.datasets.rewards import recipe_table

CELLS, LIMIT, GAMMA = 24, 12, 0.99
SWEEPS = 6_000  # of value iteration: 0.99^6000 is below the precision of a float64
# The reward recipes of antmaze in circulation as r' = scale·r + shift, from what each makes of 0
# and 1.
RECIPES = {"r": (1.0, 0.0)} | {
    row["formula"]: (row["after"][1] - row["after"][0], row["after"][0])
    for row in recipe_table(torch.arange(2))
}


def corridor() -> dict[str, np.ndarray]:
    """Flat arrays in D4RL's terms, in order of time: observations [M 1], actions [M 1], rewards,
    terminals, timeouts, next_observations.
    """
    rows = [row for start in range(CELLS - 1) for action in (-1, 1) for row in _walk(start, action)]
    cell, action, after, timeout = (np.array(x) for x in zip(*rows, strict=True))
    goal = after == CELLS - 1
    return dict(
        observations=cell[:, None].astype(np.float32),
        actions=action[:, None].astype(np.float32),
        rewards=goal.astype(np.float32),
        terminals=goal,
        timeouts=timeout & ~goal,
        next_observations=after[:, None].astype(np.float32),
    )


def _walk(cell: int, action: int) -> list[tuple]:
    rows = []
    while len(rows) < LIMIT and cell < CELLS - 1:
        after = max(cell + action, 0)
        rows.append((cell, action, after, len(rows) == LIMIT - 1))
        cell = after
    return rows


def read(arrays: Mapping[str, np.ndarray], mistake: str = "") -> Transitions:
    """The corridor's transitions, right or with a mistake: "cuts are ends" or "cuts are
    ignored".
    """
    given = {k: arrays[k] for k in ("observations", "actions", "rewards", "terminals", "timeouts")}
    nothing = np.zeros_like(arrays["timeouts"])
    changed = {
        "": {},
        "cuts are ends": dict(terminals=arrays["terminals"] | arrays["timeouts"], timeouts=nothing),
        "cuts are ignored": dict(timeouts=nothing),
    }[mistake]
    return to_transitions(**given | changed)[0]


def wrong_steps(data: Transitions) -> int:
    """Transitions that no step of the corridor makes: from one cell to another that is not its
    neighbour, nor itself.
    """
    step = data.states[data.next_state, 0] - data.states[data.state, 0]
    return int(((step.abs() > 1) & ~data.terminals).sum())


@dataclass(frozen=True)
class Values:
    """The optimal values that the data support, by cell: Q [S 2] of left and right, and V [S],
    their maximum.
    """

    cells: Int[np.ndarray, " S"]
    q: Float[np.ndarray, "S 2"]

    @property
    def v(self) -> Float[np.ndarray, " S"]:
        """V [S]: of each cell, the larger of its two values."""
        return self.q.max(1)

    @property
    def goes_right(self) -> np.ndarray:
        """Booleans [S]: of each cell, whether right is worth more than left."""
        return self.q[:, 1] > self.q[:, 0]


def values(
    data: Transitions, scale: float = 1.0, shift: float = 0.0, gamma: float = GAMMA
) -> Values:
    """Value iteration on the recorded transitions, rewards being scale·r + shift.

    Equal steps with unequal outcomes are averaged.
    """
    s, after = (data.states[rows, 0].numpy().astype(int) for rows in (data.state, data.next_state))
    a, done = (data.actions[:, 0].numpy() > 0).astype(int), data.terminals.numpy()
    reward, pair = scale * data.rewards.double().numpy() + shift, 2 * s + a
    count = np.bincount(pair, minlength=2 * CELLS)
    q = np.zeros((CELLS, 2))
    for _ in range(SWEEPS):
        target = reward + gamma * ~done * q.max(1)[after]
        q = (np.bincount(pair, target, minlength=2 * CELLS) / count.clip(1)).reshape(CELLS, 2)
    cells = np.arange(CELLS)[count.reshape(CELLS, 2).min(1) > 0]
    return Values(cells, q[cells])


def true_values(
    scale: float = 1.0, shift: float = 0.0, gamma: float = GAMMA
) -> Float[np.ndarray, " S"]:
    """V of each cell but the goal in closed form: d steps to the goal give scale·γ^(d-1) + shift·(1
    - γ^d)/(1 - γ).
    """
    d = CELLS - 1 - np.arange(CELLS - 1)
    return scale * gamma ** (d - 1) + shift * (1 - gamma**d) / (1 - gamma)


def affine(scale: float, shift: float, gamma: float = GAMMA) -> tuple[float, float]:
    """(m, c) with V' = m·V + c for every policy, when only reaching the goal is rewarded and only
    that ends an episode.

    Of a policy that reaches the goal at step T, V = E γ^(T-1), and the shift is paid T times:
    shift·(1 - γ^T)/(1 - γ).
    """
    return scale - gamma * shift / (1 - gamma), shift / (1 - gamma)


def write_v0(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """As D4RL's first Gym-MuJoCo files: observations, actions, rewards, terminals, and nothing
    about time-outs.
    """
    return _write(path, {k: arrays[k] for k in ("observations", "actions", "rewards", "terminals")})


def write_v2(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """As D4RL's v2 files: with timeouts and next_observations."""
    return _write(path, arrays)


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            file[name] = x
    return path


def write_minari(folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """As Minari stores it: a group an episode, which holds one observation more than actions, and
    metadata that name the spaces.
    """
    (folder / "data").mkdir(parents=True)
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for i, (a, b) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            episode = file.create_group(f"episode_{i}")
            episode.attrs.update(id=i, total_steps=b - a)
            episode["observations"] = np.concatenate(
                [arrays["observations"][a:b], arrays["next_observations"][b - 1 : b]]
            )
            for name, theirs in dict(
                actions="actions",
                rewards="rewards",
                terminals="terminations",
                timeouts="truncations",
            ).items():
                episode[theirs] = arrays[name][a:b]
    box = {
        name: json.dumps(dict(type="Box", dtype="float32", shape=[1], low=[low], high=[high]))
        for name, low, high in (
            ("observation_space", 0.0, CELLS - 1.0),
            ("action_space", -1.0, 1.0),
        )
    }
    (folder / "data" / "metadata.json").write_text(
        json.dumps(
            dict(
                dataset_id="corridor-v0",
                data_format="hdf5",
                total_episodes=len(ends),
                total_steps=int(ends[-1]),
                **box,
            )
        ),
        encoding="utf-8",
    )
    return folder
