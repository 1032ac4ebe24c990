"""Simulators as vectors of episodes: `reset(seeds) -> states`, `step(actions) -> states, rewards,
terminated, success`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class EnvError(RuntimeError):
    """A simulator that cannot be used, or is used wrongly.

    The message says what was seen, what was expected, and what to do.
    """


class VectorEnv(Protocol):
    """n environments as one. A finished one may be stepped on; what it returns then is ignored.

    One with worker processes also has `close()`, which ends them; `reset` starts new ones.
    Actions are in [-1, 1]; one that stretches them to another box says it: `action_box`, a pair of
    lowest and highest actions [A]. One that puts its states together from named parts says these
    in order: `layout` (envs.layout).
    """

    state_dim: int
    action_dim: int
    horizon: int

    def reset(self, seeds: list[int]) -> np.ndarray:
        """Start n episodes, one a seed: states [n, S]. EnvError where it cannot run so many."""
        ...

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """One step with actions [n, A]: states [n, S], rewards [n], terminated [n], success [n]."""
        ...


def close(envs) -> None:
    """Close a simulator that can be closed; one without `close`, or none, is left."""
    if callable(how := getattr(envs, "close", None)):
        how()


def check_count(who: str, seen: int, most: int, what: str = "seeds") -> None:
    """Refuse no episodes, and more than a simulator was made for."""
    if not 0 < seen <= most:
        raise EnvError(
            f"{who}: saw {seen} {what}, expected 1 to {most}; make one for {max(1, seen)}."
        )


def checked_states(who: str, states, width: int) -> np.ndarray:
    """States [n, width] in which episodes shall begin, float32: at least one, all finite."""
    states = np.asarray(states, np.float32)
    if states.ndim != 2 or not len(states) or states.shape[1] != width:
        raise EnvError(
            f"{who}: saw states of shape {states.shape}, expected at least one row of {width} "
            "numbers, one an episode."
        )
    if not np.isfinite(states).all():
        raise EnvError(
            f"{who}: saw {int((~np.isfinite(states)).sum())} entries that are not finite, "
            "expected numbers; start elsewhere."
        )
    return states


def check_step(
    who: str, actions: np.ndarray, shape: tuple[int, int], live: np.ndarray | None = None
) -> None:
    """Refuse actions of another shape, and those of running episodes (`live` [n]; None: of none)
    that are not finite.
    """
    fits = np.shape(actions) == shape
    bad = int((~np.isfinite(actions[live])).sum()) if fits and live is not None else 0
    if not fits or bad:
        raise EnvError(
            f"{who}: saw actions of shape {np.shape(actions)}, {bad} entries not finite, expected "
            f"finite actions of shape {shape}, one row per seed; reset first."
        )
