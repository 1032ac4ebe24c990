"""What passes between the steps of Algorithm 1.

One alphabet of shapes throughout: E members, B batch, M transitions, U distinct states, N candidates, S state, A action.
A member is a seed, an ensemble member or a twin critic: E copies of one network that are computed as one batch.
Actions live in the box [-1, 1]^A, as in every dataset of Table A.4; readers of other boxes rescale.
"""
from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Blocks, BlocksInMemory, NoStore, Store, fingerprint, join_blocks
from arq_core.engine.streams import Streams

__all__ = ["Behavior", "Blocks", "BlocksInMemory", "Budget", "DataError", "Hyper", "NoStore", "Policy", "QFunction", "Store", "SupportSet", "Transitions",
           "fingerprint", "join_blocks"]


class DataError(ValueError):
    """Input that cannot be used. The message names the field, what was seen, what was expected, and what to do."""


@dataclass(frozen=True)
class Transitions:
    """A dataset of transitions; each distinct state is stored once, and s and s' are rows of `states`.

    `terminals` says that the decision process ended, so nothing is bootstrapped; a time limit is never a terminal.
    `episode` is the only source of trajectory boundaries: transitions of one episode are consecutive and in order of time.
    """

    states: Float[Tensor, "U S"]
    state: Int[Tensor, "M"]
    next_state: Int[Tensor, "M"]
    actions: Float[Tensor, "M A"]
    rewards: Float[Tensor, "M"]
    terminals: Bool[Tensor, "M"]
    episode: Int[Tensor, "M"]

    def __post_init__(self):
        m = len(self.actions)
        for name, ndim in dict(states=2, state=1, next_state=1, actions=2, rewards=1, terminals=1, episode=1).items():
            x = getattr(self, name)
            if x.ndim != ndim or (name != "states" and len(x) != m):
                raise DataError(f"Transitions.{name}: saw shape {tuple(x.shape)}, expected {ndim} axes"
                                + (f" and length {m}, that of actions" if name != "states" else "")
                                + "; make all per-transition arrays the same length.")
            if x.is_floating_point() and not all(torch.isfinite(piece).all() for piece in x.split(2**16)):   # in pieces: no second copy
                bad = (~torch.isfinite(x)).nonzero()[0].tolist()
                raise DataError(f"Transitions.{name}: saw {x[tuple(bad)].item()} at index {bad}, expected finite numbers; "
                                "drop or repair these rows.")
        if m == 0:
            raise DataError("Transitions: saw no transition, expected at least one; check the file and its filters.")
        for name in ("state", "next_state"):
            rows = getattr(self, name)
            if int(rows.min()) < 0 or int(rows.max()) >= len(self.states):
                raise DataError(f"Transitions.{name}: saw rows {int(rows.min())} to {int(rows.max())}, expected 0 to "
                                f"{len(self.states) - 1}, rows of states.")
        if (most := float(max(self.actions.max(), -self.actions.min()))) > 1:
            raise DataError(f"Transitions.actions: saw a magnitude of {most:.6g}, expected the box "
                            "[-1, 1]; clip or rescale the actions (datasets.clip_actions counts what it clips).")

    @cached_property
    def next_transition(self) -> Int[Tensor, "M"]:
        """Row of the next transition of the same episode (it holds a'), or -1 after the episode's last."""
        m = torch.arange(1, len(self.actions) + 1, device=self.actions.device)
        follows = torch.zeros_like(self.terminals)
        follows[:-1] = self.episode[1:] == self.episode[:-1]
        return torch.where(follows, m, -1)

    def to(self, device: torch.device | str) -> Transitions:
        return Transitions(**{k: v.to(device) for k, v in self._arrays().items()})

    def _arrays(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def select(self, rows: Int[Tensor, "m"]) -> Transitions:
        """The transitions of these rows, in ascending order; states that none of them has are dropped."""
        chosen = {name: x[rows] for name, x in self._arrays().items() if name != "states"}
        used, row = torch.cat([chosen["state"], chosen["next_state"]]).unique(return_inverse=True)
        state, next_state = row.view(2, -1)
        return Transitions(**chosen | dict(states=self.states[used], state=state, next_state=next_state))

    def fingerprint(self) -> str:
        """SHA-256 over all arrays: two datasets with the same fingerprint are the same, transition by transition."""
        return fingerprint(self._arrays())


@dataclass(frozen=True)
class SupportSet:
    """N candidate actions for every distinct state, with their log-density under each member's behaviour model.

    Row u belongs to `Transitions.states[u]`; E is the axis of seeds. `log_prob` is in nats, of the STANDARDISED action (no
    Jacobian of the standardisation), as in the released code. It is kept, so epsilon can be moved without sampling again.
    """

    actions: Float[Tensor, "E U N A"]
    log_prob: Float[Tensor, "E U N"]

    def mask(self, log_epsilon: float) -> Bool[Tensor, "E U N"]:
        """Eq. 4: a candidate is in the support where log beta(a|s) >= log epsilon (nats)."""
        return self.log_prob >= log_epsilon


class Behavior(Protocol):
    """A model of the behaviour policy beta(a|s). `states` are raw [E, B, S]; actions are raw [E, B, n, A]."""

    def sample(self, states: Tensor, n: int, rng: Streams) -> Tensor: ...                          # [E B n A]
    def sample_with_log_prob(self, states: Tensor, n: int, rng: Streams) -> tuple[Tensor, Tensor]: ...   # and [E B n]
    def log_prob(self, actions: Tensor, states: Tensor, rng: Streams) -> Tensor: ...               # [E B n]


class QFunction(Protocol):
    """Q(s, a) of each member; actions [E, B, n, A] at states [E, B, S] give values [E, B, n]."""

    def __call__(self, states: Tensor, actions: Tensor) -> Tensor: ...


class Policy(Protocol):
    """`reset(n)` starts n episodes per member; `act` maps states [E, n, S] to actions [E, n, A] inside the box."""

    def reset(self, n: int) -> None: ...
    def act(self, states: Tensor, rng: Streams) -> Tensor: ...
