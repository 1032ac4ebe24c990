"""What passes between the steps of Algorithm 1.

One alphabet of shapes throughout: E members, B batch, M transitions, U distinct states,
N candidates, S state, A action. A member is a seed, an ensemble member or a twin critic: E copies
of one network that are computed as one batch.
Actions live in the box [-1, 1]^A, as in every dataset of Table A.4; readers of other boxes rescale.
"""
from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arq_core.engine.store import fingerprint
from arq_core.engine.streams import Streams

States = Float[Tensor, "E B S"]
Actions = Float[Tensor, "E B A"]             # one for each state
Candidates = Float[Tensor, "E B n A"]        # n for each state
Values = Float[Tensor, "E B n"]              # a number for each candidate


class DataError(ValueError):
    """Input that cannot be used: the field, what was seen, what was expected, what to do."""


@dataclass(frozen=True)
class Transitions:
    """A dataset of transitions; each distinct state is stored once, s and s' are rows of `states`.

    `terminals` says that the decision process ended, so nothing is bootstrapped; a time limit is
    never a terminal. `episode` is the only source of trajectory boundaries: transitions of one
    episode are consecutive and in order of time.
    """

    __no_type_check__ = True        # of the fields: they are checked below, with errors that help

    states: Float[Tensor, "U S"]
    state: Int[Tensor, " M"]
    next_state: Int[Tensor, " M"]
    actions: Float[Tensor, "M A"]
    rewards: Float[Tensor, " M"]
    terminals: Bool[Tensor, " M"]
    episode: Int[Tensor, " M"]

    def __post_init__(self):
        self._refuse_shapes_and_numbers()
        if len(self.actions) == 0:
            raise DataError("Transitions: saw no transition, expected at least one; check the file "
                            "and its filters.")
        for name in ("state", "next_state"):
            rows = getattr(self, name)
            if int(rows.min()) < 0 or int(rows.max()) >= len(self.states):
                raise DataError(f"Transitions.{name}: saw rows {int(rows.min())} to "
                                f"{int(rows.max())}, expected 0 to {len(self.states) - 1}, "
                                "rows of states.")
        if (most := float(max(self.actions.max(), -self.actions.min()))) > 1:
            raise DataError(f"Transitions.actions: saw a magnitude of {most:.6g}, expected the box "
                            "[-1, 1]; clip or rescale the actions (dataset.clip_actions counts "
                            "what it clips).")

    def _refuse_shapes_and_numbers(self) -> None:
        axes = dict(states=2, state=1, next_state=1, actions=2, rewards=1, terminals=1, episode=1)
        m = len(self.actions)
        for name, ndim in axes.items():
            x = getattr(self, name)
            if x.ndim != ndim or (name != "states" and len(x) != m):
                length = f" and length {m}, that of actions" if name != "states" else ""
                raise DataError(f"Transitions.{name}: saw shape {tuple(x.shape)}, expected {ndim} "
                                f"axes{length}; make all per-transition arrays the same length.")
            pieces = x.split(2**16) if x.is_floating_point() else ()         # no second copy of x
            if not all(torch.isfinite(piece).all() for piece in pieces):
                bad = (~torch.isfinite(x)).nonzero()[0].tolist()
                raise DataError(f"Transitions.{name}: saw {x[tuple(bad)].item()} at index {bad}, "
                                "expected finite numbers; drop or repair these rows.")

    @cached_property
    def next_transition(self) -> Int[Tensor, " M"]:
        """Row of the next transition of the episode (it holds a'), or -1 after its last."""
        m = torch.arange(1, len(self.actions) + 1, device=self.actions.device)
        follows = torch.zeros_like(self.terminals)
        follows[:-1] = self.episode[1:] == self.episode[:-1]
        return torch.where(follows, m, -1)

    def to(self, device: torch.device | str) -> Transitions:
        """The same transitions in the memory of `device`."""
        return Transitions(**{k: v.to(device) for k, v in self._arrays().items()})

    def _arrays(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def select(self, rows: Int[Tensor, " m"]) -> Transitions:
        """The transitions of these rows, in ascending order; states that none has are dropped."""
        chosen = {name: x[rows] for name, x in self._arrays().items() if name != "states"}
        used, row = torch.cat([chosen["state"], chosen["next_state"]]).unique(return_inverse=True)
        state, next_state = row.view(2, -1)
        renamed = dict(states=self.states[used], state=state, next_state=next_state)
        return Transitions(**chosen | renamed)

    def fingerprint(self) -> str:
        """SHA-256 over all arrays: equal fingerprints are equal data, transition by transition."""
        return fingerprint(self._arrays())


@dataclass(frozen=True)
class SupportSet:
    """N candidates for every distinct state, with log-density under each member's behaviour model.

    Row u belongs to `Transitions.states[u]`; E is the axis of seeds. `log_prob` is in nats, of the
    STANDARDISED action (no Jacobian of the standardisation), as in the released code. It is kept,
    so epsilon can be moved without sampling again.
    """

    actions: Float[Tensor, "E U N A"]
    log_prob: Float[Tensor, "E U N"]

    def mask(self, log_epsilon: float) -> Bool[Tensor, "E U N"]:
        """Which candidates are in the support."""
        return in_support(self.log_prob, log_epsilon)


def in_support(log_prob: Float[Tensor, "*rows n"], log_epsilon: float) -> Bool[Tensor, "*rows n"]:
    """Eq. 4: an action is in the support where log beta(a|s) >= log epsilon (nats)."""
    return log_prob >= log_epsilon


@dataclass(frozen=True)
class Pairs:
    """Standardised (s, a) to clone: all members' (rows `state` of `states`), or each its own."""

    states: Float[Tensor, "*own U S"]
    actions: Float[Tensor, "*own M A"]
    state: Int[Tensor, " M"] | None
    member: Int[Tensor, "EC 1"] | None = None

    def __getitem__(self, m: Int[Tensor, "EC B"],
                    ) -> tuple[Float[Tensor, "EC B A"], Float[Tensor, "EC B S"]]:
        """(actions, states) of pairs m."""
        if self.state is None:
            return self.actions[self.member, m], self.states[self.member, m]
        return self.actions[m], self.states[self.state[m]]


@runtime_checkable
class Behavior(Protocol):
    """A model of beta(a|s), the behaviour policy, at raw states and actions; log-density [nats].

    `clip` moves samples into the box before their density is asked, where that is a solve of its
    own; a density that comes with the sample is of the sample as drawn."""

    def sample(self, states: States, n: int, rng: Streams) -> Candidates: ...
    def sample_with_log_prob(self, states: States, n: int, rng: Streams,
                             clip: bool = False) -> tuple[Candidates, Values]: ...
    def log_prob(self, actions: Candidates, states: States, rng: Streams) -> Values: ...


@runtime_checkable
class QFunction(Protocol):
    """Q(s, a) of each member, in reward units."""

    def __call__(self, states: States, actions: Candidates) -> Values: ...


@runtime_checkable
class Policy(Protocol):
    """`reset(n)` starts n episodes per member; `act` chooses an action inside the box."""

    def reset(self, n: int) -> None: ...
    def act(self, states: States, rng: Streams) -> Actions: ...
