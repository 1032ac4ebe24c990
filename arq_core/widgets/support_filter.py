"""Widget: which candidates epsilon keeps, and the penalty of Eq. 4 as the wall it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import traitlets

from arq_core.widgets.base import (
    MAX_POINTS,
    Choice,
    Slider,
    Widget,
    WidgetError,
    fixed,
    percent,
    thinned,
)

# nats; log-densities are drawn and sent from here up (the truth's is -inf off its support)
FLOOR = -60.0
LEAST, MOST, STEP = -20.0, 5.0, 0.25  # of the handle, nats


@dataclass(frozen=True)
class HeldOut:
    """A line drawn by held-out actions (densities.conformal): log epsilon (nats) that at most a
    share `delta` of recorded actions falls below, counted on `count` of them.
    """

    delta: float
    log_epsilon: float
    count: int


@dataclass(frozen=True)
class Case:
    """Candidates of one problem: actions [U, N, A] and their log-density [U, N] (nats) at U named
    states.

    Where the action has one dimension, also the log-density of model and truth, [U, G], at the
    actions of the widget's grid.
    """

    name: str
    states: Sequence[str]
    actions: np.ndarray
    log_prob: np.ndarray
    model: np.ndarray | None = None
    truth: np.ndarray | None = None


class SupportFilter(Widget):
    """Support filtering: drag epsilon, see candidates drop.

    All cases have equally many states, candidates and dimensions. With `grid` [G] actions have one
    dimension and stand on the density curves; otherwise they are drawn in two of the named
    `coordinates` (a projection is such coordinates too). With `held_out` a tick stands where its
    line is, and a button moves the handle there: to the step below, which drops no more.
    """

    title = "Support filter"
    script = "support_filter.js"
    case = traitlets.Int(0).tag(sync=True)
    state_index = traitlets.Int(0).tag(sync=True)
    log_epsilon = traitlets.Float(-5.0).tag(sync=True)
    x = traitlets.Int(0).tag(sync=True)
    y = traitlets.Int(1).tag(sync=True)

    def __init__(
        self,
        cases: Sequence[Case],
        grid: np.ndarray | None = None,
        coordinates: Sequence[str] = (),
        held_out: HeldOut | None = None,
        **position,
    ):
        arrays, note, problem, tick = {}, "", "", {}
        try:
            arrays, note = _stacked(cases, grid, coordinates)
            tick = _tick(held_out) if held_out else {}
        except WidgetError as error:
            problem = str(error)
        names, states = tuple(c.name for c in cases), [list(c.states) for c in cases]
        controls = [Choice("case", "Problem", names)] if len(cases) > 1 else []
        same = tuple(states[0]) if states and all(named == states[0] for named in states) else ()
        controls += (
            [Slider("state_index", "State", 0, len(states[0]) - 1, 1, names=same)]
            if states and len(states[0]) > 1
            else []
        )
        controls += [Slider("log_epsilon", "log ε", LEAST, MOST, STEP, "nats")]
        if coordinates:
            controls += [
                Choice("x", "Across", tuple(coordinates)),
                Choice("y", "Up", tuple(coordinates)),
            ]
        super().__init__(
            arrays,
            dict(cases=names, states=states, coordinates=list(coordinates), note=note, tick=tick),
            controls,
            problem,
            **position,
        )

    def finding(self) -> str:
        log_prob = self.arrays["log_prob"][self.case, self.state_index]
        # Eq. 4
        n, kept = len(log_prob), int((log_prob >= self.log_epsilon).sum())
        where = (
            f"{self.words['cases'][self.case]}, {self.words['states'][self.case][self.state_index]}"
        )
        return (
            f"{where}: log ε = {fixed(self.log_epsilon, 2)} keeps {kept} of {n} "
            f"candidates ({percent(kept, n)}) and drops {n - kept}, whose penalty is "
            "infinite."
        )


def _tick(held_out: HeldOut) -> dict[str, str | float]:
    """Where the tick stands, on a step of the handle, and what is said of it."""
    line, share = held_out.log_epsilon, f"{100 * held_out.delta:g}%"
    at = math.floor(line / STEP) * STEP if math.isfinite(line) else math.nan
    if not (LEAST <= at <= MOST and 0 < held_out.delta < 1):
        raise WidgetError(
            f"held_out: saw {held_out}, expected a share and a line from {LEAST:g} to {MOST:g}; "
            "leave it out, or choose another share."
        )
    told = (
        f"{share} of {held_out.count:,} held-out actions mark the line at "
        f"{fixed(line, 2)}; the handle stands at most a step below it."
    )
    return dict(at=at, label=f"{share} held out", told=told)


def _stacked(
    cases: Sequence[Case], grid: np.ndarray | None, coordinates: Sequence[str]
) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of all cases with a leading axis of cases, and a note where points were
    thinned.
    """
    if not cases:
        raise WidgetError("cases: saw none, expected at least one; pass a list of Case.")
    shapes = {(np.shape(c.actions), np.shape(c.log_prob), len(c.states)) for c in cases}
    u, n, a = np.shape(cases[0].actions) if np.ndim(cases[0].actions) == 3 else (0, 0, 0)
    if shapes != {((u, n, a), (u, n), u)}:
        raise WidgetError(
            f"cases: saw shapes {sorted(shapes)} of actions, log_prob and states, "
            "expected one and the same [U, N, A], [U, N], U for all."
        )
    if (a == 1) != (grid is not None) or (a > 1 and len(coordinates) != a):
        raise WidgetError(
            f"cases: saw {a} action dimensions, {'a' if grid is not None else 'no'} "
            f"grid and {len(coordinates)} coordinates, expected a grid for one "
            "dimension, otherwise a name for each."
        )
    arrays = {
        "actions": np.stack([c.actions for c in cases]),
        "log_prob": np.stack([c.log_prob for c in cases]),
    }
    if np.isneginf(arrays["log_prob"]).any():
        raise WidgetError(
            "log_prob: saw minus infinity among candidates, expected finite "
            "log-densities: a candidate comes from the model that scores it."
        )
    if grid is not None:
        arrays |= {"grid": np.asarray(grid)} | {
            k: np.maximum(np.stack([getattr(c, k) for c in cases]), FLOOR)
            for k in ("model", "truth")
        }
    note = (
        f"{MAX_POINTS:,} of {n:,} candidates a state are used, evenly spaced."
        if n > MAX_POINTS
        else ""
    )
    return arrays | {k: thinned(arrays[k], 2) for k in ("actions", "log_prob")}, note
