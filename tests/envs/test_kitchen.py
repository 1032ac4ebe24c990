"""Franka kitchen in D4RL's terms: its 60 entries, its reward, its end.

Skipped without the simulators.
"""

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulators are not installed")
pytest.importorskip("gymnasium_robotics", reason="the simulators are not installed")

from arq_core.envs import adroit, kitchen  # noqa: E402
from arq_core.envs.vector import EnvError  # noqa: E402


@pytest.fixture(scope="module")
def envs():
    return kitchen.kitchen_complete_envs(3)


def actions_of(seed, steps, n):
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, n, 9)).astype(np.float32)


def test_goals_are_gymnasium_robotics_and_sit_where_d4rl_writes_them(envs):
    from gymnasium_robotics.envs.franka_kitchen import kitchen_env

    for task in kitchen.GOALS:
        np.testing.assert_array_equal(kitchen.ENTRIES[task], kitchen_env.OBS_ELEMENT_INDICES[task])
        np.testing.assert_array_equal(kitchen.TARGETS[task], kitchen_env.OBS_ELEMENT_GOALS[task])
    assert kitchen.NEAR == kitchen_env.BONUS_THRESH
    goal = envs.reset([0, 1, 2])[:, 30:]
    assert set(envs.tasks) == {"microwave", "kettle", "light switch", "slide cabinet"}
    assert (
        np.flatnonzero(goal[0]).tolist() == [17, 18, 19, 22, 23, 24, 25, 26, 29]
        and (goal == goal[0]).all()
    )
    assert set(kitchen.BurnerAndLightEnvs.tasks) == {
        "microwave",
        "kettle",
        "bottom burner",
        "light switch",
    }


def test_without_noise_states_are_gymnasium_s_bit_for_bit(monkeypatch):
    monkeypatch.setattr(kitchen, "NOISE", 0.0)
    seeds, envs = [3, 4], kitchen.BurnerAndLightEnvs(2)
    alone = [
        adroit.make_simulator("FrankaKitchen-v1", robot_noise_ratio=0.0, object_noise_ratio=0.0)
        for _ in seeds
    ]
    starts = envs.reset(seeds)
    for start, sim, seed in zip(starts, alone, seeds):
        seen = sim.reset(seed=seed)[0]["observation"]
        np.testing.assert_array_equal(
            start[:30], np.concatenate([seen[:9], seen[18:39]]).astype(np.float32)
        )
    for actions in actions_of(0, 12, 2):
        states = envs.step(actions)[0]
        for state, sim, action in zip(states, alone, actions):
            seen = sim.step(action)[0]["observation"]
            np.testing.assert_array_equal(
                state[:30], np.concatenate([seen[:9], seen[18:39]]).astype(np.float32)
            )


def test_noise_is_d4rl_s_and_moves_the_controller(envs):
    """A tenth of franka_config.xml's amplitudes: 0.01 for the robot's joints, hinge cabinet,
    microwave and three of the quaternion.
    """
    bound = np.full(30, 0.0005)
    bound[[*range(9), 20, 21, 22, 26, 27, 28]] = 0.01
    bound[11:17] = 0.00005
    seen = []
    envs.reset([0])
    for action in actions_of(1, 40, 1):
        state = envs.step(action)[0][0, :30]
        seen.append(np.abs(state - envs.data[0].qpos))
    largest = np.max(seen, 0) / bound
    assert (largest < 1 + 1e-3).all() and (largest > 0.7).all()
    noisy = envs.seen[0]
    np.testing.assert_array_equal(noisy.astype(np.float32), state[:9])
    action = np.full((1, 9), 0.25)
    envs.step(action)
    wanted = np.clip(noisy + 2 * 0.25 * envs.robot.dt, *envs.robot.robot_pos_bound[:9].T)
    np.testing.assert_allclose(envs.data[0].ctrl, wanted, rtol=1e-12)


def test_episodes_sharing_a_model_equal_each_alone(envs):
    actions = actions_of(2, 12, 3)
    starts = envs.reset([3, 4, 5])
    together = [starts, *(envs.step(a)[0] for a in actions)]
    for i in range(3):
        alone = [envs.reset([3 + i]), *(envs.step(a[i : i + 1])[0] for a in actions)]
        np.testing.assert_array_equal(np.stack(alone)[:, 0], np.stack(together)[:, i])


def test_each_task_is_paid_once_and_four_end_the_episode(envs):
    envs.reset([0, 1])
    still, paid = np.zeros((2, 9)), []
    for task in envs.tasks:
        envs.data[0].qpos[kitchen.ENTRIES[task]] = kitchen.TARGETS[task]
        _, rewards, terminated, success = envs.step(still)
        paid.append(rewards.tolist())
        assert (terminated == success).all() and terminated.tolist() == [
            task == envs.tasks[-1],
            False,
        ]
    assert paid == [[1, 0]] * 4
    # undone and done again: not paid again
    envs.data[0].qpos[kitchen.ENTRIES["microwave"]] = 0.0
    envs.step(still)
    envs.data[0].qpos[kitchen.ENTRIES["microwave"]] = kitchen.TARGETS["microwave"]
    _, rewards, terminated, _ = envs.step(still)
    assert rewards[0] == 0 and terminated[0]
    envs.reset([0])
    # a new episode has everything to do again
    assert not envs.step(still[:1])[2].any()


def test_bad_actions_and_seeds_are_refused(envs):
    with pytest.raises(EnvError, match="LightAndSliderEnvs.reset: saw 4 seeds, expected 1 to 3"):
        envs.reset([0, 1, 2, 3])
    envs.reset([0, 1])
    with pytest.raises(EnvError, match=r"saw actions of shape \(2, 8\).*\(2, 9\)"):
        envs.step(np.zeros((2, 8)))
    with pytest.raises(EnvError, match="1 entries not finite"):
        envs.step(np.where(np.arange(18).reshape(2, 9) == 5, np.nan, 0))


def test_partial_is_complete_s_environment_and_dimensions_are_d4rl_s():
    assert type(kitchen.kitchen_partial_envs(1)) is kitchen.LightAndSliderEnvs
    mixed = kitchen.kitchen_mixed_envs(1)
    assert type(mixed) is kitchen.BurnerAndLightEnvs and (
        mixed.state_dim,
        mixed.action_dim,
        mixed.horizon,
    ) == (60, 9, 280)
