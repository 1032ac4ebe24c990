"""The verdict's rule: what is never judged, what the tests decide, and how often chance alone would
be called a difference.
"""

import re

import numpy as np
import pytest
from scipy import stats

from arq_core.results import verdicts
from arq_core.results.verdicts import (
    LEVEL,
    PAPER_EPISODES,
    PAPER_SEEDS,
    ROUNDING,
    WORDS,
    Ours,
    Paper,
    difference,
    margin,
    verdict,
    widest,
)

FULL = Ours(mean=75.0, std=2.0, seeds=3, episodes=100, profile="paper", fidelity="official")
CELL = Paper("value", 75.0, 2.0)


def changed(**changes):
    return Ours(**vars(FULL) | changes)


def test_a_difference_is_in_units_of_the_combined_spread():
    assert difference(10.0, 3.0, 5.0, 4.0) == 1.0
    for missing in (
        (10.0, None, 5.0, 4.0),
        (10.0, 3.0, None, 4.0),
        (10.0, 3.0, 5.0, None),
        (10.0, float("nan"), 5.0, 4.0),
        (10.0, 0.0, 5.0, 0.0),
    ):
        assert difference(*missing) is None


@pytest.mark.parametrize(
    "std, seeds, paper_std", [(2.0, 3, 2.0), (0.5, 3, 4.0), (5.0, 10, 1.0), (0.0, 3, 1.0)]
)
def test_the_margin_is_that_of_welchs_test(std, seeds, paper_std):
    apart = margin(std, seeds, paper_std) - ROUNDING
    p = stats.ttest_ind_from_stats(
        50 + apart, std, seeds, 50, paper_std, PAPER_SEEDS, equal_var=False
    ).pvalue
    assert p == pytest.approx(LEVEL)


def test_the_widest_spread_is_that_of_the_f_test():
    assert stats.f.sf((widest(3, 2.0) / 2.0) ** 2, 2, 2) == pytest.approx(LEVEL)
    assert widest(3, 2.0) / 2.0 == pytest.approx(np.sqrt(19), abs=0.01)  # "4.4 times"
    assert widest(3, 0.0) == widest(3, ROUNDING)


def test_where_nothing_differs_chance_alone_is_seldom_called_a_difference():
    rng, n, different = np.random.default_rng(0), 2000, 0
    for ours, paper in zip(rng.normal(70, 3, (n, 3)), rng.normal(70, 3, (n, 3)), strict=True):
        said = verdict(
            changed(mean=ours.mean(), std=ours.std(ddof=1)),
            Paper("value", round(paper.mean()), round(paper.std(ddof=1), 1)),
        )
        different += said.word == "not reproduced"
    assert 0.02 < different / n < 2 * LEVEL


@pytest.mark.parametrize(
    "ours, word, told",
    [
        (FULL, "reproduced", "noticed from"),
        (changed(mean=77.5), "reproduced", r"\+2.5 points"),
        (changed(mean=90.0), "not reproduced", "higher"),
        (changed(mean=60.0), "not reproduced", "lower"),
        (changed(mean=60.0, std=20.0), "not reproduced", "less steady"),
    ],
)
def test_two_tests_decide(ours, word, told):
    said = verdict(ours, CELL)
    assert said.word == word
    assert re.search(told, said.reason)


@pytest.mark.parametrize(
    "ours, why",
    [
        (changed(profile="lite"), "profile lite"),
        (changed(profile="ci", seeds=2, episodes=10), r"2 × 10"),
        (changed(seeds=2), "2 × 100"),
        (changed(episodes=99), "3 × 99"),
        (changed(fidelity="recollected"), "Other data"),
        (changed(fidelity="own"), "Other data"),
        (changed(short=("20 of 1,000,000 training steps (q)",)), "20 of 1,000,000"),
        (changed(std=float("nan"), seeds=1), "1 × 100"),
    ],
)
def test_less_than_the_papers_budget_or_other_data_is_never_reproduced(ours, why):
    said = verdict(ours, CELL)
    assert said.word == "not comparable" and why in said.reason


@pytest.mark.parametrize(
    "paper, why",
    [
        (Paper("illegible", None, 2.0), "cannot be read"),
        (Paper("not reported"), "reports no number"),
        (Paper("value", 75.0, None), "no spread"),
        (None, "no such dataset"),
    ],
)
def test_a_gap_in_the_papers_table_is_not_judged(paper, why):
    said = verdict(FULL, paper)
    assert said.word == "not comparable" and why in said.reason


def test_no_spread_on_either_side_leaves_the_papers_rounding():
    zero = Paper("value", 0.0, 0.0)
    assert verdict(changed(mean=0.4, std=0.0), zero).word == "reproduced"
    assert verdict(changed(mean=0.6, std=0.0), zero).word == "not reproduced"


def test_what_is_missing_and_what_failed_have_words_of_their_own():
    failure = dict(step="q", error="KernelDied", log="x.log")
    assert verdict(None, CELL).word == "not run"
    assert (
        verdict(None, CELL, failure).word == "failed"
        and "KernelDied" in verdict(None, CELL, failure).reason
    )
    assert (
        verdict(FULL, CELL, failure).word == "failed"
        and "earlier run" in verdict(FULL, CELL, failure).reason
    )


def test_rebuilt_data_may_stand_beside_the_papers_number():
    assert verdict(changed(fidelity="rebuilt"), CELL).word == "reproduced"
    assert set(verdicts.COMPARABLE) == {"official", "rebuilt"} and (
        PAPER_SEEDS,
        PAPER_EPISODES,
    ) == (3, 100)


def test_every_verdict_is_a_word_of_the_legend():
    said = [
        verdict(FULL, CELL),
        verdict(changed(mean=0.0), CELL),
        verdict(FULL, None),
        verdict(None, CELL),
        verdict(None, CELL, dict(step="q", error="", log="")),
        verdict(changed(smoke_test=True), CELL),
    ]
    assert [s.word for s in said] == [
        "reproduced",
        "not reproduced",
        "not comparable",
        "not run",
        "failed",
        "smoke test",
    ] and {s.word for s in said} == set(WORDS)


def test_critics_that_walked_too_few_horizons_are_marked():
    budget, paper = dict(q_steps=20_000, score_steps=10), dict(q=1_000_000, score=100)
    hyper = dict(gamma=0.99, polyak=0.995)
    assert verdicts.shortfall(budget, paper, hyper) == (
        "20,000 of 1,000,000 training steps (q, 1.0 horizons of target lag)",
        "10 of 100 training steps (score)",
    )
    assert verdicts.shortfall(dict(q_steps=500_000), paper, hyper) == (
        "500,000 of 1,000,000 training steps (q)",
    )
    assert verdicts.shortfall(budget, paper, hyper | dict(warm_start=8_000))[0] == (
        "20,000 of 1,000,000 training steps (q, after 8,000 on returns)"
    )


def test_a_recipe_is_said_with_every_number_of_it():
    assert "profile fast, a recipe of its own" in verdict(changed(profile="fast"), CELL).reason
    assert "recipe" not in verdict(changed(profile="lite"), CELL).reason
    assert verdicts.labelled("somebody's") == "somebody's"
