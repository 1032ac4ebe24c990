"""The box that recorded actions fill, and how they come from it to [-1, 1], where policies act.

The box is a property of the data. Minari's metadata state it; arrays and files in D4RL's or
robomimic's layout do not: `bounds` says it for them, a pair of lowest and highest actions (two
numbers, or two per dimension), a Box of Gymnasium's, or the word "normalized" for actions that are
in [-1, 1] already and are stretched to the simulator's box. Where nobody says it, the simulator's
box is taken. Official files and our own tasks are of [-1, 1] and never come here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arq_core.algorithm.types import DataError
from arq_core.datasets.dataset import CLIPPED, Dataset, clip_actions

NORMALIZED = "normalized"
# Ours: a share of entries outside of the box that is clipped and counted; beyond it the box is
# taken to be the wrong one. People move farther out where their hand's commands are recorded: 5.6%
# of the entries of D4RL's human door, whose box is known, so a file that states its own box may.
MOST_OUTSIDE, MOST_OUTSIDE_STATED = 0.08, 0.10
# Ours: of one dimension's entries, where nobody states the box. A gripper's commands of 0 and 255
# are few among those of a hand.
MOST_OF_ONE = 1 / 3
# beyond 1 by no more than this is rounding
ROUNDING = 1e-3
SCALED, UNSAID = "scaled actions", "nobody said"  # how notes begin
SHOWN = 6  # dimensions of a box that a message lists
TO_SAY = (
    "say the box in which they were recorded: bounds=(low, high) (numbers, or one per dimension), "
    f"or bounds='{NORMALIZED}' where they are in [-1, 1] already (make row: BOUNDS=low:high)"
)


# None, NORMALIZED, a pair (low, high) of numbers or arrays [A], or a Box of Gymnasium's
Bounds = Any


@dataclass(frozen=True)
class Box:
    """Lowest and highest action, float32, one number per dimension."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __str__(self) -> str:
        pairs = sorted({*zip(self.low, self.high, strict=True)})
        if len(pairs) == 1:
            return f"[{pairs[0][0]:g}, {pairs[0][1]:g}]"
        low, high = (
            ", ".join(f"{x:g}" for x in side[:SHOWN]) + (", ..." if len(side) > SHOWN else "")
            for side in (self.low, self.high)
        )
        return f"[{low}] to [{high}]"

    def same(self, other: Box) -> bool:
        """Whether both are one box, apart from rounding."""
        return len(self.low) == len(other.low) and all(
            math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6)
            for a, b in zip(self.low + self.high, other.low + other.high, strict=True)
        )

    def within(self, other: Box) -> bool:
        """Whether this box leaves the other in no dimension."""
        return all(
            a >= c and b <= d
            for a, b, c, d in zip(self.low, self.high, other.low, other.high, strict=True)
        )


def unit(width: int) -> Box:
    """[-1, 1] in every dimension."""
    return Box((-1.0,) * width, (1.0,) * width)


def box_of(low, high, width: int, where: str = "bounds") -> Box:
    """A box of `width` dimensions from bounds that are numbers or one per dimension; DataError for
    bounds that are not finite, or of which the lower is above the other; or no action is left. A
    dimension may have one value alone: an actuator that is locked.
    """
    try:
        sides = [np.broadcast_to(np.asarray(x, np.float32).reshape(-1), width) for x in (low, high)]
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{where}: saw no usable low and high ({error}), expected "
            f"{width} bounds each; repair it."
        ) from error
    fine = np.isfinite(sides[0]) & np.isfinite(sides[1]) & (sides[0] <= sides[1])
    if not fine.all() or not (sides[0] < sides[1]).any():
        raise DataError(
            f"{where}: saw low {sides[0].tolist()} and high {sides[1].tolist()}, "
            "expected finite bounds, low below high: actions live in a box; write the "
            "bounds of the actuators."
        )
    return Box(*(tuple(side.tolist()) for side in sides))


def given(bounds: Bounds, width: int, where: str = "bounds") -> Box | str | None:
    """What a user says of the box: a Box, NORMALIZED, or None for nothing."""
    if bounds is None or isinstance(bounds, str) and bounds in ("", NORMALIZED):
        return bounds or None
    if isinstance(bounds, Box):
        return box_of(bounds.low, bounds.high, width, where)
    pair = (bounds.low, bounds.high) if hasattr(bounds, "low") else bounds
    if isinstance(pair, str) and pair.count(":") == 1:  # of a command line
        pair = [[x.strip() for x in side.split(",")] for side in pair.split(":")]
    if isinstance(pair, str) or not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
        raise DataError(
            f"{where}: saw {str(bounds)[:80]!r}, expected a pair (low, high) of numbers or of "
            f"{width} numbers each, such as (-2, 2), or '{NORMALIZED}' for actions that are in "
            "[-1, 1] already; on a command line low:high, such as -2:2 or -0.4,0:0.4,3."
        )
    return box_of(*pair, width, where)


def to_unit(actions: np.ndarray, box: Box) -> np.ndarray:
    """Actions [M A] of a box, those of its corners to -1 and 1; to 0 where it has one value."""
    if box == unit(len(box.low)):
        return actions
    low, high = np.float32(box.low), np.float32(box.high)
    locked = low == high
    return np.where(locked, 0, 2 * (actions - low) / np.where(locked, 1, high - low) - 1)


def from_unit(actions: np.ndarray, box: Box) -> np.ndarray:
    """Actions of [-1, 1] in a box, float32: what `to_unit` came from."""
    low, high = (np.asarray(side, np.float64) for side in (box.low, box.high))
    return (low + (actions.astype(np.float64) + 1) / 2 * (high - low)).astype(np.float32)


def scaled_note(box: Box) -> str:
    """Of actions that came from another box."""
    return (
        f"{SCALED} from the box {list(box.low)} to {list(box.high)} to [-1, 1]: "
        "what a policy returns has to be scaled back before it acts"
    )


def says_of_actions(note: str) -> bool:
    """Whether a note says that actions are not as they were recorded."""
    return note.startswith((SCALED, UNSAID, CLIPPED)) and not note.startswith(f"{CLIPPED}0 ")


def with_bounds(dataset: Dataset, bounds: Bounds) -> Dataset:
    """The dataset with the box that its user says; unchanged for None. Actions are scaled from it,
    as they were recorded, and the hash is then that of the transitions.

    DataError where more than a few percent of them lie outside of it.
    """
    said = given(bounds, dataset.action_dim)
    if said is None:
        return dataset
    if said == NORMALIZED and isinstance(dataset.bounds, Box):
        _check_share(dataset, dataset.bounds, str(dataset.bounds), MOST_OUTSIDE_STATED)
        return replace(dataset, bounds=NORMALIZED, recorded=None)  # scaled already
    box = unit(dataset.action_dim) if said == NORMALIZED else said
    assert isinstance(box, Box)
    if dataset.bounds == NORMALIZED and said != NORMALIZED:
        raise DataError(
            f"bounds: saw {box} for data whose actions were said to be in [-1, 1] already "
            f"('{NORMALIZED}'), expected one of both; leave out the wrong one."
        )
    if isinstance(dataset.bounds, Box) and not box.same(dataset.bounds):
        raise DataError(
            f"bounds: saw {box}, but the data state the box {dataset.bounds} themselves; leave "
            f"bounds out, or write bounds='{NORMALIZED}' where the simulator takes their actions "
            "scaled to [-1, 1]."
        )
    if isinstance(dataset.bounds, Box):
        return dataset
    fit = _within(dataset, box, f"{box} that bounds says")
    if fit.transitions is not dataset.transitions:  # the same file holds other data too
        fit = replace(fit, sha256=fit.transitions.fingerprint())
    return replace(fit, bounds=said)


def fitted(dataset: Dataset, simulator: Box | None) -> Dataset:
    """The dataset for a simulator whose actions fill a box (None: no simulator, then [-1, 1]).

    Data that state another box, that lie outside of it by more than a few percent, or of which
    nobody can know whether they are scaled already, end in a DataError that shows both.
    """
    ours = unit(dataset.action_dim)
    box = simulator or ours
    whose = f"{box}, {'that of the simulator' if simulator else 'taken where nobody says it'}"
    if isinstance(dataset.bounds, Box):
        if simulator and not box.same(dataset.bounds):
            raise DataError(
                f"actions: saw data recorded in the box {dataset.bounds}, expected that of the "
                f"simulator, {box}: an action would act as another one; evaluate in the "
                "simulator that the data came from, wrap it to the data's box, or write "
                f"bounds='{NORMALIZED}' where both boxes mean the same motion (arrays and files "
                "that do not state their box: scale their actions to [-1, 1] before)."
            )
        _check_share(dataset, dataset.bounds, str(dataset.bounds), MOST_OUTSIDE_STATED)
        return dataset
    if dataset.bounds == NORMALIZED:
        _check_share(dataset, ours, str(ours), MOST_OUTSIDE)
        return dataset
    if not box.within(ours) and _largest(dataset) <= 1 + ROUNDING:
        raise DataError(
            f"actions: saw entries {_range(dataset)}, none outside of [-1, 1], and a simulator "
            f"whose actions fill the box {box}: they may be recorded in that box, or scaled to "
            f"[-1, 1] already, and nothing says which; {TO_SAY}."
        )
    fit = _within(dataset, box, whose)
    if box.same(ours):
        return fit
    note = f"{UNSAID} in which box the actions were recorded: the simulator's, {box}, was taken"
    return replace(fit, notes=(note, *fit.notes))


def _recorded(dataset: Dataset) -> Tensor:
    return dataset.transitions.actions if dataset.recorded is None else dataset.recorded


def _largest(dataset: Dataset) -> float:
    return float(_recorded(dataset).abs().max())


def _range(dataset: Dataset) -> str:
    actions = _recorded(dataset)
    return f"that fill [{float(actions.min()):g}, {float(actions.max()):g}]"


def _check_share(dataset: Dataset, box: Box, whose: str, most: float) -> None:
    if isinstance(dataset.bounds, Box) and dataset.recorded is None:
        return  # scaled from their box, and none lay outside
    actions = _recorded(dataset)
    slack = ROUNDING * (torch.tensor(box.high) - torch.tensor(box.low)) / 2
    low, high = torch.tensor(box.low) - slack, torch.tensor(box.high) + slack
    each = ((actions < low) | (actions > high)).sum(0)
    outside, rows = int(each.sum()), len(actions)
    stated = isinstance(dataset.bounds, Box)
    do = "" if stated else f"{TO_SAY}; "
    do += "clip them first where the simulator that they were recorded in did so."
    if outside > most * actions.numel():
        raise DataError(
            f"actions: saw entries {_range(dataset)}, {outside:,} of {actions.numel():,} "
            f"({outside / actions.numel():.1%}) outside of the box {whose}; expected at most "
            f"{most:.0%}, which would be clipped; {do}"
        )
    worst = int(each.argmax())
    if not stated and each[worst] > MOST_OF_ONE * rows:
        column = actions[:, worst]
        raise DataError(
            f"actions: saw entries of dimension {worst} that fill [{float(column.min()):g}, "
            f"{float(column.max()):g}], {int(each[worst]):,} of {rows:,} "
            f"({int(each[worst]) / rows:.1%}) outside of the box {whose}; expected at most "
            f"{MOST_OF_ONE:.0%} of one dimension's, which would be clipped; {do}"
        )


def _within(dataset: Dataset, box: Box, whose: str) -> Dataset:
    """The dataset with its recorded actions scaled from a box, and what lies outside clipped and
    counted.
    """
    _check_share(dataset, box, whose, MOST_OUTSIDE)
    ours = unit(dataset.action_dim)
    if box.same(ours):
        return dataset
    recorded = _recorded(dataset)
    actions, clipped = clip_actions(to_unit(recorded.numpy(), box))
    notes = [note for note in dataset.notes if not note.startswith(CLIPPED)]
    return replace(
        dataset,
        transitions=replace(dataset.transitions, actions=torch.from_numpy(actions)),
        recorded=recorded,
        bounds=box,
        notes=(scaled_note(box), f"{clipped} after that", *notes),
    )
