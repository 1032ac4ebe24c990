"""The bridge: a problem that the epsilon of Eq. 4 decides. With the filter ARQ crosses; without it,
it falls.

A bridge of ten planks winds through the air. At every step an action picks up coins of the next
plank (the more, the larger a_1) and moves sideways (a_2); beyond the edge it falls: -1, and the
episode ends. All coins together are worth 1.

The data were collected with a guide. In 1% of the steps the command slipped: a uniformly random
action, most often one that leads off the bridge. Then the guide caught the walker, picked up twice
the plank's coins and set it on the plank's middle. The walker is evaluated alone. So the data tell
the truth about the collection and are wrong about what they are used for, exactly where they are
thin: Q learns that stepping off pays double. Filter off: a score model that fits its data well
proposes such steps as often as they were made, N = 30 samples at each of ten planks contain some,
and the best Q picks them. Filter on: the density of a slip, about e^-8, is below epsilon = e^-5, so
they are dropped, and the best of what the behaviour really does is left. Leaks of an imperfect
score model into the same region act in the same way and add to it; a model that put no mass there
would not need the filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arq_core.envs.vector import check_count, check_step, checked_states

PLANKS = 10
# largest sideways distance of the middle from the axis, widths of an action of 1
SWAY = 0.4
HALF_WIDTH = 0.3  # of the bridge
START_STRAY = 0.12  # sideways distance from the middle at the start: uniform up to this
# the behaviour's a_1 is uniform on [-GRASP, GRASP]; coins grow from none to all over that range
GRASP = 0.6
STRAY = 0.05  # standard deviation of the behaviour's a_2 around the next middle
SLIP_CHANCE = 0.01  # of a uniformly random action in the collected data
CAUGHT_REWARD = 2 / PLANKS  # for a step that the guide caught
FALL_REWARD = -1.0


def middle(plank: np.ndarray) -> np.ndarray:
    """Sideways position of the middle of the bridge at each plank."""
    return (SWAY * np.sin(0.9 * plank)).astype(np.float32)


class BridgeEnvs:
    """State: (plank from 0 to PLANKS, sideways position).

    With `guide` nobody falls: that is how data are collected, never evaluated.
    """

    state_dim, action_dim, horizon = 2, 2, PLANKS + 5

    def __init__(self, n: int, guide: bool = False):
        self.n, self.guide = n, guide
        self.plank, self.sideways = np.zeros((2, n), np.float32)

    def place(self, states: np.ndarray) -> np.ndarray:
        """Starts episodes at given states [n, 2]."""
        self.plank, self.sideways = checked_states("BridgeEnvs.place", states, 2).T
        return self._state()

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start n episodes, one a seed: states [n, 2] on plank 0, START_STRAY off at most.
        EnvError for no seeds, or for more than it was made for.
        """
        check_count("BridgeEnvs.reset", len(seeds), self.n)
        stray = [np.random.default_rng(s).uniform(-START_STRAY, START_STRAY) for s in seeds]
        return self.place(np.stack([np.zeros(len(stray)), stray], 1))

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One plank on, actions clipped: states [n, 2]; rewards [n], the plank's coins by a_1, or
        FALL_REWARD (guide: CAUGHT_REWARD); terminated [n], fallen or across; success [n], across.
        """
        check_step("BridgeEnvs.step", actions, (len(self.plank), 2))
        grasp, move = np.clip(np.asarray(actions, np.float32), -1, 1).T
        self.plank = np.minimum(self.plank + 1, PLANKS)
        self.sideways = self.sideways + move
        off = np.abs(self.sideways - middle(self.plank)) > HALF_WIDTH
        coins = np.clip((grasp + GRASP) / (2 * GRASP), 0, 1) / PLANKS
        crossed = self.plank >= PLANKS
        if self.guide:
            self.sideways = np.where(off, middle(self.plank), self.sideways)
            return self._state(), np.where(off, CAUGHT_REWARD, coins), crossed, crossed
        return self._state(), np.where(off, FALL_REWARD, coins), off | crossed, crossed & ~off

    def _state(self) -> np.ndarray:
        return np.stack([self.plank, self.sideways], 1).astype(np.float32)
