"""Episodes: all episodes of all seeds step together, with final weights only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm.types import DataError, Policy
from arq_core.engine.machine import replayed
from arq_core.engine.streams import Streams, derive_seed
from arq_core.envs.vector import VectorEnv


def check_dimensions(envs: VectorEnv, state_dim: int, action_dim: int) -> None:
    """Refuse an environment whose states or actions are not those of the training data; before
    training, not after.
    """
    for kind, seen, expected in (
        ("states", envs.state_dim, state_dim),
        ("actions", envs.action_dim, action_dim),
    ):
        if seen != expected:
            raise DataError(
                f"environment: saw {kind} of dimension {seen}, expected {expected}, that of "
                "the training data; evaluate in the environment that the data came from."
            )


def evaluate(
    policy: Policy, envs: VectorEnv, episodes: int, rng: Streams, horizon: int
) -> dict[str, np.ndarray]:
    """`episodes` episodes for each of the E members of `rng`: arrays [E, episodes] of return (raw,
    undiscounted), length, success.

    Episode i of seed e starts from a seed of its own, the same for every method, and is cut after
    `horizon` steps. Success is success at any step. `envs` are closed at the end, and after an
    error or Ctrl-C too, where they can be closed.
    """
    with closing(envs) if hasattr(envs, "close") else nullcontext():
        return _episodes(policy, envs, episodes, rng, horizon)


def _episodes(
    policy: Policy, envs: VectorEnv, episodes: int, rng: Streams, horizon: int
) -> dict[str, np.ndarray]:
    shape = (len(rng), episodes)
    starts = [
        derive_seed(seed, "episode", i) % 2**31 for seed in rng.seeds for i in range(episodes)
    ]
    draws = rng.fork("evaluate")
    policy.reset(episodes)
    act = (
        replayed_act(policy, draws, (*shape, envs.state_dim))
        if getattr(policy, "replayable", False)
        else policy.act
    )
    states = envs.reset(starts)
    returns, lengths = np.zeros(shape, np.float64), np.zeros(shape, np.int64)
    success, running = np.zeros(shape, bool), np.ones(shape, bool)
    for t in tqdm(range(horizon), desc="evaluate", mininterval=1.0):
        s = torch.as_tensor(states, dtype=torch.float32).view(*shape, -1).to(draws.device)
        actions = act(s, draws).cpu().numpy().reshape(shape[0] * shape[1], -1)
        _refuse_diverged(actions[running.ravel()], t)
        states, rewards, terminated, reached = envs.step(actions)
        returns += np.where(running, rewards.reshape(shape), 0.0)
        lengths += running
        success |= running & reached.reshape(shape)
        running &= ~terminated.reshape(shape)
        if not running.any():
            break
    return {"return": returns, "length": lengths, "success": success}


def _refuse_diverged(actions: np.ndarray, t: int) -> None:
    """A simulator may take NaN for an action like any other, and even reward it."""
    if bad := int((~np.isfinite(actions)).any(-1).sum()):
        raise DataError(
            f"policy: saw actions that are not finite in {bad} of {len(actions)} episodes at step "
            f"{t}, expected numbers in [-1, 1]; its training has diverged: lower the learning rate."
        )


def replayed_act(
    policy: Policy, rng: Streams, shape: tuple[int, ...]
) -> Callable[[Tensor, Streams], Tensor]:
    """`policy.act` for states of this shape and these streams; on CUDA replayed as one graph.

    A solve of some hundred states is a thousand small kernels: launched one by one from Python they
    leave the device idle most of the time.
    """
    if rng.device.type != "cuda":
        return policy.act
    kept, out = torch.zeros(shape, device=rng.device), None

    def once():
        nonlocal out
        out = policy.act(kept, rng)

    program = replayed(once, rng)

    def act(states: Tensor, same: Streams) -> Tensor:
        kept.copy_(states)
        program()
        return out

    return act
