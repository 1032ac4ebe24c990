"""Widget: diffusion in one picture. Noise is added to actions of two kinds until nothing tells them
apart, and the score leads noise back to the two kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import traitlets
from jaxtyping import Float, Int

from arq_core.widgets.base import Slider, Widget, fixed, percent

SIDE = 3.0  # actions are drawn from -SIDE to SIDE
CELLS = 120  # of that range, in which the highest density is looked for
NOTE = (
    "The action is one number; grey is its density, the darker the larger. It is known in closed "
    "form at every time, so these are the true score and the steps of S4, without a network. "
    "Arrows show which way the score points; at one time they are longer where it is larger. Time "
    "is stretched where the two kinds part."
)


@dataclass(frozen=True)
class Ways:
    """The way of n points to noise and back: `weights`, `means`, `stds` of two normals, `betas` of
    S1, the times of all steps (as many up as down), and what the steps are made of: where the
    points start and the noise of every step, in units of `unit`.

    `at` names the steps at which the handle has a place; `x`, `m`, `sigma` and `between` (the
    density in the middle as a share of its highest) are what Python finds there. The page computes
    them anew.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    betas: tuple[float, float]
    times: Float[np.ndarray, " steps+1"]
    at: Int[np.ndarray, " places"]
    low: int  # points of the first kind, which come first
    start: Float[np.ndarray, " n"]
    noise: Int[np.ndarray, "steps n"]
    unit: float
    x: Float[np.ndarray, "places n"]
    m: Float[np.ndarray, " places"]
    sigma: Float[np.ndarray, " places"]
    between: Float[np.ndarray, " places"]

    @property
    def middle(self) -> float:
        """Halfway between the two kinds."""
        return sum(self.means) / 2


class Diffusion(Widget):
    """Actions on their way to noise and back: the first half of the handle's places is the way
    forwards, the last one the end of the way back.
    """

    title = "Noise, and the way back"
    script = "diffusion.js"
    parts = ("diffused.js",)
    time = traitlets.Int(0).tag(sync=True)

    def __init__(self, ways: Ways, **position):
        self.ways, self.turn = ways, len(ways.at) // 2
        names = [
            f"t = {fixed(ways.times[k], 2)}, {'forwards' if i <= self.turn else 'back'}"
            for i, k in enumerate(ways.at)
        ]
        words = {name: list(getattr(ways, name)) for name in ("weights", "means", "stds", "betas")}
        words |= dict(times=ways.times.tolist(), at=ways.at.tolist(), unit=ways.unit, low=ways.low)
        super().__init__(
            dict(start=ways.start, noise=ways.noise),
            words | dict(side=SIDE, cells=CELLS, note=NOTE),
            [Slider("time", "Time", 0, len(names) - 1, 1, names=tuple(names))],
            **{"time": len(names) - 1} | position,
        )

    def finding(self) -> str:
        i, ways = self.time, self.ways
        x, m, t = ways.x[i], ways.m[i], fixed(ways.times[ways.at[i]], 2)
        low, was_low = x < m * ways.middle, ways.x[0] < ways.m[0] * ways.middle
        told = (
            f"Forwards, t = {t}: a point is {fixed(m, 2)} of its recorded action and noise of "
            f"spread {fixed(ways.sigma[i], 2)}."
            if i <= self.turn
            else f"Back, t = {t}: the points follow the arrows, with fresh noise at each step."
        )
        other = f"; {int((low != was_low).sum())} have changed sides since they were recorded"
        return (
            f"{told} {int(low.sum())} of {len(x)} points lie below the middle, {int((~low).sum())} "
            f"above{other if i > self.turn else ''}; the density in the middle is "
            f"{percent(ways.between[i], 1)} of its highest."
        )

    def picture(self) -> str:
        """Both ways as a drawing for readers without JavaScript."""
        turn, low, all_x = self.turn, self.ways.low, self.ways.x
        across = lambda i: 20 + 300 * i / turn
        up = lambda x: 110 - 30 * x

        def trail(first: int, last: int, points: slice, color: str) -> str:
            some = all_x[first : last + 1 : 2, points].T
            lines = "".join(
                "M"
                + "L".join(f"{across(first + 2 * k):.0f} {up(x):.1f}" for k, x in enumerate(path))
                for path in some
            )
            return f'<path class="arq-line arq-{color} arq-thin" d="{lines}"/>'

        words = "".join(
            f'<text x="{across(i):.0f}" y="215" text-anchor="{anchor}">{said}</text>'
            for i, anchor, said in (
                (0, "start", "recorded actions"),
                (turn, "middle", "noise"),
                (2 * turn, "end", "new actions"),
            )
        )
        return (
            '<noscript><div class="arq-plots"><svg viewBox="0 0 640 220" width="640" role="img" '
            'aria-label="Actions of two kinds become noise on the left half, and noise becomes '
            'actions of the two kinds on the right half">'
            f"{trail(0, turn, slice(low), 'kept')}{trail(0, turn, slice(low, None), 'truth')}"
            f"{trail(turn, 2 * turn, slice(None), 'extra')}{words}</svg></div></noscript>"
        )
