"""Rank correlation and regret, by hand and by enumeration."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from arq_core.results.calibration import calibrated, rank_correlation, regret

TRUTHS = np.array([3.0, 10.0, 7.0, 1.0])


def test_rank_correlation_is_spearmans_also_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.integers(0, 6, (2, 12)).astype(float)
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation(np.ones(4), TRUTHS) == 0


def test_regret_is_what_the_best_of_the_chosen_falls_short():
    estimates = np.array([9.0, 2.0, 8.0, 1.0])
    assert [regret(estimates, TRUTHS, k) for k in (1, 2, 3, 4)] == [7, 3, 0, 0]
    with pytest.raises(ValueError, match="k: saw 5, expected 1 to 4"):
        regret(estimates, TRUTHS, 5)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("estimates", [[5, 5, 5, 5], [9, 5, 5, 5], [5, 9, 5, 1], [9, 9, 5, 5]])
def test_regret_of_ties_is_the_mean_over_their_orders(estimates, k):
    orders = [p for p in permutations(range(4)) if _sorted([estimates[i] for i in p])]
    by_hand = np.mean([10 - max(TRUTHS[i] for i in p[:k]) for p in orders])
    assert regret(np.array(estimates, float), TRUTHS, k) == pytest.approx(by_hand)


def _sorted(x):
    return all(a >= b for a, b in zip(x[:-1], x[1:], strict=True))


def test_calibration_is_of_means_over_trainings_and_its_interval_holds_them():
    rng = np.random.default_rng(1)
    truths = np.arange(12.0)[:, None] + rng.normal(0, 0.3, (12, 3))
    found = calibrated(truths + rng.normal(0, 2.0, (12, 3)), truths, reps=400)
    low, high = found["rank_correlation_interval"]
    assert low < found["rank_correlation"] <= high <= 1 and low > 0
    backwards = calibrated(-truths, truths, reps=200)
    assert backwards["rank_correlation"] == pytest.approx(-1)
    assert backwards["regret_at_1"] == pytest.approx(np.ptp(truths.mean(1)))
    assert backwards["regret_at_3"] < backwards["regret_at_1"]
