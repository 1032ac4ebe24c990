"""The widget of epsilon against dimension says the shares of a chi-squared distribution, by each of
its three rules.
"""

import math

import pytest
import traitlets
from scipy.stats import chi2

from arq_core.densities.normal import normal_share, quantile_log_epsilon
from arq_core.widgets.base import fixed, percent
from arq_core.widgets.dimension import MOST, RULES, Dimension, Measured

POSITIONS = [
    dict(dim=a, width=w, log_epsilon=e, keep=k)
    for a in (1, 2, 3, 6, 13, MOST)
    for w, e, k in [(1.0, -5.0, 0.95), (0.2, -5.0, 0.5), (0.45, 2.5, 0.99), (1.5, -20.0, 0.8)]
]
POINT = Measured("a behaviour", 28, 0.577, -5.0)


def within(dim, width, log_epsilon):
    """The share of N(0, width² I) whose log-density is at least log_epsilon, by its squared
    radius.
    """
    return chi2.cdf(-2 * (log_epsilon + dim / 2 * math.log(2 * math.pi * width**2)), dim)


@pytest.mark.parametrize("rule", range(len(RULES)), ids=RULES)
def test_each_rule_keeps_what_the_chi_squared_distribution_says(rule):
    for position in POSITIONS:
        shown = Dimension(rule=rule, **position)
        for a in (1, shown.dim, MOST):
            threshold = (
                shown.log_epsilon,
                a * shown.log_epsilon,
                quantile_log_epsilon(shown.keep, a, shown.width),
            )[rule]
            assert shown.threshold(a) == pytest.approx(threshold, abs=1e-9)
            assert shown.share(a) == pytest.approx(within(a, shown.width, threshold), abs=1e-10)
            assert shown.share(a) == pytest.approx(
                normal_share(threshold, a, shown.width), abs=1e-10
            )


def test_the_sentence_says_threshold_shares_and_the_densest_action():
    shown = Dimension(dim=3)
    kept, densest = percent(within(3, 1, -5), 1), fixed(-1.5 * math.log(2 * math.pi), 2)
    assert (
        f"At A = 3 and width 1.00 a fixed ε (log ε = −5.00) keeps {kept} of a "
        f"normal behaviour, whose densest action has log-density {densest}" in shown.finding()
    )
    assert percent(within(1, 1, -5), 1) in shown.finding() and "0.0% at A = 28" in shown.finding()


def test_a_fixed_epsilon_keeps_nothing_where_the_densest_action_lies_below_it():
    shown = Dimension(dim=6)
    assert -3 * math.log(2 * math.pi) < -5 and shown.share(6) == 0


@pytest.mark.parametrize(
    "wrong",
    [dict(dim=0), dict(dim=29), dict(share=1.2), dict(share=math.nan), dict(log_epsilon=-math.inf)],
)
def test_a_measured_behaviour_that_cannot_be_shown_is_named_in_the_frame(wrong):
    point = Measured(**(vars(POINT) | wrong))
    assert "measured: saw Measured(name='a behaviour'" in Dimension([POINT, point]).sentence()
    assert Dimension([POINT]).words["measured"] == [vars(POINT)]


def test_controls_outside_their_range_are_refused():
    with pytest.raises(traitlets.TraitError, match="Width: saw 0"):
        Dimension().width = 0.0
    with pytest.raises(traitlets.TraitError, match="expected a whole number from 0 to 2"):
        Dimension().rule = 3
