"""robosuite's tasks: states in the order of robomimic's files, starts that depend on the seed
alone, success as robosuite says.
"""

import sys

import numpy as np
import pytest

pytest.importorskip(
    "robosuite", reason="ROBOSUITE TEST NOT RUN: saw no robosuite; install the extra `robosuite`"
)

from arq_core.envs.parallel import ParallelEnvs  # noqa: E402
from arq_core.envs.robosuite import (
    CanEnvs,
    LiftEnvs,
    SquareEnvs,
    ToolHangEnvs,
    TransportEnvs,
    can_envs,
    lift_envs,
)
from arq_core.envs.vector import EnvError  # noqa: E402

KINDS = (LiftEnvs, CanEnvs, SquareEnvs, TransportEnvs, ToolHangEnvs)
# robomimic's low-dimensional observations
WIDTHS = {LiftEnvs: 19, CanEnvs: 23, SquareEnvs: 23, TransportEnvs: 59, ToolHangEnvs: 53}
# `object` in robosuite 1.2 to 1.4.1, with which the published files were made
PUBLISHED = {
    LiftEnvs: ["cube_pos", "cube_quat"],
    CanEnvs: ["Can_pos", "Can_quat"],
    SquareEnvs: ["SquareNut_pos", "SquareNut_quat"],
    TransportEnvs: [
        "payload_pos",
        "payload_quat",
        "trash_pos",
        "trash_quat",
        "lid_handle_pos",
        "lid_handle_quat",
        "target_bin_pos",
        "trash_bin_pos",
        "gripper0_to_payload",
        "gripper0_to_lid_handle",
        "gripper1_to_payload",
        "gripper1_to_trash",
        "payload_in_target_bin",
        "trash_in_trash_bin",
    ],
    ToolHangEnvs: ["base_pos", "base_quat"],
}


@pytest.fixture(scope="module", params=KINDS, ids=lambda k: k.__name__)
def moved(request):
    """(kind, environment, its state after three steps, what robosuite itself observes then)"""
    envs = request.param(1)
    envs.reset([3])
    action = np.zeros((1, envs.action_dim), np.float32)
    action[:, 0], action[:, 5] = 1, 0.5
    for _ in range(3):
        state = envs.step(action)[0]
    return request.param, envs, state[0], envs.sims[0]._get_observations()


def test_states_are_robosuite_s_observables_in_the_order_of_robomimic_s_files(moved):
    kind, envs, state, seen = moved
    assert (
        kind.state_dim == WIDTHS[kind] == len(state) == sum(kind.observation_keys().values())
        and state.dtype == np.float32
    )
    names = [
        f"robot{i}_{part}"
        for i in range(kind.robots)
        for part in ("eef_pos", "eef_quat", "gripper_qpos")
    ]
    assert list(kind.observation_keys()) == [*names, "object"]
    expected = np.concatenate(
        [np.atleast_1d(seen[name]) for name in names + PUBLISHED[kind]]
    ).astype(np.float32)
    np.testing.assert_array_equal(state[: len(expected)], expected)


def test_lift_s_vector_points_from_the_cube_to_the_hand_as_in_the_files():
    state = LiftEnvs(1).reset([0])[0]
    np.testing.assert_allclose(state[16:19], state[:3] - state[9:12], atol=1e-6)


@pytest.mark.parametrize(
    "kind, name", [(CanEnvs, "Can"), (ToolHangEnvs, "base")], ids=["Can", "ToolHang"]
)
def test_poses_seen_from_the_hand_are_of_this_step(kind, name):
    """robosuite 1.5.1 takes them from the object's pose one step ago; observed a second time
    without a step they are those of now.
    """
    envs = kind(1)
    state = envs.reset([1])[0]
    envs.sims[0]._get_observations(force_update=True)
    seen = envs.sims[0]._get_observations(force_update=True)
    fresh = np.concatenate([seen[f"{name}_to_robot0_eef_pos"], seen[f"{name}_to_robot0_eef_quat"]])
    np.testing.assert_allclose(state[16:23], fresh, atol=1e-6)


def play(envs, seeds, steps=3):
    """States of all steps [steps + 1, n, S] under actions drawn from a fixed seed, the same in
    every episode.
    """
    rng = np.random.default_rng(0)
    states = [envs.reset(seeds)]
    for action in rng.uniform(-1, 1, (steps, 1, envs.action_dim)).astype(np.float32):
        states.append(envs.step(np.repeat(action, len(seeds), 0))[0])
    return np.stack(states)


@pytest.mark.parametrize(
    "kind",
    [
        LiftEnvs,
        *(
            pytest.param(
                k, marks=pytest.mark.slow(reason="a scene of each arm is built four times")
            )
            for k in KINDS[1:]
        ),
    ],
    ids=lambda k: k.__name__,
)
def test_an_episode_depends_on_its_seed_alone(kind):
    """Not on the others, not on what was played before, not on NumPy's global generator, which
    robosuite draws from.
    """
    envs = kind(2)
    np.random.seed(1)
    together = play(envs, [5, 6])
    np.random.seed(2)
    assert np.abs(together[:, 0] - together[:, 1]).max() > 1e-3
    np.testing.assert_array_equal(play(envs, [6, 5])[:, ::-1], together)
    np.testing.assert_array_equal(play(kind(1), [6])[:, 0], together[:, 1])


def test_numpy_s_global_generator_is_given_back_as_it_was():
    np.random.seed(7)
    expected = np.random.random(3)
    np.random.seed(7)
    LiftEnvs(1).reset([0])
    np.testing.assert_array_equal(np.random.random(3), expected)


def test_success_is_robosuite_s_and_ends_the_episode():
    """The cube is set into the air: done at the next step, with reward 1, as robosuite's own sparse
    reward.
    """
    envs = LiftEnvs(2)
    envs.reset([0, 1])
    sim = envs.sims[1]
    joint = sim.cube.joints[0]
    sim.sim.data.set_joint_qpos(joint, sim.sim.data.get_joint_qpos(joint) + [0, 0, 0.1, 0, 0, 0, 0])
    _, rewards, terminated, success = envs.step(np.zeros((2, 7), np.float32))
    assert rewards.tolist() == [s.reward() for s in envs.sims] == [0, 1]
    assert terminated.tolist() == success.tolist() == [False, True]


@pytest.mark.slow(reason="two processes import robosuite and build their scenes")
def test_worker_processes_give_the_same_numbers():
    with ParallelEnvs(LiftEnvs, 2, 2) as parallel:
        np.testing.assert_array_equal(play(parallel, [5, 6], 2), play(LiftEnvs(2), [5, 6], 2))


def test_few_episodes_or_one_thread_need_no_workers(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert isinstance(lift_envs(3), LiftEnvs) and isinstance(can_envs(4), ParallelEnvs)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    assert isinstance(can_envs(4), CanEnvs)


def test_wrong_use_says_what_was_seen_and_expected():
    envs, ok = LiftEnvs(1), np.zeros((1, 7), np.float32)
    for act, said in (
        (lambda: envs.step(ok), r"expected finite actions of shape \(0, 7\).*reset first"),
        (lambda: envs.reset([0, 1]), r"saw 2 seeds, expected 1 to 1; make LiftEnvs\(2\)"),
        (lambda: (envs.reset([0]), envs.step(ok * np.nan)), "7 entries not finite"),
    ):
        with pytest.raises(EnvError, match=said):
            act()


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    # what an import finds where it is not installed
    monkeypatch.setitem(sys.modules, "robosuite", None)
    with pytest.raises(EnvError, match=r"pip install '\.\[sim,robosuite\]'"):
        lift_envs(1)
