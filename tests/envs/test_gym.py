"""Any Gymnasium environment as a vector of episodes: the same numbers, a stretched action box, and
one clear error where it cannot be used.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

gymnasium = pytest.importorskip(
    "gymnasium", reason="the simulators are an extra: pip install '.[sim]'"
)
from arq_core.envs.gym import GymEnvs, GymVectors, by_id  # noqa: E402
from arq_core.envs.vector import EnvError  # noqa: E402


def test_episodes_are_the_environments_own():
    envs, alone = by_id("gymnasium:Pendulum-v1")(3), gymnasium.make("Pendulum-v1")
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 3, 1))
    assert (envs.state_dim, envs.action_dim, envs.horizon) == (3, 1, 200)
    states, got = [envs.reset([4, 5, 6])], []
    for a in actions:
        state, reward, *_ = envs.step(a)
        states.append(state)
        got.append(reward)
    expected = [alone.reset(seed=5)[0]]
    for a, reward in zip(actions[:, 1], np.array(got)[:, 1], strict=True):
        observation, r, *_ = alone.step(2 * a.astype(np.float32))  # torques are in [-2, 2]
        expected.append(observation)
        assert r == pytest.approx(reward, rel=1e-6)
    assert np.allclose(np.stack(states)[:, 1], expected, rtol=1e-5, atol=1e-6)


class Counter(gymnasium.Env):
    """Ends after `length` steps with success; a dict of observations."""

    observation_space = gymnasium.spaces.Dict(
        a=gymnasium.spaces.Box(-9, 9, (2,)), b=gymnasium.spaces.Box(-9, 9, (1,))
    )
    action_space = gymnasium.spaces.Box(np.float32([0, -3]), np.float32([1, 5]))

    def reset(self, *, seed=None, options=None):
        self.t, self.length = 0, seed
        return self.seen(), {}

    def seen(self):
        return dict(a=np.full(2, self.t, np.float32), b=np.float32([-self.t]))

    def step(self, action):
        assert self.t < self.length, "stepped after its end"
        self.t, self.action = self.t + 1, action
        return self.seen(), 1.0, self.t == self.length, False, dict(success=self.t == self.length)


def test_ended_episodes_rest_and_dicts_are_flattened():
    envs = GymEnvs(Counter, 2, horizon=9)
    envs.reset([1, 3])
    steps = [envs.step(np.array([[-1.0, 1.0], [1.0, -1.0]])) for _ in range(3)]
    assert [s[1].tolist() for s in steps] == [[1, 1], [0, 1], [0, 1]]
    assert [s[2].tolist() for s in steps] == [[True, False], [True, False], [True, True]]
    assert [s[3].tolist() for s in steps] == [[True, False], [False, False], [False, True]]
    assert steps[-1][0].tolist() == [[1, 1, -1], [3, 3, -3]]
    # the corner (1, -1) of the box
    assert envs.envs[1].unwrapped.action.tolist() == [1, -3]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: gymnasium.make("CartPole-v1"), "expected a box of finite real numbers"),
        (Counter, "saw no time limit"),
    ],
)
def test_unfit_environment_is_refused(make, message):
    with pytest.raises(EnvError, match=message):
        GymEnvs(make, 1)


def test_unknown_id_is_refused():
    with pytest.raises(EnvError, match="Gymnasium does not make"):
        by_id("gymnasium:NoSuchThing-v0")(1)


def in_a_fresh_process(name):
    """What is said of an id where no other package has been imported."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from arq_core.envs.gym import by_id\n"
        "try: print(by_id(sys.argv[2])(1).state_dim)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, root, name], capture_output=True, encoding="utf-8", check=True
    )
    return done.stdout


@pytest.mark.parametrize("name", ["AdroitHandDoor-v1", "FetchReachDense-v4"])
def test_the_package_that_registers_an_id_is_named(name):
    pytest.importorskip("gymnasium_robotics", reason="registers the ids of this test")
    said = in_a_fresh_process(f"gymnasium:{name}")
    assert f"write 'gymnasium:gymnasium_robotics:{name}'" in said and "EnvError" in said
    assert int(in_a_fresh_process(f"gymnasium:gymnasium_robotics:{name}").split()[-1]) > 10


def test_an_id_of_no_package_and_a_package_that_is_not_there_are_told_apart():
    with pytest.raises(EnvError, match="gymnasium:PACKAGE:ID"):
        by_id("gymnasium:NoSuchThing-v0")(1)
    with pytest.raises(EnvError, match="install the package no_such_package"):
        by_id("gymnasium:no_such_package:Thing-v0")(1)


def test_a_time_limit_may_be_a_wrapper():
    limit = gymnasium.wrappers.TimeLimit
    assert GymEnvs(lambda: limit(Counter(), 7), 1).horizon == 7
    vector = gymnasium.vector.SyncVectorEnv([lambda: limit(Counter(), 6)])
    assert GymVectors(vector, 1).horizon == 6
