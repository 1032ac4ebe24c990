"""What the neighbours share: their settings, the batch that all parts of a step see, a policy that
draws its actions, and formulas that more than one of them has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arq_core.algorithm.types import (
    Actions,
    Candidates,
    DataError,
    States,
    Transitions,
    Values,
)
from arq_core.engine.machine import nth
from arq_core.engine.streams import Streams

EDGE = 1e-5  # IQL's and jaxrl's: recorded actions are kept so far inside the box


class Settings:
    """A neighbour's settings (data/neighbours.toml); one that is not given, or no number where one
    is wanted, is named."""

    def __init__(self, method: str, given: Mapping[str, float | str], needed: Iterable[str]):
        self.method, self.given = method, given
        if missing := sorted(set(needed) - given.keys()):
            raise DataError(
                f"{method}: saw no {', '.join(missing)} among its settings "
                f"({', '.join(given) or 'none'}), expected "
                f"{'them' if len(missing) > 1 else 'it'}; add to the section of {method} in "
                "data/neighbours.toml, for this group or for all, or to `changes`."
            )

    def __getitem__(self, name: str) -> float:
        """A number."""
        value = self.given[name]
        if isinstance(value, str):
            raise DataError(
                f"{self.method}.{name}: saw {value!r}, expected a number; change it in "
                "data/neighbours.toml."
            )
        return value

    def count(self, name: str) -> int:
        """A number of something, 1 or more."""
        value = self[name]
        if value != int(value) or value < 1:
            raise DataError(
                f"{self.method}.{name}: saw {value}, expected an integer of 1 or more; change it "
                "in data/neighbours.toml."
            )
        return int(value)

    def one_of(self, name: str, known: Iterable[str]) -> str:
        """A name out of some."""
        value = self.given[name]
        if value not in (known := list(known)):
            raise DataError(
                f"{self.method}.{name}: saw {value!r}, expected one of "
                f"{', '.join(map(repr, known))}; change it in data/neighbours.toml."
            )
        return str(value)


class Batch:
    """Transitions that are drawn once a step, with replacement, and seen by all of its updates.

    `rows` are those that may be drawn (None: all); `actions` are clipped to 1 - `edge`.
    """

    m: Int[Tensor, "E B"]
    states: States
    actions: Actions
    rewards: Float[Tensor, "E B"]
    going_on: Float[Tensor, "E B"]  # 0 behind a terminal, else 1
    next_states: States

    def __init__(
        self,
        data: Transitions,
        size: int,
        rng: Streams,
        rows: Int[Tensor, " R"] | None = None,
        edge: float = EDGE,
    ):
        self.data, self.size, self.rng, self.rows, self.edge = data, size, rng, rows, edge

    def draw(self) -> None:
        """The next batch."""
        data, rows = self.data, self.rows
        m = self.rng.randint(len(data.actions) if rows is None else len(rows), self.size)
        self.m = m if rows is None else rows[m]
        self.states = data.states[data.state[self.m]]
        self.actions = data.actions[self.m].clamp(-1 + self.edge, 1 - self.edge)
        self.rewards = data.rewards[self.m]
        self.going_on = (~data.terminals[self.m]).float()
        self.next_states = data.states[data.next_state[self.m]]

    @property
    def recorded(self) -> Actions:
        """The actions as they were recorded, not clipped."""
        return self.data.actions[self.m]


@torch.no_grad()
def bellman(batch: Batch, gamma: float, after: Float[Tensor, "E B"]) -> Float[Tensor, "E B"]:
    """r + gamma (1 - d) v(s'), where `after` is v(s')."""
    return batch.rewards + gamma * batch.going_on * after


def expectile_loss(u: Float[Tensor, "*rows B"], expectile: float) -> Float[Tensor, "*rows"]:
    """Mean |expectile - 1(u < 0)| u² (Kostrikov et al. 2022, Eq. 5): least at the expectile of what
    u is measured against."""
    return (expectile_weights(u, expectile) * u.square()).mean(-1)


def expectile_weights(u: Float[Tensor, "*rows B"], expectile: float) -> Float[Tensor, "*rows B"]:
    """|expectile - 1(u < 0)|."""
    return torch.where(u < 0, 1 - expectile, expectile)


def smoothed(actions: Actions, noise: Actions, most: float) -> Actions:
    """clip(a + clip(noise, ±most), ±1): the target's action (Fujimoto et al. 2018, TD3)."""
    return (actions + noise.clamp(-most, most)).clamp(-1, 1)


def of_unit_size(q: Float[Tensor, "E B"]) -> Float[Tensor, "E B"]:
    """Q over the batch's mean |Q|, through which no gradient goes (Fujimoto and Gu 2021,
    TD3_BC.py)."""
    return q / q.detach().abs().mean(-1, keepdim=True)


def standardised(
    data: Transitions, eps: float
) -> tuple[Transitions, Float[Tensor, " S"], Float[Tensor, " S"]]:
    """The data with states (s - mean)/(std + eps), over the states of all transitions; mean, and
    std + eps."""
    seen = data.states[data.state].double()
    mean, scale = seen.mean(0).float(), (seen.std(0, correction=0) + eps).float()
    return replace(data, states=(data.states - mean) / scale), mean, scale


def training_key(
    method: str,
    settings: Mapping[str, float | str],
    data: Transitions,
    rng: Streams,
    steps: int,
    gamma: float,
    precision: str,
    **more: object,
) -> dict:
    """What a training of a neighbour depends on: its finished steps are kept under it."""
    key = dict(method=method, settings=dict(settings), data=data.fingerprint(), seeds=rng.seeds)
    return key | dict(steps=steps, gamma=gamma, precision=precision) | more


class Source(Protocol):
    """What draws n actions for each state: a network or a record, so that it can be kept."""

    def draw(self, states: States, n: int, rng: Streams) -> Candidates: ...


@dataclass(frozen=True)
class FirstCritic:
    """Q(s, a) of the first of several critics, which policies ask."""

    critics: nn.Module  # networks.Critics

    def __call__(self, states: States, actions: Candidates) -> Values:
        """Its values."""
        return self.critics(states, actions)[:, 0]


@dataclass(frozen=True)
class Drawing:
    """A policy that draws n actions for each state, clipped to the box, and takes the one that q
    values most; without a q, the first."""

    source: Source
    n: int = 1
    q: FirstCritic | None = None

    replayable = True  # `act` never waits for the device

    def reset(self, n: int) -> None:
        """Nothing to forget: the policy has no memory."""

    @torch.no_grad()
    def act(self, states: States, rng: Streams) -> Actions:
        """An action for each state, in the box."""
        candidates = self.source.draw(states, self.n, rng).clamp(-1, 1)
        if self.q is None:
            return candidates[:, :, 0]
        return nth(candidates, self.q(states, candidates).argmax(-1))
