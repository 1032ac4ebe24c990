"""Episodes: all episodes of all seeds step together, with final weights only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm.types import DataError, Policy
from arq_core.engine.machine import replayed
from arq_core.engine.streams import Streams, derive_seed
from arq_core.envs.layout import Layout, said_by, text
from arq_core.envs.vector import EnvError, VectorEnv, close


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


def check_layout(envs: VectorEnv, layout: Layout) -> None:
    """Refuse an environment that joins its states from other parts than the data, or in another
    order, where both say from which; before training too.
    """
    seen = said_by(envs)
    if seen and layout and seen != layout:
        raise DataError(
            f"environment: saw states of {text(seen)}, expected {text(layout)}, as in the "
            "training data: the same numbers would mean other things; evaluate in the environment "
            "that the data came from, or read the data in its order."
        )


def usable_states(states, n: int, width: int, live: np.ndarray, when: str) -> np.ndarray:
    """States [n, S] as an array; EnvError for another shape, or where those of episodes that are
    `live` [n] are not finite (as float32).
    """
    states = _numbers(states, "states", n, n * width, (n, width), when)
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(states.reshape(n, -1)[live].astype(np.float32)).all(-1)
    _refuse_nan(bad, "states", when)
    return states


def usable_step(step, n: int, width: int, live: np.ndarray, when: str) -> tuple[np.ndarray, ...]:
    """What a step returned: states [n, S], rewards, terminated and success [n]; EnvError where it
    is not that, or not finite for episodes that were `live` [n].
    """
    if not isinstance(step, tuple | list) or len(step) != 4:
        seen = f"{len(step)} values" if isinstance(step, tuple | list) else type(step).__name__
        raise EnvError(
            f"environment: saw {seen} from step {when}, expected four: states, rewards, terminated "
            "and success of all episodes (arq_core.envs.vector); return these."
        )
    rewards, terminated, success = (
        _numbers(x, name, n, n, (n,), when).reshape(n)
        for name, x in zip(("rewards", "terminated", "success"), step[1:], strict=True)
    )
    _refuse_nan(~np.isfinite(rewards[live]), "rewards", when)
    for name, x in (("terminated", terminated), ("success", success)):
        _refuse_nan(~np.isfinite(x[live]), name, when)
    terminated, success = terminated.astype(bool), success.astype(bool)
    states = usable_states(step[0], n, width, live & ~terminated, when)
    return states, rewards, terminated, success


def _numbers(x, name: str, n: int, size: int, shape: tuple[int, ...], when: str) -> np.ndarray:
    try:
        array = np.array(None) if np.ma.is_masked(x) else np.asarray(x)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors that need grad
        array = np.array(None)
    if array.dtype.kind not in "fiub" or array.size != size or array.shape[:1] != (n,):
        raise EnvError(
            f"environment: saw {name} of shape {array.shape} ({array.dtype}) {when}, expected "
            f"numbers of shape {shape}, one row an episode; mend the environment."
        )
    return array


def _refuse_nan(bad: np.ndarray, name: str, when: str) -> None:
    """What is not a number is never averaged."""
    if bad.any():
        raise EnvError(
            f"environment: saw {name} that are not finite in {int(bad.sum())} of {len(bad)} "
            f"episodes {when}, expected finite numbers; mend the environment: nothing is scored "
            "from these."
        )


def evaluate(
    policy: Policy, envs: VectorEnv, episodes: int, rng: Streams, horizon: int
) -> dict[str, np.ndarray]:
    """`episodes` episodes for each of the E members of `rng`: arrays [E, episodes] of return (raw,
    undiscounted), length, success.

    Episode i of seed e starts from a seed of its own, the same for every method, and is cut after
    `horizon` steps. Success is success at any step. A policy with `observe(rewards)` is told after
    each step what it earned, [E, episodes], raw, and 0 behind the end of an episode. `envs` are
    closed at the end, and after an error or Ctrl-C too, where they can be closed.
    """
    try:
        return _episodes(policy, envs, episodes, rng, horizon)
    finally:
        close(envs)


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
    observe = getattr(policy, "observe", None)
    n, width, live = len(starts), envs.state_dim, np.ones(len(starts), bool)
    states = usable_states(envs.reset(starts), n, width, live, "at the start")
    returns, lengths = np.zeros(shape, np.float64), np.zeros(shape, np.int64)
    success, running = np.zeros(shape, bool), np.ones(shape, bool)
    for t in tqdm(range(horizon), desc="evaluate", mininterval=1.0):
        s = torch.as_tensor(states, dtype=torch.float32).view(*shape, -1).to(draws.device)
        actions = act(s, draws).cpu().numpy().reshape(shape[0] * shape[1], -1)
        _refuse_diverged(actions[running.ravel()], t)
        states, rewards, terminated, reached = usable_step(
            envs.step(actions), n, width, running.ravel(), f"at step {t}"
        )
        earned = np.where(running, rewards.reshape(shape), 0.0)
        if observe is not None:
            observe(torch.as_tensor(earned, dtype=torch.float32).to(draws.device))
        returns += earned
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
