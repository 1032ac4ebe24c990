"""Theorem 1 as bars: the widget says the numbers of the row that it stands at, and the two
objectives that it says are equal.
"""

import browser
import numpy as np
import pytest
from scipy.special import softmax

from arq_core.widgets.base import fixed, percent
from arq_core.widgets.pull import Pull

Q, BEHAVIOR = np.array([1.0, 3.0, 2.0, 4.5]), np.array([0.3, 0.5, 0.19, 0.01])
STRENGTHS = np.linspace(0, 3, 31)


def rows(**changes):
    pi_p = softmax(STRENGTHS[:, None] * np.log(BEHAVIOR), axis=1)
    pi = pi_p * np.exp(Q)
    pi = pi / pi.sum(1, keepdims=True)
    sides = np.log((pi_p * np.exp(Q)).sum(1))[:, None].repeat(2, 1)
    return dict(q=Q, strengths=STRENGTHS, pi_p=pi_p, pi=pi, sides=sides) | changes


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.9, 3.0])
def test_what_theory_computes_is_the_product_and_the_sentence_says_it(strength):
    shown, mine, i = browser.pull(), rows(), round(10 * strength)
    shown.strength = strength
    for name in ("pi_p", "pi", "sides"):
        np.testing.assert_allclose(shown.arrays[name], mine[name], atol=1e-6)
    best = percent(np.float32(mine["pi"][i, 3]), 1)
    assert f"has {percent(np.float32(mine['pi_p'][i, 3]), 1)}, and the policy" in shown.finding()
    assert f"has {best}, where it has {percent(np.float32(mine['pi'][0, 3]), 1)}" in shown.finding()
    told = fixed(np.float32(mine["sides"][i, 0]), 2)
    assert shown.finding().count(f" = {told}") == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(q=Q[:3]), "expected {'q': (3,)"),
        (dict(strengths=STRENGTHS[:9]), "for (9,) strengths"),
        (dict(strengths=STRENGTHS[::-1]), "rise in equal steps"),
        (dict(strengths=STRENGTHS**2), "rise in equal steps"),
        (dict(pi=2 * rows()["pi"]), "pi: saw entries"),
        (dict(sides=np.full((31, 2), np.nan)), "not finite"),
    ],
)
def test_data_that_cannot_be_shown_are_named_in_the_frame(change, told):
    assert told in Pull(**rows(**change)).sentence()
