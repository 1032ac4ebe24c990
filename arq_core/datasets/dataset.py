"""Readers, rebuilders and collectors: each turns a source into a `Dataset`. No mathematics here."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

from arq_core.algorithm.types import DataError, Transitions
from arq_core.config.labels import FIDELITIES
from arq_core.engine.store import fingerprint
from arq_core.envs.layout import Layout

if TYPE_CHECKING:
    from arq_core.datasets.boxes import Box

# Readers clip to the box itself. The released code shrinks the box by 1e-5 first (FACTS: "dataset
# actions clipped to the box shrunk by 1e-5"), which would also move, and count as clipped, every
# action that lies on the box's face.
BOX_MARGIN = 0.0
CLIPPED = "clipped "  # how the note of `clip_actions` begins


@dataclass(frozen=True)
class Dataset:
    """Transitions and where they come from.

    `sha256` is that of the source file, or the fingerprint of collected transitions.
    """

    transitions: Transitions
    sha256: str
    fidelity: str  # a key of FIDELITIES
    source: str  # a file or an address, and the recipe in a few words
    notes: tuple[str, ...] = ()  # what the reader changed, one sentence each, with counts
    name: str = ""  # of data of one's own, where they have one besides their file's
    # the parts that a state is joined from, and their widths; () where they have no names
    layout: Layout = ()
    # the box in which the actions were recorded (datasets.boxes); None where nobody says it
    bounds: Box | str | None = None
    # the actions as recorded [M, A], where `transitions` has them scaled or clipped and a
    # simulator's box may still decide; None where they are the same, or of [-1, 1] for certain
    recorded: torch.Tensor | None = None

    def __post_init__(self):
        if self.fidelity not in FIDELITIES:
            raise DataError(
                f"Dataset.fidelity: saw {self.fidelity!r}, expected one of "
                f"{', '.join(FIDELITIES)}; use 'own' for data of your own."
            )

    @property
    def state_dim(self) -> int:
        """S, how many numbers a state has."""
        return self.transitions.states.shape[1]

    @property
    def action_dim(self) -> int:
        """A, how many numbers an action has."""
        return self.transitions.actions.shape[1]


def clip_actions(actions, low: float = -1 + BOX_MARGIN, high: float = 1 - BOX_MARGIN):
    """Actions (an array or a tensor of any shape) clipped to [low, high], and a sentence that
    counts the clipped entries.
    """
    outside = int(((actions < low) | (actions > high)).sum())
    total = math.prod(actions.shape)
    note = (
        f"{CLIPPED}{outside:,} of {total:,} action entries "
        f"({outside / max(1, total):.1%}) to the box [{low:g}, {high:g}]"
    )
    return actions.clip(low, high), note


def boxed(actions, fidelity: str):
    """What a reader does with recorded actions [M A]: `clip_actions`, and the array as it was where
    that changed data of one's own, of which nobody has said the box yet (else None).
    """
    clipped, note = clip_actions(actions)
    keep = fidelity == "own" and bool((clipped != actions).any())
    return clipped, note, actions if keep else None


def fingerprint_of(transitions: Transitions, recorded: torch.Tensor | None) -> str:
    """The hash of transitions; where their actions were clipped, that of the ones recorded."""
    if recorded is None:
        return transitions.fingerprint()
    arrays = {f.name: getattr(transitions, f.name) for f in fields(transitions)}
    return fingerprint(arrays | dict(actions=recorded))


def thin(dataset: Dataset, most: int) -> Dataset:
    """At most `most` transitions of a dataset (0: all), in whole episodes spread evenly over it,
    and a note that says so.

    A first episode that is longer than `most` is cut there. For budgets that cannot afford the
    whole; the hash stays the dataset's.
    """
    data = dataset.transitions
    if not most or len(data.actions) <= most:
        return dataset
    _, episode, lengths = data.episode.unique_consecutive(return_inverse=True, return_counts=True)
    few, many = 0, len(lengths)
    # the most episodes that fit, by bisection
    while many - few > 1:
        count = (few + many) // 2
        few, many = (
            (count, many)
            if int(lengths[_spread(count, len(lengths))].sum()) <= most
            else (few, count)
        )
    chosen = torch.zeros(len(lengths), dtype=torch.bool)
    chosen[_spread(max(few, 1), len(lengths))] = True
    rows = chosen[episode].nonzero().squeeze(1)[:most]
    note = (
        f"learned from {len(rows):,} of {len(data.actions):,} transitions: "
        f"{max(few, 1):,} of {len(lengths):,} episodes, as the profile affords"
    )
    recorded = None if dataset.recorded is None else dataset.recorded[rows]
    return replace(
        dataset,
        transitions=data.select(rows),
        notes=(*dataset.notes, note),
        recorded=recorded,
    )


def _spread(count: int, among: int) -> torch.Tensor:
    """`count` numbers from 0 to among - 1, evenly spaced."""
    return torch.arange(count) * among // max(count, 1)
