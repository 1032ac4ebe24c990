"""OGBench's goals, reader and simulators beside the package's own, where it is installed (it wants
another MuJoCo than the extra sim: book/run.md).
"""

import warnings

import numpy as np
import pytest
import torch

ogbench = pytest.importorskip("ogbench", reason="needs ogbench, in an environment of its own")
from ogbench.relabel_utils import relabel_dataset  # noqa: E402

from arq_core.config.tasks import tasks  # noqa: E402
from arq_core.datasets.readers.ogbench import goals, read_ogbench  # noqa: E402
from arq_core.envs import ogbench as envs  # noqa: E402

ROWS = {name: row for name, row in tasks().items() if row.suite == "ogbench"}


@pytest.fixture(scope="module", params=ROWS)
def simulated(request):
    """(row, the package's environment of it)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield ROWS[request.param], ogbench.make_env_and_datasets(request.param, env_only=True)


def near_and_far(row, env, rng):
    """A file's arrays: places around the goal, of trajectories with 6 rows."""
    env.reset(seed=0)
    n, u = 60, env.unwrapped
    x = dict(
        observations=rng.normal(size=(n, row.state_dim)).astype(np.float32),
        actions=rng.uniform(-1, 1, (n, row.action_dim)).astype(np.float32),
        terminals=np.tile([0, 0, 0, 0, 0, 1], n // 6).astype(np.float32),
        qpos=np.zeros((n, u._model.nq if hasattr(u, "_model") else u.model.nq)),
        button_states=rng.integers(0, 2, (n, getattr(u, "_num_buttons", 1))),
    )
    for part in goals()[row.task]:
        columns = list(part.columns)
        spread = part.within * rng.uniform(0, 1.2, (n, 1)) if part.within else 0
        ways = rng.normal(size=(n, len(columns)))
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        hit = rng.random((n, 1)) < 0.95
        x[part.field][:, columns] = np.where(
            hit, np.array(part.target) + spread * ways, x[part.field][:, columns]
        )
    return x


def test_rewards_masks_and_steps_are_those_of_the_package(simulated, tmp_path):
    row, env = simulated
    x = near_and_far(row, env, np.random.default_rng(0))
    path = tmp_path / "x-v0.npz"
    np.savez_compressed(path, **x)
    theirs = ogbench.load_dataset(path, add_info=True)
    relabel_dataset(env.spec.id, env, theirs)
    assert 0 < theirs["masks"].mean() < 1  # some at the goal, some not
    t = read_ogbench(path, goal=row.task).transitions
    ours = dict(
        observations=t.states[t.state],
        next_observations=t.states[t.next_state],
        actions=t.actions,
        rewards=t.rewards,
        masks=1 - t.terminals.float(),
    )
    for name, seen in ours.items():
        assert torch.equal(seen, torch.tensor(theirs[name])), name
    # their terminals end trajectories, and so does our next episode
    ends = torch.tensor(theirs["terminals"]).bool() | t.terminals
    assert torch.equal(t.episode[1:] != t.episode[:-1], ends[:-1])


def test_dimensions_and_horizon_of_the_row_are_the_simulator_s(simulated):
    row, env = simulated
    assert env.observation_space.shape == (row.state_dim,)
    assert env.action_space.shape == (row.action_dim,)
    assert env.spec.max_episode_steps == row.horizon
    assert env.action_space.low.min() == -1 and env.action_space.high.max() == 1


@pytest.mark.parametrize("name", ["pointmaze-medium-navigate-singletask-v0", *list(ROWS)[-3:-2]])
def test_a_seed_is_an_episode_and_success_is_the_return(name):
    row = ROWS[name]
    first, second = (row.environments(2) for _ in range(2))
    begun = first.reset([3, 4])
    np.random.seed(7)  # others draw meanwhile
    state = np.random.get_state()[1].copy()
    assert np.array_equal(begun, second.reset([3, 4])) and not np.array_equal(*begun)
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 2, row.action_dim))
    for step in actions:
        one, other = first.step(step), second.step(step)
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert np.array_equal(one[1], one[3].astype(float))
    assert begun.dtype == np.float32
    assert np.array_equal(np.random.get_state()[1], state)
    first.close(), second.close()


def test_the_step_that_begins_at_the_goal_earns_1_and_ends_the_episode():
    env = envs.make_single_task("pointmaze-medium-navigate-singletask-v0")
    env.reset(seed=0)
    still = np.zeros(2, np.float32)
    assert env.step(still)[1:3] == (0.0, False)
    env.unwrapped.set_xy(np.array(goals()["pointmaze-medium-navigate-singletask-v0"][0].target))
    assert env.step(still)[1:3] == (1.0, True)
