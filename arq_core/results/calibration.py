"""How well estimates choose: rank correlation and regret of estimated against true values of the
same policies.

Paine et al. 2020, "Hyperparameter Selection for Offline Reinforcement Learning"; Fu et al. 2021,
"Benchmarks for Deep Off-Policy Evaluation" (regret@k).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from arq_core.results.bootstrap import interval

REPS = 2_000  # bootstrap draws


def rank_correlation(estimates: Float[np.ndarray, " P"], truths: Float[np.ndarray, " P"]) -> float:
    """Spearman's over P policies, in [-1, 1]; 0 where one side says the same of all of them, which
    ranks nothing."""
    from scipy.stats import rankdata  # here: half a second of every command that ranks nothing

    a, b = (rankdata(x) - (len(x) + 1) / 2 for x in (estimates, truths))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else 0.0


def regret(estimates: Float[np.ndarray, " P"], truths: Float[np.ndarray, " P"], k: int) -> float:
    """How much the best of the k policies with the highest estimates falls short of the best of all
    (Fu et al. 2021, regret@k), in the units of `truths`; where estimates tie, the mean over the
    orders of the tied. ValueError for a k that is not 1 to P."""
    count = len(truths)
    if not 1 <= k <= count:
        raise ValueError(f"k: saw {k}, expected 1 to {count}, the number of policies.")
    cut = np.sort(estimates)[::-1][k - 1]
    sure, tied = truths[estimates > cut], np.sort(truths[estimates == cut])[::-1]
    places, best = k - len(sure), -np.inf if len(sure) == len(truths) else truths.max()
    floor = sure.max() if len(sure) else -np.inf
    # which of the tied is the best of `places` drawn among them without replacement
    expected, left = 0.0, 1.0
    for i, value in enumerate(tied):
        share = min(1.0, places / (len(tied) - i)) * left
        expected, left = expected + share * max(value, floor), left - share
    return max(0.0, float(best - expected))  # not -0.0, by rounding


def calibrated(
    estimates: Float[np.ndarray, "P E"],
    truths: Float[np.ndarray, "P E"],
    ks: tuple[int, ...] = (1, 3),
    reps: int = REPS,
    seed: int = 0,
) -> dict[str, float | list[float]]:
    """Rank correlation and regret@k of means over E trainings of P policies, each with its 95%
    interval, for which policies and trainings are drawn again."""
    rng, (count, trainings) = np.random.default_rng(seed), truths.shape

    def of(p: np.ndarray, e: np.ndarray) -> list[float]:
        x, y = estimates[p][:, e].mean(1), truths[p][:, e].mean(1)
        return [rank_correlation(x, y), *(regret(x, y, min(k, len(p))) for k in ks)]

    names = ["rank_correlation", *(f"regret_at_{k}" for k in ks)]
    found = of(np.arange(count), np.arange(trainings))
    drawn = [
        of(rng.integers(count, size=count), rng.integers(trainings, size=trainings))
        for _ in range(reps)
    ]
    ends = interval(np.array(drawn))
    made: dict[str, float | list[float]] = {}
    for i, name in enumerate(names):
        made[name], made[f"{name}_interval"] = found[i], [float(x) for x in ends[:, i]]
    return made


def half_width(heads: Float[np.ndarray, " H"]) -> float:
    """Of a 95% interval from H heads, each of which saw episodes drawn again: their standard
    deviation is the error of one estimate (Efron 1979), times Student's t of H - 1."""
    count = len(heads)
    return float(stdtrit(count - 1, 0.975) * heads.std(ddof=1)) if count > 1 else math.nan
