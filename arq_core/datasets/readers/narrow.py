"""What float32, in which everything is computed, does not keep of wider numbers.

Rounding to it is harmless (a part in 2^24 of a number) unless a column's numbers are large and lie
close together, as time stamps, coordinates of a map and counters do: then neighbours become equal.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped

from arq_core.algorithm.types import DataError

# numbers looked at at once
PIECE = 2**20
# of float64's own spacing: a smaller step is the rounding of whoever computed the numbers; ours
NOISE = 16
# columns of numbers below it never lose more than 2e-7, which no simulator resolves: a body at rest
# trembles by less; ours
SMALL_NUMBERS = 4.0
# the typical step of a column is the one that this share of its steps does not exceed: the jumps
# between episodes are fewer; ours
TYPICAL = 0.9
# how much smaller, in powers of two, a step may be that counts with the typical ones; ours
OCTAVES = 4
# share of the typical steps that may vanish; ours
MOST_LOST = 0.1
# powers of two that are told apart, around 0
EXPONENTS = 64

OFFSET = ", such as the first number (in the simulator's states too), or leave the column out."


class Rounding:
    """Counts, column by column of one field, the steps from row to row that float32 makes 0.

    Rows are added in order of time, piece by piece; what float32 holds exactly does not count.
    """

    def __init__(self, where: str):
        self.where, self.last, self.axes = where, None, 1
        # [W 2 EXPONENTS]: how many steps of each power of two there are
        self.steps = self.lost = np.zeros((0, 2 * EXPONENTS), np.int64)
        self.largest = np.zeros(0)

    def add(self, wide: Shaped[np.ndarray, "n ..."], kept: Float32[np.ndarray, "n ..."]):
        """Compares the rows of `wide` with what became of them."""
        if np.can_cast(wide.dtype, np.float32, "safe") or not wide.size:
            return
        x, y = wide.reshape(len(wide), -1), kept.reshape(len(kept), -1)
        if not len(self.largest):
            self.axes = wide.ndim
            self.steps = np.zeros((x.shape[1], 2 * EXPONENTS), np.int64)
            self.lost, self.largest = self.steps.copy(), np.zeros(x.shape[1])
        if x.shape[1] != len(self.largest):
            # rows of another width: whoever joins them refuses them
            return
        rows = max(2, PIECE // x.shape[1])
        if self.last is not None:
            before, became = self.last
            self._add(np.concatenate([before, x[:1]]), np.concatenate([became, y[:1]]))
        # a row of overlap: the step between two pieces counts too
        for i in range(0, max(1, len(x) - 1), rows):
            self._add(x[i : i + rows + 1], y[i : i + rows + 1])
        self.last = x[-1:].copy(), y[-1:].copy()

    def _add(self, x: Shaped[np.ndarray, "n W"], y: Float32[np.ndarray, "n W"]) -> None:
        with np.errstate(all="ignore"):
            size = np.abs(x.astype(np.float64))
            # float64 holds no larger integer exactly, so that == would say too little
            if (x == y).all() and (x.dtype.kind == "f" or size.max() <= 2**53):
                return
            step = _steps(x)
            noise = NOISE * np.finfo(np.float64).eps if x.dtype.kind == "f" else 0
            changed = step > noise * size[1:]
            np.fmax(self.largest, np.fmax.reduce(size), out=self.largest)
        power = np.frexp(step)[1].clip(-EXPONENTS, EXPONENTS - 1) + EXPONENTS
        place = power + 2 * EXPONENTS * np.arange(x.shape[1])
        gone = changed & (y[1:] == y[:-1])
        for counts, chosen in ((self.steps, changed), (self.lost, gone)):
            if chosen.any():
                counts += np.bincount(place[chosen], minlength=counts.size).reshape(counts.shape)

    def notes(self) -> list[str]:
        """A sentence where steps became 0 that are small for their column; DataError where a column
        loses what it tells.
        """
        steps, lost = self.steps.sum(1), self.lost.sum(1)
        bad = [
            column
            for column in np.flatnonzero(lost)
            if self.largest[column] >= SMALL_NUMBERS and self._tells_less(column)
        ]
        if bad:
            worst = max(bad, key=lambda column: lost[column] / steps[column])
            raise DataError(
                f"{self.where}: saw {self._said(worst)}{_others(len(bad) - 1)}: numbers near "
                f"{self.largest[worst]:.7g} are {np.spacing(np.float32(self.largest[worst])):.2g} "
                "apart in it. Expected numbers whose changes float32 keeps; subtract an offset"
                + (" (such as the first number)." if self.axes == 1 else OFFSET)
            )
        if not lost.any():
            return []
        worst = int((lost / np.maximum(steps, 1)).argmax())
        return [
            f"rounded to float32: {self.where}: {self._said(worst)}"
            f"{_others(int((lost > 0).sum()) - 1)}"
        ]

    def _tells_less(self, column: int) -> bool:
        """Whether steps of the column's typical size vanish."""
        steps, lost = self.steps[column], self.lost[column]
        typical = int(np.searchsorted(np.cumsum(steps), TYPICAL * steps.sum()))
        among = slice(max(0, typical - OCTAVES), typical + 1)
        return bool(lost[among].sum() > MOST_LOST * steps[among].sum())

    def _said(self, column: int) -> str:
        steps, kept = self.steps[column].sum(), (self.steps - self.lost)[column].sum()
        which = f"column {column} with " if len(self.largest) > 1 else ""
        return f"{which}{steps:,} changes from row to row, of which float32 keeps {kept:,}"


def _steps(x: Shaped[np.ndarray, "n W"]) -> np.ndarray:
    """|x[t+1] - x[t]| as float64 [n-1 W]; integers of any size are subtracted exactly."""
    if x.dtype.kind == "f":
        return np.abs(np.diff(x, axis=0)).astype(np.float64)
    high, low = np.maximum(x[1:], x[:-1]), np.minimum(x[1:], x[:-1])
    return (high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64)


def _others(count: int) -> str:
    return f", and {count:,} such column{'s' * (count > 1)} more" if count > 0 else ""


def narrowed(x: np.ndarray, where: str) -> tuple[Float32[np.ndarray, "*axes"], Rounding]:
    """The numbers [M ...] as float32, and what that loses. What it cannot hold becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        kept = x.astype(np.float32)
    rounding = Rounding(where)
    rounding.add(x, kept)
    return kept, rounding
