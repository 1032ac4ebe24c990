"""The box of recorded actions is a property of the data: kept with them, whatever their layout."""

from dataclasses import replace

import gymnasium
import h5py
import numpy as np
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.boxes import Box, box_of, fitted, given, to_unit, unit, with_bounds
from arq_core.datasets.dataset import thin
from arq_core.datasets.own import from_arrays, read_own
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.datasets.readers.robomimic import read_robomimic
from arq_core.envs.robosuite import CanEnvs, LiftEnvs, SquareEnvs, TransportEnvs
from arq_core.experiments.episodes import check_layout

STEPS = 40
LOW, HIGH = np.float32([-0.4, 0]), np.float32([0.4, 3])


def arrays(low=LOW, high=HIGH):
    rng, ends = np.random.default_rng(0), np.arange(STEPS) % 10 == 9
    actions = rng.uniform(low, high, (STEPS, 2)).astype(np.float32)
    return dict(
        observations=rng.normal(size=(STEPS, 3)).astype(np.float32),
        actions=actions,
        rewards=np.ones(STEPS, np.float32),
        terminals=ends,
        timeouts=np.zeros(STEPS, bool),
    )


def d4rl(path, **changes):
    with h5py.File(path, "w") as file:
        for name, x in (arrays() | changes).items():
            file[name] = x
    return path


def robomimic(path, keys=("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")):
    widths = dict(
        robot0_eef_pos=3, robot0_eef_quat=4, robot0_gripper_qpos=2, object=LiftEnvs.object_dim
    )
    rng, given = np.random.default_rng(0), arrays()
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        for name in ("actions", "rewards"):
            demo[name] = given[name]
        demo["dones"] = given["terminals"].astype(int)
        for key in keys:
            demo[f"obs/{key}"] = rng.normal(size=(STEPS, widths[key]))
    return path


@pytest.mark.parametrize("write", [d4rl, robomimic])
def test_a_file_of_any_layout_is_scaled_from_the_box_of_whoever_says_it(tmp_path, write):
    path = write(tmp_path / "mine.hdf5")
    expected = to_unit(arrays()["actions"], box_of(LOW, HIGH, 2))
    said = read_own(path, bounds=(LOW, HIGH)).transitions.actions.numpy()
    decided = fitted(read_own(path), box_of(LOW, HIGH, 2)).transitions.actions.numpy()
    assert np.array_equal(said, decided)
    hashes = {
        read_own(path, bounds=bounds).sha256 for bounds in (None, (LOW, HIGH), (LOW - 1, HIGH))
    }
    assert len(hashes) == 3
    rows = [i for i in range(STEPS) if (expected[i] == said[:, None]).all(-1).any()]
    assert len(rows) == len(said)  # each transition's action is that of a step
    with pytest.raises(DataError, match=r"outside of the box \[-1, 1\]"):
        fitted(read_own(path), None)


def test_files_that_are_not_ones_own_are_clipped_and_nothing_else(tmp_path):
    path = d4rl(tmp_path / "official.hdf5")
    data = read_d4rl(path, fidelity="official")
    assert data.recorded is None and data.bounds is None
    clipped = arrays()["actions"].clip(-1, 1)
    assert np.array_equal(data.transitions.actions.numpy(), clipped)


def test_arrays_that_differ_outside_of_the_unit_box_alone_have_other_hashes():
    far = arrays()
    far["actions"] = far["actions"].copy()
    far["actions"][0, 1] = 2.5
    farther = far | dict(actions=far["actions"].copy())
    farther["actions"][0, 1] = 2.75
    one, other = from_arrays(**far), from_arrays(**farther)
    assert torch.equal(one.transitions.actions, other.transitions.actions)
    assert one.sha256 != other.sha256


def test_thinned_data_keep_the_recorded_actions_of_their_rows():
    data = from_arrays(**arrays())
    few = thin(data, 20)
    assert len(few.recorded) == len(few.transitions.actions) == 20
    assert torch.equal(few.recorded.clip(-1, 1), few.transitions.actions)


def test_a_box_in_words_and_numbers():
    assert str(unit(28)) == "[-1, 1]" and str(box_of(LOW, HIGH, 2)) == "[-0.4, 0] to [0.4, 3]"
    assert given("-2:2", 3) == box_of(-2, 2, 3) == Box((-2.0,) * 3, (2.0,) * 3)
    assert given("", 2) is None and given("normalized", 2) == "normalized"
    data = from_arrays(**arrays(), bounds=(LOW, HIGH))
    with pytest.raises(DataError, match=r"saw \[-2, 2\], but the data state .* \[-0.4, 0\] to"):
        with_bounds(data, (-2, 2))


def test_a_few_actions_beyond_a_said_box_are_clipped_and_many_refused():
    narrow = arrays()
    few = narrow["actions"].copy()
    few[3] = 0.5, 3.1
    data = from_arrays(**narrow | dict(actions=few), bounds=(LOW, HIGH))
    assert data.transitions.actions.max() == 1
    assert "clipped 2 of 80 action entries (2.5%) to the box [-1, 1] after that" in data.notes
    with pytest.raises(DataError, match=r"fill .* outside of the box \[-0.2, 0.2\]"):
        from_arrays(**narrow, bounds=(-0.2, 0.2))


def test_keys_of_a_robot_are_compared_with_the_simulators(tmp_path):
    path = robomimic(tmp_path / "lift.hdf5")
    data = read_robomimic(path)
    assert data.layout == LiftEnvs.layout and data.state_dim == LiftEnvs.state_dim
    check_layout(LiftEnvs, data.layout)
    turned = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    for simulator, layout in (
        (LiftEnvs, read_robomimic(path, observation_keys=turned).layout),
        (CanEnvs, data.layout),
        (SquareEnvs, data.layout),
        (TransportEnvs, data.layout),
    ):
        with pytest.raises(DataError, match="the same numbers would mean other things"):
            check_layout(simulator, layout)


@pytest.mark.parametrize("dimension, far", [(0, 255.0), (16, -1.5)])
def test_one_dimension_that_lies_outside_is_no_few_percent(dimension, far):
    few = np.random.default_rng(0).uniform(-1, 1, (STEPS, 20)).astype(np.float32)
    many = few.copy()
    few[:12, dimension], many[:18, dimension] = far, far
    assert fitted(from_arrays(**arrays() | dict(actions=few)), None).action_dim == 20
    with pytest.raises(DataError, match=rf"of dimension {dimension} .* 18 of \d+ .*outside"):
        fitted(from_arrays(**arrays() | dict(actions=many)), None)


def test_what_two_say_of_one_box_is_never_taken_twice():
    data = from_arrays(**arrays(-1, 1), bounds="normalized")
    with pytest.raises(DataError, match="expected one of both"):
        with_bounds(data, (-2, 2))
    assert with_bounds(data, "normalized").transitions is data.transitions


def test_a_stated_box_is_not_answered_with_bounds_that_are_refused():
    data = from_arrays(**arrays(-1, 1))
    far = replace(data, recorded=2 * data.transitions.actions, bounds=unit(2))
    with pytest.raises(DataError, match="would be clipped; clip them first") as error:
        fitted(far, None)
    assert "bounds=" not in str(error.value)


def test_an_actuator_that_is_locked_has_one_value():
    given_arrays = arrays(np.float32([-0.4, 1.5]), np.float32([0.4, 1.5]))
    data = with_bounds(from_arrays(**given_arrays), ([-0.4, 1.5], [0.4, 1.5]))
    assert (data.transitions.actions[:, 1] == 0).all()
    assert data.transitions.actions[:, 0].abs().max() > 0.9
    box = gymnasium.spaces.Box(np.float32([-0.4, 1.5]), np.float32([0.4, 1.5]))
    assert given(box, 2) == data.bounds


def test_values_where_it_is_locked_elsewhere_lie_outside():
    with pytest.raises(DataError, match="outside"):
        with_bounds(from_arrays(**arrays()), ([-0.4, 1.5], [0.4, 1.5]))


@pytest.mark.parametrize("low, high", [(1, 1), ([2, 0], [1, 1])])
def test_a_box_leaves_some_action_to_choose(low, high):
    with pytest.raises(DataError, match="low below high"):
        box_of(low, high, 2)
