"""Hopper, Walker2d and HalfCheetah: Gymnasium's own numbers, D4RL's termination and clipping.

Skipped where the simulators are absent.
"""

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulators are not installed")
gymnasium = pytest.importorskip("gymnasium", reason="the simulators are not installed")

from arq_core.envs.locomotion import KINDS, halfcheetah_envs, hopper_envs, make, walker2d_envs  # noqa: E402
from arq_core.envs.parallel import ParallelEnvs  # noqa: E402
from arq_core.envs.vector import EnvError  # noqa: E402

SEEDS = [5, 6, 7]


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    return KINDS[request.param]


def actions_of(kind, steps, n=len(SEEDS)):
    return np.random.default_rng(0).uniform(-1, 1, (steps, n, kind.action_dim)).astype(np.float32)


def test_states_rewards_and_terminations_are_gymnasiums_bit_for_bit(kind):
    envs, sims = kind(3), [make(kind.gym_id) for _ in SEEDS]
    states = envs.reset(SEEDS)
    np.testing.assert_array_equal(
        states, np.array([sim.reset(seed=seed)[0] for sim, seed in zip(sims, SEEDS)], np.float32)
    )
    ended = 0
    for actions in actions_of(kind, 150):
        states, rewards, terminated, success = envs.step(actions)
        expected = [sim.step(action) for sim, action in zip(sims, actions)]
        np.testing.assert_array_equal(states, np.array([e[0] for e in expected], np.float32))
        np.testing.assert_array_equal(rewards, [e[1] for e in expected])
        np.testing.assert_array_equal(terminated, [e[2] for e in expected])
        assert not success.any()
        ended += terminated.sum()
    assert (ended > 0) == (kind.gym_id != "HalfCheetah-v4"), (
        "random actions fell, where one can fall"
    )


def test_time_limit_is_that_of_the_registered_simulator(kind):
    assert gymnasium.spec(kind.gym_id).max_episode_steps == kind.horizon


def test_positions_and_velocities_are_the_simulators(kind):
    envs, sim = kind(2), make(kind.gym_id)
    envs.reset(SEEDS[:2])
    sim.reset(seed=SEEDS[1])
    for actions in actions_of(kind, 5, 2):
        envs.step(actions)
        sim.step(actions[1])
    positions, velocities = envs.positions_and_velocities()
    np.testing.assert_array_equal(positions[1], sim.data.qpos)
    np.testing.assert_array_equal(velocities[1], sim.data.qvel)


def test_an_episode_depends_on_its_seed_only(kind):
    together, alone = kind(3), kind(1)
    np.testing.assert_array_equal(together.reset(SEEDS)[1:2], alone.reset(SEEDS[1:2]))
    for actions in actions_of(kind, 20):
        for a, b in zip(together.step(actions), alone.step(actions[1:2])):
            np.testing.assert_array_equal(a[1:2], b)
    np.testing.assert_array_equal(kind(3).reset(SEEDS), together.reset(SEEDS))


def test_kept_episodes_go_on_as_if_the_others_were_there(kind):
    some, all_ = kind(3), kind(3)
    for envs in (some, all_):
        envs.reset(SEEDS)
    some.keep(np.array([True, False, True]))
    for actions in actions_of(kind, 10):
        for a, b in zip(some.step(actions[[0, 2]]), all_.step(actions)):
            np.testing.assert_array_equal(a, b[[0, 2]])


def test_actions_are_clipped_to_the_box_as_in_d4rl(kind):
    inside, outside = kind(1), kind(1)
    for envs in (inside, outside):
        envs.reset(SEEDS[:1])
    for a, b in zip(
        inside.step(np.ones((1, kind.action_dim))), outside.step(np.full((1, kind.action_dim), 3.0))
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "actions, seen",
    [(np.zeros((2, 3)), "(2, 3)"), (np.full((1, 3), np.nan), "3 entries not finite")],
)
def test_actions_that_do_not_fit_are_refused(actions, seen):
    envs = KINDS["hopper"](1)
    envs.reset([0])
    with pytest.raises(EnvError) as error:
        envs.step(actions)
    assert seen in str(error.value)


def test_more_seeds_than_episodes_are_refused():
    with pytest.raises(EnvError, match="make one for 2"):
        KINDS["hopper"](1).reset([0, 1])


def test_functions_of_the_table_give_their_simulator():
    for function, name in (
        (hopper_envs, "hopper"),
        (walker2d_envs, "walker2d"),
        (halfcheetah_envs, "halfcheetah"),
    ):
        assert type(function(2)) is KINDS[name]


def test_workers_give_the_serial_numbers():
    kind = KINDS["walker2d"]
    actions = actions_of(kind, 5)
    with ParallelEnvs(kind, 3, 2) as parallel:
        serial = kind(3)
        np.testing.assert_array_equal(parallel.reset(SEEDS), serial.reset(SEEDS))
        for a in actions:
            for x, y in zip(parallel.step(a), serial.step(a)):
                np.testing.assert_array_equal(x, y)
