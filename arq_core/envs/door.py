"""The door of `envs.adroit` under the names that readers of its demonstrations use."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from arq_core.envs import adroit
from arq_core.envs.adroit import DOOR, DoorEnvs, door_envs, simulator_versions

__all__ = [
    "ACTION_DIM",
    "HORIZON",
    "STATE_DIM",
    "DoorEnvs",
    "d4rl_reward",
    "door_envs",
    "make_door",
    "simulator_versions",
]

STATE_DIM, ACTION_DIM, HORIZON = DOOR.state_dim, DOOR.action_dim, DOOR.horizon


def make_door(**options):
    """One simulator without time limit or checking wrappers.

    `options` go to Gymnasium (render_mode, width, height).
    """
    return adroit.make_simulator(DOOR.simulator, **options)


def d4rl_reward(reward: float, state: Float[np.ndarray, " 39"]) -> float:
    """D4RL's reward from the simulator's, which adds 0.1·‖palm - handle‖ where D4RL subtracts
    it.
    """
    return adroit.d4rl_reward(DOOR, reward, state)
