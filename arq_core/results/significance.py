"""Tests on means over seeds: a variance that episodes cannot understate, Welch's contrast of
several means, Holm's correction.

The unit is the seed: the episodes of one training share its luck, so a hundred of them are one draw
of what another training would give. With two to five seeds a test of ranks has too few arrangements
(two against two: 6, so p >= 1/6). Hence Welch's t test on the means of seeds, with two guards: the
variance of a seed's mean is never taken smaller than its own episodes say, since two seeds can
agree by luck; and its degrees of freedom stay those of the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr

# scores of episodes, one array [episodes] a seed
Seeds = Sequence[np.ndarray]


class Mean(NamedTuple):
    """A mean over seeds, the variance of that mean, and the degrees of freedom of this variance."""

    value: float
    variance: float
    freedom: int


class Contrast(NamedTuple):
    """A difference of sums of means, the one-sided p of "it is not above 0", its standard error and
    that error's degrees of freedom.
    """

    value: float
    p: float
    error: float
    freedom: float


def mean_over_seeds(seeds: Seeds) -> Mean:
    """The variance of a seed's mean: between the seeds (divisor R - 1), or within them (over the
    episodes) where that is larger.
    """
    means, count = np.array([s.mean() for s in seeds]), len(seeds)
    if count < 2:
        return Mean(float(means.mean()), np.nan, 0)
    within = np.mean([s.var(ddof=1) / len(s) if len(s) > 1 else 0.0 for s in seeds])
    return Mean(float(means.mean()), max(means.var(ddof=1), within) / count, count - 1)


def contrast(plus: Sequence[Mean], minus: Sequence[Mean]) -> Contrast:
    """Welch's t test that the sum of `plus` is above that of `minus`, with Satterthwaite's degrees
    of freedom (Welch 1947).
    """
    value = sum(m.value for m in plus) - sum(m.value for m in minus)
    means = [*plus, *minus]
    variance = sum(m.variance for m in means)
    # a single seed; or every number is the same in all seeds and episodes
    if np.isnan(variance) or variance == 0:
        p = np.nan if np.isnan(variance) else 0.0 if value > 0 else 1.0
        return Contrast(value, p, np.sqrt(variance), np.nan)
    freedom = variance**2 / sum(m.variance**2 / m.freedom for m in means)
    error = np.sqrt(variance)
    return Contrast(value, float(stdtr(freedom, -value / error)), error, freedom)


def holm(p: Sequence[float]) -> np.ndarray:
    """P values corrected for their number (Holm 1979): the chance of one false rejection among all
    is at most the level. NaN stays, uncounted.
    """
    p = np.asarray(p, float)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN sorts last
    out = np.full(len(p), np.nan)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return out
