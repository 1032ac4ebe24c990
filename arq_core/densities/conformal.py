"""A line through the clone's density that a chosen share of recorded actions falls below: the
split-conformal choice of epsilon.

Actions that the clone was not trained on are judged by its density, and epsilon is one of their
densities, counted from below. If a new recorded action is exchangeable with the n held-out ones, it
falls below the line with a probability of at most delta and more than delta - 1/(n + 1) (the
latter where no two densities are equal), whatever the clone, the behaviour and the number of
dimensions. This is of the mean over held-out sets; the share below the line of one set is a Beta
number (`law_of_dropped`). Nothing is said of a single state, nor of actions that nobody recorded.

Steps of one episode are not exchangeable with those of another. Whole episodes are held out
(`hold_out`), so that the clone has seen no neighbour of what it is judged by. What this leaves:
where actions of an episode are alike, n of them tell less than n drawn one by one, and the share of
one held-out set is spread wider than the Beta law says. With one action of each held-out episode
(`one_of_each`) the promise holds as it stands, if the episodes are exchangeable.

Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World; Lei, G'Sell, Rinaldo,
Tibshirani and Wasserman 2018, Distribution-Free Predictive Inference for Regression; Angelopoulos
and Bates 2023, Conformal Prediction: A Gentle Introduction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arq_core.algorithm.types import Behavior, Candidates, DataError, States, Transitions, Values
from arq_core.engine.streams import Streams

ROWS = 4096  # held-out actions whose density is asked at once


def order_of_line(n: int, delta: float) -> int:
    """k = floor((n + 1) delta): the line is the k-th smallest of n held-out log-densities.

    DataError where delta is not between 0 and 1, or where n is too small for it, so that k is 0.
    """
    if not 0 < delta < 1:
        raise DataError(f"delta: saw {delta}, expected a share between 0 and 1, such as 0.01.")
    k = math.floor((n + 1) * _exact(delta))
    if k == 0:
        raise DataError(
            f"held-out actions: saw {n}, expected at least {fewest(delta)} for delta = {delta:g}; "
            "hold out more episodes, or choose a delta of "
            f"{math.ceil(1000 / (n + 1)) / 1000:g} or more."
        )
    return k


def fewest(delta: float) -> int:
    """The least number of held-out actions from which a line for delta can be drawn."""
    return math.ceil(1 / _exact(delta)) - 1


def _exact(delta: float) -> Fraction:
    """The decimal number that was written: 100 times the float 0.29 is less than 29."""
    return Fraction(str(float(delta)))


def conformal_line(log_prob: Float[Tensor, "*rows n"], delta: float) -> Float[Tensor, "*rows"]:
    """log epsilon (nats) that a new action falls below with a probability of at most delta: the
    `order_of_line`-th smallest of n held-out log-densities (Lei et al. 2018, split conformal).

    Below is less than: Eq. 4 keeps an action whose density is epsilon. DataError for log-densities
    that are not numbers, and as `order_of_line`.
    """
    if torch.isnan(log_prob).any():
        raise DataError(
            f"held-out log-densities: saw {int(torch.isnan(log_prob).sum())} that are not numbers, "
            "expected none; train the clone with a lower learning rate."
        )
    return log_prob.sort(-1).values[..., order_of_line(log_prob.shape[-1], delta) - 1]


def law_of_dropped(n: int, delta: float) -> tuple[int, int]:
    """(a, b) of the Beta law of the share of new actions below the line of one held-out set, over
    sets of n independent actions of a continuous density (Angelopoulos and Bates 2023, on the size
    of the calibration set)."""
    k = order_of_line(n, delta)
    return k, n + 1 - k


def recordings(data: Transitions) -> Int[Tensor, " N"]:
    """The row where each recording begins: an episode's first, unless the row before led there (a
    recording of OGBench's goes on behind a terminal)."""
    begins = torch.ones_like(data.terminals)
    begins[1:] = (data.episode[1:] != data.episode[:-1]) & (data.state[1:] != data.next_state[:-1])
    return begins.nonzero().squeeze(1)


def hold_out(data: Transitions, share: float, seed: int = 0) -> tuple[Transitions, Transitions]:
    """(what the clone learns from, what is held out): whole episodes, drawn at random, about a
    `share` of them and at least one on either side.

    DataError for a share that is not between 0 and 1, and where there is one episode only.
    """
    if not 0 < share < 1:
        raise DataError(f"share: saw {share}, expected one between 0 and 1, such as 0.1.")
    episode = torch.zeros(len(data.actions), dtype=torch.long)
    episode[recordings(data).cpu()] = 1
    episode = episode.cumsum(0) - 1
    count = int(episode[-1]) + 1
    if count < 2:
        raise DataError(
            f"episodes: saw {count} ({len(data.actions)} transitions), expected at least 2, one to "
            "learn from and one to hold out; record more, or give log_epsilon a number."
        )
    held = min(max(round(share * count), 1), count - 1)
    order = Streams([seed]).fork("held out").rand(count)[0].argsort()
    is_held = torch.isin(episode, order[:held])
    rows = [x.nonzero().squeeze(1).to(data.episode.device) for x in (~is_held, is_held)]
    return data.select(rows[0]), data.select(rows[1])


def one_of_each(data: Transitions, seed: int = 0) -> Int[Tensor, " episodes"]:
    """A row of each episode, drawn at random: actions that are exchangeable where their episodes
    are (Dunn, Wasserman and Ramdas 2023, Distribution-Free Prediction Sets for Two-Layer
    Hierarchical Models)."""
    first = recordings(data).cpu()
    lengths = first.diff(append=torch.tensor([len(data.actions)]))
    u = Streams([seed]).fork("one of each").rand(len(lengths), dtype=torch.float64)[0]
    rows = first + (u * lengths).long()
    return rows.to(data.episode.device)


@torch.no_grad()
def recorded_log_prob(behavior: Behavior, data: Transitions, rng: Streams) -> Float[Tensor, "E M"]:
    """The log-density (nats) of every recorded action at its state, by each member's clone."""
    found = []
    for rows in torch.arange(len(data.actions), device=data.actions.device).split(ROWS):
        states = data.states[data.state[rows]].expand(len(rng), -1, -1)
        actions = data.actions[rows][:, None].expand(len(rng), -1, -1, -1)
        streams = rng.fork("recorded", int(rows[0]))
        found.append(behavior.log_prob(actions, states, streams).squeeze(-1))
    return torch.cat(found, 1)


@dataclass(frozen=True)
class Relative:
    """A behaviour whose log-densities are counted from a `line` of each member, so that log epsilon
    is 0 for all of them (types.Behavior)."""

    behavior: Behavior
    line: Float[Tensor, "E 1 1"]

    @property
    def budget(self):
        """What its solves may cost: that of the behaviour."""
        return getattr(self.behavior, "budget", None)

    def sample(self, states: States, n: int, rng: Streams) -> Candidates:
        """n actions for each state."""
        return self.behavior.sample(states, n, rng)

    def sample_with_log_prob(
        self, states: States, n: int, rng: Streams, clip: bool = False
    ) -> tuple[Candidates, Values]:
        """n actions for each state, and by how many nats their log-density exceeds the line."""
        actions, log_prob = self.behavior.sample_with_log_prob(states, n, rng, clip)
        return actions, log_prob - self.line

    def log_prob(self, actions: Candidates, states: States, rng: Streams) -> Values:
        """By how many nats the log-density of actions exceeds the line."""
        return self.behavior.log_prob(actions, states, rng) - self.line
