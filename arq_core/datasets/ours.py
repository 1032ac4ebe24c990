"""What is made in this repository: the maze's and the bridge's data under their behaviour rules,
and door-human.

The loaders have the form that `data/tasks.csv` asks for: called with the task's name. The door's
imports its maker when it is called.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from arq_core.algorithm.types import DataError, Transitions
from arq_core.datasets.dataset import Dataset
from arq_core.envs.bridge import (
    GRASP,
    PLANKS,
    SLIP_CHANCE,
    START_STRAY,
    STRAY,
    BridgeEnvs,
    middle,
)
from arq_core.envs.maze import (
    DOORS,
    LURE,
    REACH,
    SIDE_CHANCE,
    WAY,
    MazeEnvs,
    near,
)


def slipping_rule(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The behaviour: any grasp, a step to near the next middle; with SLIP_CHANCE a uniform action
    instead.
    """
    n = len(states)
    aim = middle(states[:, 0] + 1) - states[:, 1] + rng.normal(0, STRAY, n)
    meant = np.stack([rng.uniform(-GRASP, GRASP, n), aim], 1)
    slips = rng.random((n, 1)) < SLIP_CHANCE
    return np.clip(np.where(slips, rng.uniform(-1, 1, (n, 2)), meant), -1, 1).astype(np.float32)


def collect_bridge(seed: int = 0, episodes: int = 1500) -> Dataset:
    """The dataset of task `bridge`: guided episodes that start on any plank."""
    rng = np.random.default_rng(seed)
    plank = rng.integers(PLANKS, size=episodes)
    starts = np.stack([plank, middle(plank) + rng.uniform(-START_STRAY, START_STRAY, episodes)], 1)
    transitions = collect(BridgeEnvs(episodes, guide=True), slipping_rule, starts, rng)
    return Dataset(
        transitions=transitions,
        sha256=transitions.fingerprint(),
        fidelity="recollected",
        source=f"arq_core.datasets.ours.collect_bridge(seed={seed}, episodes={episodes})",
        notes=(f"{episodes:,} guided episodes, {SLIP_CHANCE:.1%} of the commands slipped",),
    )


# states [n, S] -> actions [n, A]
BehaviorRule = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def collect(env, rule: BehaviorRule, starts: np.ndarray, rng: np.random.Generator) -> Transitions:
    """One episode from each of `starts` [n, S], all stepped together; each visited state becomes
    one row of `states`.

    `env` is a vector environment with `place(states)` beside reset and step. A true terminal is
    kept. An episode cut by the horizon loses its last transition, as in the released reader, since
    its next action is unknown.
    """
    visited, actions, rewards, terminals = [env.place(starts)], [], [], []
    length, alive = np.zeros(len(starts), int), np.ones(len(starts), bool)
    while alive.any() and len(actions) < env.horizon:
        actions.append(rule(visited[-1], rng))
        state, reward, terminal, _ = env.step(actions[-1])
        visited.append(state)
        rewards.append(reward)
        terminals.append(terminal & alive)
        length += alive
        alive &= ~terminal
    length -= alive
    if not length.any():
        raise DataError(
            f"collect: saw {len(starts)} starts and no whole transition, expected at "
            "least one; start elsewhere."
        )
    # [n T], episode by episode
    inside = np.arange(max(len(actions), 1)) < length[:, None]
    # its states: one more than its transitions
    rows = np.arange(len(actions) + 1) < (length + (length > 0))[:, None]
    number = np.cumsum(rows).reshape(rows.shape) - 1
    by_episode = {
        k: np.stack(v, 1) for k, v in dict(s=visited, a=actions, r=rewards, d=terminals).items()
    }
    return Transitions(
        states=torch.from_numpy(by_episode["s"][rows].astype(np.float32)),
        state=torch.from_numpy(number[:, :-1][inside]),
        next_state=torch.from_numpy(number[:, 1:][inside]),
        actions=torch.from_numpy(by_episode["a"][inside].astype(np.float32)),
        rewards=torch.from_numpy(by_episode["r"][inside].astype(np.float32)),
        terminals=torch.from_numpy(by_episode["d"][inside]),
        episode=torch.from_numpy(np.nonzero(inside)[0]),
    )


def memoryless_rule(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The behaviour, a function of the position alone: aim near the next waypoint or, at a
    junction, with SIDE_CHANCE at its side branch.
    """
    way = np.array(WAY, np.float32)
    here = np.linalg.norm(states[:, None] - way, axis=-1).argmin(1).clip(max=len(WAY) - 2)
    goal = way[here + 1]
    for junction, end in [LURE, *DOORS]:
        turns = (here == WAY.index(junction)) & (rng.random(len(states)) < SIDE_CHANCE)
        goal = np.where(turns[:, None], np.array(end, np.float32), goal)
    return ((near(goal, rng) - states) / REACH).astype(np.float32)


def collect_maze(seed: int = 0, episodes: int = 1600) -> Dataset:
    """The dataset of task `maze`: episodes of the memoryless behaviour, started near waypoints
    drawn uniformly.
    """
    rng = np.random.default_rng(seed)
    starts = near(np.array(WAY[:-1], np.float32)[rng.integers(len(WAY) - 1, size=episodes)], rng)
    transitions = collect(MazeEnvs(episodes), memoryless_rule, starts, rng)
    return Dataset(
        transitions=transitions,
        sha256=transitions.fingerprint(),
        fidelity="recollected",
        source=f"arq_core.datasets.ours.collect_maze(seed={seed}, episodes={episodes})",
        notes=(f"{episodes:,} episodes of a memoryless behaviour, started anywhere on the way",),
    )


def maze(task_name: str) -> Dataset:
    """The dataset of `collect_maze()`: states [U, 2] in cells, 1,600 episodes; any name will do."""
    return collect_maze()


def bridge(task_name: str) -> Dataset:
    """The dataset of `collect_bridge()`: states [U, 2], 1,500 guided episodes; any name will do."""
    return collect_bridge()


def door_human(task_name: str) -> Dataset:
    """The dataset of `load_door_human()`: states [U, 39], actions [M, 28]; any name will do.
    DataError where the demonstrations are not to be had, EnvError where the simulator is not.
    """
    from arq_core.datasets.door import load_door_human

    return load_door_human()
