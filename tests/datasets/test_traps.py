"""arq_core.datasets.traps: values of the corridor that are known in closed form, and mistakes that
are counted exactly.
"""

import numpy as np
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets import traps
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.datasets.readers.minari import read_minari
from arq_core.datasets.rewards import REWARDS

ARRAYS = traps.corridor()
RECIPES = pytest.mark.parametrize("scale, shift", traps.RECIPES.values(), ids=traps.RECIPES)


def test_every_cell_has_a_walker_in_each_direction():
    steps = {
        (int(s), int(a)) for s, a in zip(ARRAYS["observations"][:, 0], ARRAYS["actions"][:, 0])
    }
    assert steps == {(s, a) for s in range(traps.CELLS - 1) for a in (-1, 1)}
    assert not (ARRAYS["terminals"] & ARRAYS["timeouts"]).any()
    assert ARRAYS["terminals"].sum() + ARRAYS["timeouts"].sum() == 2 * (traps.CELLS - 1)


@RECIPES
def test_value_iteration_meets_the_closed_form(scale, shift):
    found = traps.values(traps.read(ARRAYS), scale, shift)
    np.testing.assert_allclose(found.v, traps.true_values(scale, shift), rtol=0, atol=1e-9)
    assert found.goes_right.all()


@RECIPES
def test_a_recipe_is_an_affine_map_of_values_where_ends_are_read_right(scale, shift):
    m, c = traps.affine(scale, shift)
    plain, changed = (
        traps.values(traps.read(ARRAYS), *recipe) for recipe in ((1, 0), (scale, shift))
    )
    np.testing.assert_allclose(changed.q, m * plain.q + c, rtol=0, atol=1e-9)
    assert m > 0


@pytest.mark.parametrize(
    "recipe, transform",
    zip(traps.RECIPES, ("original", "minus_one", "centred", "off_centre"), strict=True),
)
def test_the_recipes_are_the_reward_transforms_that_training_uses(recipe, transform):
    data, (scale, shift) = traps.read(ARRAYS), traps.RECIPES[recipe]
    torch.testing.assert_close(REWARDS[transform](data).rewards, scale * data.rewards + shift)


@pytest.mark.parametrize(
    "recipe, flips", [("r", False), ("r - 1", True), ("(r - 0.5)·4", True), ("(r - 0.25)·2", True)]
)
def test_cuts_taken_for_ends_turn_the_walker_round_only_where_a_step_costs(recipe, flips):
    found = traps.values(traps.read(ARRAYS, "cuts are ends"), *traps.RECIPES[recipe])
    assert (not found.goes_right.all()) is flips


def test_ignored_cuts_keep_every_row_and_make_steps_that_nobody_made():
    right, wrong = traps.read(ARRAYS), traps.read(ARRAYS, "cuts are ignored")
    assert (
        len(right.actions) == len(ARRAYS["actions"]) - ARRAYS["timeouts"].sum()
        and traps.wrong_steps(right) == 0
    )
    assert len(wrong.actions) == len(ARRAYS["actions"])
    jumps = np.abs(np.diff(ARRAYS["observations"][:, 0]))[ARRAYS["timeouts"][:-1]] > 1
    assert traps.wrong_steps(wrong) == jumps.sum() > 0
    assert np.abs(traps.values(wrong).v - traps.true_values()).max() > 0.05


def test_three_layouts_of_the_same_walks_are_the_same_transitions(tmp_path):
    right = traps.read(ARRAYS)
    v2 = read_d4rl(traps.write_v2(tmp_path / "v2.hdf5", ARRAYS)).transitions
    v0 = read_d4rl(
        traps.write_v0(tmp_path / "v0.hdf5", ARRAYS), cuts=f"lengths:{traps.LIMIT}"
    ).transitions
    minari = read_minari(traps.write_minari(tmp_path / "corridor", ARRAYS)).transitions
    for data in (v2, v0, minari):
        for name in ("actions", "rewards", "terminals", "episode"):
            assert torch.equal(getattr(data, name), getattr(right, name)), name
        assert torch.equal(data.states[data.state], right.states[right.state])
        goes_on = ~right.terminals
        assert torch.equal(
            data.states[data.next_state][goes_on], right.states[right.next_state][goes_on]
        )


def test_a_file_without_timeouts_is_refused_until_a_rule_says_where_episodes_end(tmp_path):
    with pytest.raises(DataError, match="expected also timeouts"):
        read_d4rl(traps.write_v0(tmp_path / "v0.hdf5", ARRAYS))
