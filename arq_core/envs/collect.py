"""Episodes of a vector environment under a behaviour policy, recorded as Transitions."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from arq_core.types import DataError, Transitions

BehaviorRule = Callable[[np.ndarray, np.random.Generator], np.ndarray]   # states [n, S] -> actions [n, A]


def collect(env, rule: BehaviorRule, starts: np.ndarray, rng: np.random.Generator) -> Transitions:
    """One episode from each of `starts` [n, S], all stepped together; each visited state becomes one row of `states`.

    `env` is a vector environment with `place(states)` beside reset and step. A true terminal is kept. An episode cut by the
    horizon loses its last transition, as in the released reader, since its next action is unknown.
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
        raise DataError(f"collect: saw {len(starts)} starts and no whole transition, expected at least one; start elsewhere.")
    inside = np.arange(max(len(actions), 1)) < length[:, None]               # [n T], episode by episode
    rows = np.arange(len(actions) + 1) < (length + (length > 0))[:, None]    # its states: one more than its transitions
    number = np.cumsum(rows).reshape(rows.shape) - 1
    by_episode = {k: np.stack(v, 1) for k, v in dict(s=visited, a=actions, r=rewards, d=terminals).items()}
    return Transitions(
        states=torch.from_numpy(by_episode["s"][rows].astype(np.float32)),
        state=torch.from_numpy(number[:, :-1][inside]),
        next_state=torch.from_numpy(number[:, 1:][inside]),
        actions=torch.from_numpy(by_episode["a"][inside].astype(np.float32)),
        rewards=torch.from_numpy(by_episode["r"][inside].astype(np.float32)),
        terminals=torch.from_numpy(by_episode["d"][inside]),
        episode=torch.from_numpy(np.nonzero(inside)[0]))
