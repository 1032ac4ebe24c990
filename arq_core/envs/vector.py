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
