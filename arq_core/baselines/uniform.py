"""Uniform actions in the place of the behaviour model: what ARQ is without its restriction.

With these candidates Eq. 5 becomes ordinary Q-learning, whose maximum ranges over the whole box,
and Eq. 6 its greedy policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from arq_core.engine.streams import Streams


@dataclass(frozen=True)
class UniformBehavior:
    """Uniform density on the box [-1, 1]^A: log_prob = -A log 2 nats everywhere inside.

    See `types.Behavior`.
    """

    action_dim: int

    def sample(self, states: Tensor, n: int, rng: Streams) -> Tensor:
        return 2 * rng.rand(states.shape[1], n, self.action_dim) - 1

    def sample_with_log_prob(
        self, states: Tensor, n: int, rng: Streams, clip: bool = False
    ) -> tuple[Tensor, Tensor]:
        actions = self.sample(states, n, rng)
        return actions, self.log_prob(actions, states, rng)

    def log_prob(self, actions: Tensor, states: Tensor, rng: Streams) -> Tensor:
        return torch.full(actions.shape[:-1], -self.action_dim * math.log(2), device=actions.device)
