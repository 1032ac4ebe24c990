"""Widget: the reverse process as a scrubber over its time, several solvers side by side on one
noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import traitlets

from arq_core.widgets.base import Choice, Slider, Widget, WidgetError, fixed, percent

PATHS = 18  # drawn; all samples count in the histogram and in the sentence
EDGES = np.linspace(-2.5, 2.5, 41)  # of the histogram's bins; standardised actions
# int16 fixed-point numbers: positions, and probabilities of bins
THOUSANDTHS, TEN_THOUSANDTHS = 1_000, 10_000
MOST = np.iinfo(np.int16).max  # samples: counts are int16
# positions are drawn, never counted, as if no sample were farther out
FARTHEST = 32.0
NOTE = (
    "Each solver stands at the one of its own times that is nearest in "
    "log-SNR; dashes mark the common time. Crosses and the share off support: "
    "farther than 3σ(t) from every segment of the behaviour. Distances are "
    "Wasserstein-1 within ±4, in units of the standardised action. "
)


@dataclass(frozen=True)
class Walk:
    """One solver with one score at C behaviours: samples x [T, C, n] at T common levels, of its own
    `times` [T] and after `used` [T] evaluations.

    distance, off [T, C]: from the law of x at its own time (Wasserstein-1), and the share of
    samples off its support.
    """

    name: str
    times: np.ndarray
    used: np.ndarray
    x: np.ndarray
    distance: np.ndarray
    off: np.ndarray


@dataclass(frozen=True)
class Truth:
    """The law of x at each common level [T] of C behaviours.

    mass [T, C, bins]: probability of each bin of EDGES; low, high [T, C, M]: ends of its support
    (an absent one has low > high); distance [T, C]: of as many true samples as a walk has, from the
    law itself.
    """

    times: np.ndarray
    mass: np.ndarray
    low: np.ndarray
    high: np.ndarray
    distance: np.ndarray


class ReverseProcess(Widget):
    """From noise to actions: `walks` are, for each named score, the same solvers in the same order.

    The first len(norms) of them are variants of one solver, of which the figure shows the chosen
    one beside all others.
    """

    title = "From noise to actions"
    script = "reverse_process.js"
    behaviour = traitlets.Int(0).tag(sync=True)
    score = traitlets.Int(0).tag(sync=True)
    norm = traitlets.Int(0).tag(sync=True)
    time = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        behaviours: Sequence[str],
        walks: dict[str, Sequence[Walk]],
        truth: Truth,
        norms: Sequence[str] = (),
        **position,
    ):
        arrays, problem, solvers = {}, "", [walk.name for walk in next(iter(walks.values()), ())]
        try:
            arrays = _stacked(len(behaviours), list(walks.values()), truth)
        except WidgetError as error:
            problem = str(error)
        named = tuple(f"t = {fixed(t, 3)}" for t in np.ravel(truth.times))
        choices = [
            ("behaviour", "Behaviour", tuple(behaviours)),
            ("score", "Score", tuple(walks)),
            ("norm", "Langevin norms", tuple(norms)),
        ]
        controls = [Choice(*c) for c in choices if len(c[2]) > 1] + [
            Slider("time", "Time", 0, max(len(named) - 1, 1), 1, names=named)
        ]
        n = np.shape(next(iter(walks.values()))[0].x)[-1] if solvers else 0
        words = dict(
            behaviours=list(behaviours),
            scores=list(walks),
            norms=list(norms),
            solvers=solvers,
            named=named,
            n=n,
            edges=[EDGES[0], EDGES[-1]],
            note=NOTE + f"{min(PATHS, n)} of {n:,} paths are drawn; the bars count all.",
        )
        super().__init__(arrays, words, controls, problem, **position)

    def shown(self) -> list[int]:
        """Places of the solvers that stand in the figure."""
        several = max(len(self.words["norms"]), 1)
        return [self.norm, *range(several, len(self.words["solvers"]))]

    def finding(self) -> str:
        k, c, i = self.score, self.behaviour, self.time
        words, used, distance, off = (
            self.words,
            *(self.arrays[name] for name in ("used", "distance", "off")),
        )
        told = [
            f"{words['solvers'][w]}, after {fixed(used[w, i])} of {fixed(used[w, -1])} "
            f"evaluations, lies {fixed(distance[k, w, i, c], 3)} from the true law with "
            f"{percent(off[k, w, i, c], 1)} off its support"
            for w in self.shown()
        ]
        return (
            f"{words['behaviours'][c]}, {words['scores'][k]}, {words['named'][i]}: "
            f"{'; '.join(told)}; {words['n']} true samples lie "
            f"{fixed(self.arrays['null'][i, c], 3)} from it on average."
        )


def _stacked(
    behaviours: int, walks: Sequence[Sequence[Walk]], truth: Truth
) -> dict[str, np.ndarray]:
    """Arrays of the script: [scores, solvers, T, C, ...]."""
    t, shapes = len(truth.times), {np.shape(walk.x) for some in walks for walk in some}
    if not shapes:
        raise WidgetError(
            "walks: saw none, expected at least one solver for one score; pass {score: "
            "[Walk, ...]}."
        )
    if (
        len(shapes) > 1
        or (s := shapes.pop())[:2] != (t, behaviours)
        or len(s) != 3
        or len({tuple(w.name for w in some) for some in walks}) > 1
    ):
        raise WidgetError(
            "walks: saw samples of shapes "
            f"{sorted({np.shape(w.x) for some in walks for w in some})}, expected [T, "
            f"C, n] = [{t}, {behaviours}, n] for every solver, and the same solvers for "
            "every score."
        )
    if s[2] > MOST:
        raise WidgetError(
            f"walks: saw {s[2]:,} samples, expected at most {MOST:,}, so that counts "
            "fit; pass fewer."
        )
    x = np.array([[np.asarray(walk.x) for walk in some] for some in walks], np.float64)
    # a sample that divided by zero is drawn far out
    inside = np.nan_to_num(np.clip(x[..., :PATHS], -FARTHEST, FARTHEST), nan=FARTHEST)
    counts = np.stack(
        [(x >= low).sum(-1) - (x >= high).sum(-1) for low, high in pairwise(EDGES)], -1
    )
    stacked = {
        name: np.array([[np.asarray(getattr(walk, name)) for walk in some] for some in walks])
        for name in ("distance", "off")
    }
    own, used = (
        np.array([np.asarray(getattr(walk, name)) for walk in walks[0]])
        for name in ("times", "used")
    )
    # the level whose law a solver is drawn with
    held = np.abs(np.log(own)[..., None] - np.log(np.asarray(truth.times))).argmin(-1)
    low, high = (
        np.clip(np.nan_to_num(np.asarray(end)), -FARTHEST, FARTHEST)
        for end in (truth.low, truth.high)
    )
    fixed_point = dict(
        paths=inside * THOUSANDTHS,
        counts=counts,
        held=held,
        mass=np.asarray(truth.mass) * TEN_THOUSANDTHS,
    )
    return {k: np.round(v).astype(np.int16) for k, v in fixed_point.items()} | dict(
        used=used, low=low, high=high, null=truth.distance, **stacked
    )
