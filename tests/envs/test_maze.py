"""The maze keeps its promises: what is where, what the data hold, and that the answer can be
computed from the data alone.
"""

import numpy as np
import pytest

from arq_core.datasets.ours import collect_maze, memoryless_rule
from arq_core.envs import maze
from arq_core.envs.bridge import BridgeEnvs
from arq_core.envs.maze import DOORS, LURE, REACH, WAY, MazeEnvs, inside, maze_layout
from arq_core.envs.vector import EnvError

GAMMA = 0.99
# waypoints, then where side branches end
PLACES = np.array([*WAY, LURE[1], *(end for _, end in DOORS)], float)


@pytest.fixture(scope="module")
def data():
    return collect_maze().transitions


def episodes(policy, n=300, seed=1):
    """Undiscounted returns [n] of policy(states, rng)."""
    env, rng = MazeEnvs(n), np.random.default_rng(seed)
    states, returns, alive = env.reset(range(n)), np.zeros(n), np.ones(n, bool)
    for _ in range(env.horizon):
        states, rewards, terminated, _ = env.step(policy(states, rng))
        returns += rewards * alive
        alive &= ~terminated
    return returns


def place_of(states):
    return np.linalg.norm(np.asarray(states)[:, None] - PLACES, axis=-1).argmin(1)


def tabular(data):
    """(place, place stepped to, reward, terminal) of each transition, and how often the data take
    each such step: [P, P].
    """
    here, there = place_of(data.states[data.state]), place_of(data.states[data.next_state])
    counts = np.zeros((len(PLACES), len(PLACES)))
    np.add.at(counts, (here, there), 1)
    rewards, ends = np.zeros(len(PLACES)), np.zeros(len(PLACES), bool)
    rewards[there], ends[there] = data.rewards.numpy(), data.terminals.numpy()
    return counts, rewards, ends


def iterate(counts, backup, rewards, ends):
    """Value iteration over the steps that the data contain: Q of stepping to each place, the same
    from wherever it is taken.
    """
    q = np.zeros(len(rewards))
    for _ in range(500):
        q = rewards + GAMMA * ~ends * backup(counts, q)
    return q


def of_behavior(counts, q):
    return counts @ q / counts.sum(1).clip(1)


def best_in_support(counts, q):
    return np.where(counts > 0, q, -np.inf).max(1, initial=-np.inf, where=counts > 0).clip(min=-1)


def greedy(counts, q):
    best = np.where(counts > 0, q, -np.inf).argmax(1)
    return lambda states, rng: (PLACES[best[place_of(states)]] - states) / REACH


def test_same_seed_same_dataset_and_same_start():
    assert collect_maze(3, 50).sha256 == collect_maze(3, 50).sha256 != collect_maze(4, 50).sha256
    starts = MazeEnvs(3).reset([5, 6, 7])
    assert (MazeEnvs(2).reset([7, 5]) == starts[[2, 0]]).all() and (starts[0] != starts[1]).any()


def test_ends_pay_what_is_promised():
    env = MazeEnvs(1)
    for junction, end, reward, success in [(*LURE, 0.3, False), (WAY[-2], WAY[-1], 1.0, True)] + [
        (*d, 0.0, False) for d in DOORS
    ]:
        env.place(np.array([junction], np.float32))
        _, r, terminated, reached = env.step((np.array([end]) - junction) / REACH)
        assert r == pytest.approx(reward) and terminated.all() and reached.all() == success


def test_lava_is_met_on_the_way_not_only_where_a_step_ends():
    env, layout = MazeEnvs(1), maze_layout()
    # both on floor, lava between them
    here, there = np.array([[1.0, 2.0]]), np.array([[0.32, 2.9]])
    assert inside(here, layout["floor"]).all() and inside(there, layout["floor"]).all()
    env.place(here)
    state, reward, terminated, success = env.step((there - here) / REACH)
    assert (
        reward == -1
        and terminated.all()
        and not success.any()
        and not inside(state, layout["floor"]).any()
    )


def test_mean_of_a_junctions_modes_leads_into_lava():
    for junction, end in [LURE, *DOORS]:
        onward = np.array(WAY[WAY.index(junction) + 1])
        mean = maze.SIDE_CHANCE * np.array(end) + (1 - maze.SIDE_CHANCE) * onward - junction
        env = MazeEnvs(1)
        env.place(np.array([junction], np.float32))
        assert env.step(mean[None] / REACH)[1] == -1, junction


def test_no_data_enter_lava_and_each_transition_is_the_environments_own(data):
    assert inside(data.states.numpy(), maze_layout()["floor"]).all()
    env = MazeEnvs(len(data.actions))
    env.place(data.states[data.state].numpy())
    states, rewards, terminated, _ = env.step(data.actions.numpy())
    np.testing.assert_allclose(states, data.states[data.next_state], atol=1e-5)
    np.testing.assert_allclose(rewards, data.rewards, atol=1e-6)
    assert (terminated == data.terminals.numpy()).all() and (rewards >= 0).all()


def test_actions_lie_inside_the_box_so_none_is_clipped(data):
    assert float(data.actions.abs().max()) < 0.95


def test_hardly_an_episode_leads_from_the_start_to_the_goal(data):
    first = np.unique(data.episode.numpy(), return_index=True)[1]
    from_start = data.episode.numpy()[first][place_of(data.states[data.state[first]]) == 0]
    reached = set(data.episode[data.rewards == 1].tolist())
    assert len(from_start) > 50
    assert len(reached & set(from_start.tolist())) / len(from_start) < 0.05
    # though the goal is reached from nearer by
    assert (data.rewards == 1).sum() > 100


def test_behaviors_value_prefers_the_lure_and_the_best_in_the_data_the_goal(data):
    counts, rewards, ends = tabular(data)
    junction, lure, onward = 1, len(WAY), 2
    assert counts[junction, lure] > 0 and counts[junction, onward] > 0
    q_beta, q = (
        iterate(counts, backup, rewards, ends) for backup in (of_behavior, best_in_support)
    )
    assert q_beta[lure] > 2 * q_beta[onward] and q[onward] > 2 * q[lure]
    # the known answer, from the start
    assert q[0] == pytest.approx(GAMMA ** (len(WAY) - 1), abs=1e-6)
    assert episodes(greedy(counts, q_beta)).mean() == pytest.approx(0.3)
    assert episodes(greedy(counts, q)).mean() == 1


def test_random_actions_fall_into_lava_and_the_behavior_falls_short():
    assert episodes(lambda states, rng: rng.uniform(-1, 1, states.shape)).mean() < -0.9
    assert 0.1 < episodes(memoryless_rule, 2000).mean() < 0.35


@pytest.mark.parametrize("kind", [MazeEnvs, BridgeEnvs])
def test_episodes_begin_as_many_as_there_is_room_for(kind):
    for seeds in ([], range(4)):
        with pytest.raises(EnvError, match=f"saw {len(seeds)} seeds, expected 1 to 3"):
            kind(3).reset(seeds)
    for states in (np.zeros((0, 2)), np.zeros((2, 3)), np.zeros(2)):
        with pytest.raises(EnvError, match="place: saw states of shape"):
            kind(3).place(states)
    with pytest.raises(EnvError, match="place: saw 1 entries that are not finite"):
        kind(3).place([[0, np.nan]])
    envs = kind(3)
    envs.reset([1, 2])
    with pytest.raises(EnvError, match=r"saw actions of shape \(3, 2\)"):
        envs.step(np.zeros((3, 2)))
