"""Formulas over the runs of one method on several tasks, with stratified bootstrap intervals:
interquartile mean, improvement, profile.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
`strata` is a list of arrays, the scores [R_t] of the runs on each task, one number a seed. Seeds
are drawn again within their task and tasks stay, so an interval speaks of other seeds on these very
tasks. Where tasks have unequal numbers of runs, which Agarwal et al. do not have, each task keeps
the same weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95  # of every interval, as in Agarwal et al.
REPS = 10_000  # bootstrap draws
NOTHING = np.full(2, np.nan)


def can_bear_interval(*several: Sequence[np.ndarray]) -> bool:
    """Whether each task has two runs or more: one run drawn again is always itself, and its
    interval would have no width.
    """
    return all(len(scores) >= 2 for strata in several for scores in strata)


def draws(strata: Sequence[np.ndarray], reps: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices [reps, R_t] of runs drawn with replacement within each task: the stratified bootstrap
    of Agarwal et al., section 4.1.
    """
    return [rng.integers(len(scores), size=(reps, len(scores))) for scores in strata]


def interval(values: np.ndarray, confidence: float = CONFIDENCE) -> np.ndarray:
    """The percentile interval [2, ...] of bootstrap values [reps, ...]."""
    return np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)


def pooled(strata: Sequence[np.ndarray]) -> np.ndarray:
    """All runs of all tasks, arrays [..., R_t] side by side; each is repeated until the tasks have
    equally many, so that these weigh the same.
    """
    common = math.lcm(*(scores.shape[-1] for scores in strata))
    return np.concatenate(
        [np.repeat(scores, common // scores.shape[-1], axis=-1) for scores in strata], axis=-1
    )


def iqm(strata: Sequence[np.ndarray]) -> np.ndarray:
    """Interquartile mean over runs and tasks [...]: the mean without the lowest and the highest
    quarter (Agarwal et al., section 4.3).
    """
    from scipy.stats import trim_mean  # here: half a second of every command that has no use for it

    return trim_mean(pooled(strata), 0.25, axis=-1)


def iqm_interval(strata: Sequence[np.ndarray], reps: int = REPS, seed: int = 0) -> np.ndarray:
    """Interval [2] of the interquartile mean; NaN where a task has a single run."""
    if not can_bear_interval(strata):
        return NOTHING
    chosen = draws(strata, reps, np.random.default_rng(seed))
    return interval(iqm([scores[i] for scores, i in zip(strata, chosen, strict=True)]))


def wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[R_x, R_y]: 1 where x is above y, 1/2 where they tie.

    Its sum is the U of Mann and Whitney.
    """
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def improvement(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> float:
    """P(X > Y), ties counted half, averaged over tasks: how often a run of one method beats a run
    of the other (Agarwal et al., section 4.3).
    """
    return float(np.mean([wins(a, b).mean() for a, b in zip(x, y, strict=True)]))


def improvement_interval(
    x: Sequence[np.ndarray], y: Sequence[np.ndarray], reps: int = REPS, seed: int = 0
) -> np.ndarray:
    """Interval [2] of the probability of improvement; both methods' runs are drawn, independently.

    NaN where a task has a single run of either.
    """
    if not can_bear_interval(x, y):
        return NOTHING
    rng = np.random.default_rng(seed)
    of_x, of_y = draws(x, reps, rng), draws(y, reps, rng)
    each = [
        wins(a, b)[i[:, :, None], j[:, None, :]].mean((1, 2))
        for a, b, i, j in zip(x, y, of_x, of_y, strict=True)
    ]
    return interval(np.mean(each, axis=0))


def profile(strata: Sequence[np.ndarray], taus: np.ndarray) -> np.ndarray:
    """Performance profile [taus]: the share of runs with a score above each tau, averaged over
    tasks (Agarwal et al., section 4.2).
    """
    return np.mean([(scores[:, None] > taus).mean(0) for scores in strata], axis=0)


def profile_band(
    strata: Sequence[np.ndarray], taus: np.ndarray, reps: int = 2_000, seed: int = 0
) -> np.ndarray:
    """Interval [2, taus] of the profile at each tau by itself; NaN where a task has a single
    run.
    """
    if not can_bear_interval(strata):
        return np.full((2, len(taus)), np.nan)
    chosen = draws(strata, reps, np.random.default_rng(seed))
    return interval(
        np.mean(
            [(scores[:, None] > taus)[i].mean(1) for scores, i in zip(strata, chosen, strict=True)],
            axis=0,
        )
    )


def coverage(
    seeds: int, tasks: int, experiments: int = 400, reps: int = 400, seed: int = 0
) -> float:
    """How often an interval of `iqm_interval` holds the truth, for runs that are normal with the
    same mean and spread on every task.
    """
    rng = np.random.default_rng(seed)
    intervals = np.array(
        [
            iqm_interval(list(rng.standard_normal((tasks, seeds))), reps, i)
            for i in range(experiments)
        ]
    )
    return float(((intervals[:, 0] <= 0) & (intervals[:, 1] >= 0)).mean())
