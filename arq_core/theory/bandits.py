"""Two one-state problems on which a penalty can be seen to fail: a good action that is rare in the
data, and a hole that tempts.

Actions fill [-1, 1], cut into N equal cells; behaviour, reward and the learner's Q are exact
numbers for each cell, so nothing has to be estimated to judge a policy. Q and rewards are in nats:
in units of the temperature of soft policy iteration (Theorem 1 has temperature 1). In the first Q
is right everywhere, so all that can be lost is lost to the penalty. In the second Q is right on the
data and wrong off them.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from arq_core.algorithm.types import DataError
from arq_core.engine.streams import Streams

CELLS = 200                            # of [-1, 1]: .01 wide, so that segments end between cells
# rewards: of the best action, of the frequent habit of `rare`, of the lesser mode of `hole`
GOOD, USUAL, LESS = 10.0, 5.0, 8.0


@dataclass(frozen=True)
class Bandit:
    """One state, N cells of actions."""

    name: str
    title: str
    beta: Float[Tensor, " N"]             # probabilities
    reward: Float[Tensor, " N"]           # the true one
    q: Float[Tensor, " N"]                # the learner's
    noise: float                          # std of a reward

    def __post_init__(self):
        shapes = {k: tuple(getattr(self, k).shape) for k in ("beta", "reward", "q")}
        if len(set(shapes.values())) > 1 or self.beta.ndim != 1:
            raise DataError(f"{self.name}: saw shapes {shapes}, expected three of one shape [N].")
        if (self.beta < 0).any() or abs(self.beta.sum() - 1) > 1e-4:
            raise DataError(f"{self.name}: beta: saw entries from {self.beta.min():.3g} and the "
                            f"sum {self.beta.sum():.4g}, expected probabilities of sum 1; divide "
                            "by the sum.")

    @property
    def cell(self) -> float:
        """The width of a cell, in units of the action."""
        return 2 / len(self.beta)

    @property
    def actions(self) -> Float[Tensor, " N"]:
        """The middles of the cells."""
        return (torch.arange(len(self.beta)) + 0.5) * self.cell - 1

    @property
    def log_beta(self) -> Float[Tensor, " N"]:
        """log density of the raw action, nats."""
        return (self.beta / self.cell).log()

    @property
    def inside(self) -> Bool[Tensor, " N"]:
        """Which cells are in the support of beta."""
        return self.beta > 0

    @property
    def best(self) -> float:
        """The reward of the best action in the support."""
        return self.reward[self.inside].max().item()

    def value(self, policy: Float[Tensor, "*rows N"]) -> Float[Tensor, "*rows"]:
        """The expected true reward as a share of the best in the support; 1 is the most that the
        data can vouch for."""
        return (policy * self.reward).sum(-1) / self.best

    def sample(self, m: int, rng: Streams) -> tuple[Float[Tensor, "E m"], Float[Tensor, "E m"]]:
        """m recorded (action, noisy reward): a cell by beta, a place in it evenly."""
        u, last = rng.rand(m), int(self.inside.nonzero().max())
        k = torch.searchsorted(self.beta.cumsum(0), u, right=True).clamp(max=last)
        actions = self.actions[k] + self.cell * (rng.rand(m) - 0.5)
        return actions, self.reward[k] + self.noise * rng.randn(m)


def _on(actions: Tensor, low: float, high: float) -> Tensor:
    return ((actions > low) & (actions < high)).float()


def _mixture(actions: Tensor, segments: Sequence[tuple[float, float, float]]) -> Tensor:
    """Probabilities of the cells, for uniform segments (low, high, mass)."""
    masses = torch.zeros_like(actions)
    for low, high, mass in segments:
        inside = _on(actions, low, high)
        masses = masses + mass * inside / inside.sum()
    return masses


def _middles() -> Tensor:
    return (torch.arange(CELLS) + 0.5) * 2 / CELLS - 1


def rare(rarity: float) -> Bandit:
    """A frequent habit on [-.7, -.1] with reward 5, and with probability `rarity` an action of
    [.4, .6] with reward 10; elsewhere 0. Q is exact. DataError for a rarity not in (0, 1)."""
    if not 0 < rarity < 1:
        raise DataError(f"rarity: saw {rarity}, expected a probability between 0 and 1: how often "
                        "the data hold the good action.")
    a = _middles()
    reward = USUAL * _on(a, -0.7, -0.1) + GOOD * _on(a, 0.4, 0.6)
    beta = _mixture(a, [(-0.7, -0.1, 1 - rarity), (0.4, 0.6, rarity)])
    title = f"a good action in {rarity:.1%} of the data"
    return Bandit("rare", title, beta, reward, reward.clone(), 0.5)


def hole(temptation: float) -> Bandit:
    """Two equal modes, [-.8, -.4] with reward 8 and [.4, .8] with reward 10; elsewhere 0. Between
    them Q is a parabola that rises to `temptation`."""
    a = _middles()
    reward = LESS * _on(a, -0.8, -0.4) + GOOD * _on(a, 0.4, 0.8)
    q = reward + temptation * (1 - (a / 0.4).square()) * _on(a, -0.4, 0.4)
    beta = _mixture(a, [(-0.8, -0.4, 0.5), (0.4, 0.8, 0.5)])
    return Bandit("hole", "a hole that tempts", beta, reward, q, 0.5)
