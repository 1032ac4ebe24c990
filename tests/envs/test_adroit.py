"""The four Adroit tasks: the simulator's own numbers with D4RL's reward, bit for bit.

Skipped without the simulators.
"""

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulators are not installed")
pytest.importorskip("gymnasium_robotics", reason="the simulators are not installed")

from arq_core.envs import adroit  # noqa: E402
from arq_core.envs.parallel import ParallelEnvs  # noqa: E402
from arq_core.envs.vector import EnvError  # noqa: E402

KINDS = [adroit.DoorEnvs, adroit.HammerEnvs, adroit.PenEnvs, adroit.RelocateEnvs]
EVERY = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)


def actions_of(kind, seed, steps, n):
    return (
        np.random.default_rng(seed)
        .uniform(-1.2, 1.2, (steps, n, kind.action_dim))
        .astype(np.float32)
    )


@EVERY
def test_episodes_sharing_a_model_equal_gymnasium_s_own_bit_for_bit(kind):
    """What a reset moves in the model belongs to an episode: door, board, ball, both targets, and
    the pen's measured lengths.
    """
    seeds, envs = [3, 4, 5], kind(4)
    alone = [adroit.make_simulator(kind.hand.simulator) for _ in seeds]
    # leaves the model as another episode had it
    envs.reset([9, 8, 7, 6])
    starts = envs.reset(seeds)
    assert len(np.unique(starts, axis=0)) == len(seeds)
    for start, sim, seed in zip(starts, alone, seeds):
        np.testing.assert_array_equal(start, sim.reset(seed=seed)[0].astype(np.float32))
    for actions in actions_of(kind, 1, 40, len(seeds)):
        states, rewards, _, success = envs.step(actions)
        for i, sim in enumerate(alone):
            state, reward, _, _, info = sim.step(actions[i])
            np.testing.assert_array_equal(states[i], state.astype(np.float32))
            assert (rewards[i], success[i]) == (
                adroit.d4rl_reward(kind.hand, reward, state),
                info["success"],
            )


@EVERY
def test_same_seed_same_episode_whatever_ran_before_or_beside_it(kind):
    envs, actions = kind(2), actions_of(kind, 2, 20, 1)
    envs.reset([7, 8])
    beside = np.stack([envs.step(np.repeat(a, 2, 0))[0][1] for a in actions])
    envs.reset([8])
    np.testing.assert_array_equal(beside, np.stack([envs.step(a)[0][0] for a in actions]))


@pytest.mark.parametrize("kind", [adroit.HammerEnvs, adroit.RelocateEnvs], ids=lambda k: k.__name__)
def test_reward_is_d4rl_s_formula(kind):
    """From D4RL's hammer_v0.step and relocate_v0.step, on bodies and sites of the simulator."""
    envs = kind(1)
    envs.reset([0])
    for actions in actions_of(kind, 3, 60, 1):
        _, reward, _, success = envs.step(actions)
        data = envs.sim.data
        palm, body = data.site("S_grasp").xpos, data.body("Object").xpos
        expected = -0.1 * np.linalg.norm(palm - body)
        if kind is adroit.HammerEnvs:
            head, nail, goal = (data.site(name).xpos for name in ("tool", "S_target", "nail_goal"))
            far = np.linalg.norm(nail - goal)
            expected -= np.linalg.norm(head - nail) + 10 * far + 0.01 * np.linalg.norm(data.qvel)
            expected += (
                2 * (body[2] > 0.04 and head[2] > 0.04) + 25 * (far < 0.02) + 75 * (far < 0.01)
            )
            assert success == (far < 0.01)
        else:
            target = data.site("target").xpos
            far = np.linalg.norm(body - target)
            lifted = 1 - 0.5 * np.linalg.norm(palm - target) - 0.5 * far
            expected += lifted * (body[2] > 0.04) + 10 * (far < 0.1) + 20 * (far < 0.05)
            assert success == (far < 0.1)
        assert reward[0] == pytest.approx(expected, abs=1e-12)


def test_the_pen_s_episode_ends_where_it_is_dropped_and_only_the_pen_s():
    pen, actions = adroit.PenEnvs(8), actions_of(adroit.PenEnvs, 4, 100, 8)
    pen.reset(range(8))
    ended = []
    for a in actions:
        _, reward, terminated, _ = pen.step(a)
        heights = np.array([data.body("Object").xpos[2] for data in pen.data])
        # D4RL's penalty of 5 is in it
        assert (terminated == (heights < 0.075)).all() and (reward[terminated] < -3).all()
        ended.append(terminated)
    assert 0 < np.any(ended, 0).sum() and not ended[0].any()
    relocate = adroit.RelocateEnvs(2)
    relocate.reset([0, 1])
    assert not any(relocate.step(a)[2].any() for a in actions_of(adroit.RelocateEnvs, 4, 30, 2))


def test_dimensions_and_horizons_are_d4rl_s():
    assert {k.__name__: (k.state_dim, k.action_dim, k.horizon) for k in KINDS} == {
        "DoorEnvs": (39, 28, 200),
        "HammerEnvs": (46, 26, 200),
        "PenEnvs": (45, 24, 100),
        "RelocateEnvs": (39, 30, 200),
    }
    for kind in KINDS:
        sim = adroit.make_simulator(kind.hand.simulator)
        assert (sim.observation_space.shape, sim.action_space.shape) == (
            (kind.state_dim,),
            (kind.action_dim,),
        )


def test_workers_give_the_serial_numbers():
    actions, seeds = actions_of(adroit.PenEnvs, 5, 6, 5), [4, 3, 2, 1, 0]
    serial = adroit.PenEnvs(5)
    with ParallelEnvs(adroit.PenEnvs, 5, 2) as parallel:
        np.testing.assert_array_equal(parallel.reset(seeds), serial.reset(seeds))
        for a in actions:
            for got, expected in zip(parallel.step(a), serial.step(a), strict=True):
                np.testing.assert_array_equal(got, expected)


def test_bad_actions_and_seeds_are_refused():
    envs = adroit.RelocateEnvs(2)
    with pytest.raises(EnvError, match="RelocateEnvs.step: .*reset first"):
        envs.step(np.zeros((1, 30)))
    with pytest.raises(EnvError, match=r"saw 3 seeds, expected 1 to 2; make RelocateEnvs\(3\)"):
        envs.reset([0, 1, 2])
    envs.reset([0, 1])
    with pytest.raises(EnvError, match=r"saw actions of shape \(2, 28\).*\(2, 30\)"):
        envs.step(np.zeros((2, 28)))
    with pytest.raises(EnvError, match="1 entries not finite"):
        envs.step(np.where(np.arange(60).reshape(2, 30) == 5, np.inf, 0))


def test_a_missing_package_is_an_error_that_says_how_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gymnasium_robotics", None)
    with pytest.raises(EnvError, match="the simulator cannot be loaded .*pip install"):
        adroit.door_envs(1)
