"""Policies that act: how an action and its log density come from a policy's numbers, and episodes
of a policy side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from arq_core.engine.streams import Streams, derive_seed
from arq_core.envs.locomotion import LocomotionEnvs

LOG_STD = (-20.0, 2.0)  # bounds of the policy's log standard deviation; the authors' code
# that a policy is scored by, with the mean action and with drawn actions
EPISODES = 10
SCORE_SEED = 1

# (states [n, S], standard normal noise [n, A], steps of the episode so far) -> (actions [n, A],
# log densities of the drawn actions [n], nats)
Act = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def squashed(parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Appendix C: a = tanh(u), u ~ N(mean, std²): actions [..., A] and their log densities [...],
    nats, from mean and log std [..., 2A].

    log(1 - tanh²u) is written as 2·(log 2 - u - softplus(-2u)), which does not cancel for large
    |u|.
    """
    mean, log_std = parameters.chunk(2, -1)
    log_std = log_std.clamp(*LOG_STD)
    u = mean + log_std.exp() * noise
    folding = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return u.tanh(), (_gaussian(log_std, noise) - folding).sum(-1)


def clipped(parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """u ~ N(mean, std²), clipped to the box: actions [..., A] and the log densities of u before it
    is clipped [...], nats; the clipped action has none, since a corner has probability.
    """
    mean, log_std = parameters.chunk(2, -1)
    return (mean + log_std.exp() * noise).clamp(-1, 1), _gaussian(log_std, noise).sum(-1)


def _gaussian(log_std: Tensor, noise: Tensor) -> Tensor:
    return -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)


def episodes(act: Act, envs: LocomotionEnvs, seeds: list[int], rng: Streams | None) -> list[dict]:
    """One episode per seed, stepped side by side; with `rng` actions are drawn, without it they are
    the mean's.

    Each is a recording.Episode with infos/action_log_probs, infos/qpos and infos/qvel, those of the
    state before the action.
    """
    n, states = len(seeds), envs.reset(seeds)
    # rows: the episodes that go on
    rows, lengths, terminal = np.arange(n), np.zeros(n, int), np.zeros(n, bool)
    kept = dict(observations=np.zeros((n, envs.horizon + 1, envs.state_dim), np.float32))
    kept["observations"][:, 0] = states
    for t in range(envs.horizon):
        noise = (
            torch.zeros(len(rows), envs.action_dim)
            if rng is None
            else rng.randn(len(rows), envs.action_dim)[0]
        )
        actions, log_prob = (x.numpy() for x in act(torch.tensor(states), noise, t))
        positions, velocities = envs.positions_and_velocities()
        states, rewards, ended, _ = envs.step(actions)
        now = {
            "actions": actions,
            "rewards": rewards.astype(np.float32),
            "infos/action_log_probs": log_prob,
            "infos/qpos": positions,
            "infos/qvel": velocities,
        }
        for name, x in now.items():
            kept.setdefault(name, np.zeros((n, envs.horizon, *x.shape[1:]), x.dtype))[rows, t] = x
        kept["observations"][rows, t + 1] = states
        lengths[rows], terminal[rows] = t + 1, ended
        rows, states = rows[~ended], states[~ended]
        if not len(rows):
            break
        envs.keep(~ended)
    return [
        dict(
            terminal=bool(terminal[i]),
            **{k: x[i, : length + (k == "observations")] for k, x in kept.items()},
        )
        for i, length in enumerate(lengths)
    ]


def score(act: Act, envs: LocomotionEnvs, count: int = EPISODES) -> dict:
    """Returns of `count` episodes from the same starts: of the mean action ("deterministic") and of
    drawn actions ("stochastic").
    """
    seeds = [derive_seed(SCORE_SEED, "start", i) % 2**31 for i in range(count)]
    out = {}
    for name, rng in (("deterministic", None), ("stochastic", Streams([SCORE_SEED]).fork("score"))):
        returns = [
            float(e["rewards"].sum(dtype=np.float64)) for e in episodes(act, envs, seeds, rng)
        ]
        out[name] = dict(
            mean=round(float(np.mean(returns)), 2),
            std=round(float(np.std(returns)), 2),
            episodes=count,
        )
    return out
