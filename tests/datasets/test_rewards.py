"""arq_core.datasets.rewards: each recipe is its formula, nothing else of the data changes, and the
recipes are really different.
"""

import pytest
import torch

from arq_core.algorithm.types import Transitions
from arq_core.datasets.rewards import ANTMAZE_RECIPES, REWARDS, recipe_table


def sparse():
    """Two episodes of antmaze's kind: one reaches the goal at its third step, one never does."""
    rows = torch.arange(6)
    terminals = rows == 2
    return Transitions(
        torch.zeros(6, 2),
        rows,
        rows,
        torch.zeros(6, 1),
        terminals.float(),
        terminals,
        (rows > 2).long(),
    )


@pytest.mark.parametrize("name", ANTMAZE_RECIPES)
def test_a_recipe_is_the_formula_that_is_printed(name):
    formula = ANTMAZE_RECIPES[name][0].replace("·", "*")
    data = sparse()
    changed = REWARDS[name](data)
    assert changed.rewards.tolist() == [eval(formula, {"r": r}) for r in data.rewards.tolist()]
    for field in ("states", "state", "next_state", "actions", "terminals", "episode"):
        assert getattr(changed, field) is getattr(data, field)


def test_no_recipe_is_a_multiple_of_another():
    """A step away from the goal is worth a different share of the goal in each; every recipe ranks
    reaching the goal first.
    """
    steps = {
        name: (min(row), max(row))
        for name in ANTMAZE_RECIPES
        for row in [REWARDS[name](sparse()).rewards.tolist()]
    }
    assert len({worst / best if best else None for worst, best in steps.values()}) == len(steps)
    assert all(best > worst for worst, best in steps.values())


def test_the_table_shows_before_and_after():
    rows = recipe_table(torch.tensor([0.0, 1.0]))
    assert [r["recipe"] for r in rows] == list(ANTMAZE_RECIPES)
    for row in rows:
        assert row["before"] == [0.0, 1.0] and row["source"]
        assert row["after"] == [
            eval(row["formula"].replace("·", "*"), {"r": r}) for r in row["before"]
        ]


def test_the_group_antmaze_is_trained_with_the_first():
    from arq_core.config import settings

    assert settings.hyper("antmaze").reward == next(iter(ANTMAZE_RECIPES)) == "minus_one"
