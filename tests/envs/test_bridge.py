"""The bridge is decided by the filter of Eq. 4 already with the true behaviour density, before any
model is learned.
"""

import numpy as np
import pytest

from arq_core.datasets.ours import collect_bridge, slipping_rule
from arq_core.envs import bridge
from arq_core.envs.bridge import GRASP, HALF_WIDTH, PLANKS, SLIP_CHANCE, STRAY, BridgeEnvs, middle

LOG_EPSILON = -5.0


@pytest.fixture(scope="module")
def data():
    return collect_bridge().transitions


def log_density(states, actions, std):
    """The behaviour's density in closed form, nats, of the standardised action."""
    aim = middle(states[:, None, 0] + 1) - states[:, None, 1]
    meant = (
        (np.abs(actions[..., 0]) <= GRASP)
        / (2 * GRASP)
        * np.exp(-0.5 * ((actions[..., 1] - aim) / STRAY) ** 2)
        / (STRAY * np.sqrt(2 * np.pi))
    )
    return np.log((1 - SLIP_CHANCE) * meant + SLIP_CHANCE / 4) + np.log(std).sum()


def guided_rewards(states, actions):
    """What the data say about actions [n, k, 2] at states [n, 2]: rewards under the guide."""
    n, k, _ = actions.shape
    env = BridgeEnvs(n * k, guide=True)
    env.place(np.repeat(states, k, 0))
    return env.step(actions.reshape(-1, 2))[1].reshape(n, k)


def crossing(data, log_epsilon, n=300, k=30):
    """Mean return alone, taking the best by the data's word of k true samples that pass epsilon."""
    env, rng, std = BridgeEnvs(n), np.random.default_rng(2), data.actions.std(0).numpy()
    states, returns, alive = env.reset(range(n)), np.zeros(n), np.ones(n, bool)
    for _ in range(env.horizon):
        actions = slipping_rule(np.repeat(states, k, 0), rng).reshape(n, k, 2)
        inside = log_density(states, actions, std) >= log_epsilon
        best = np.where(inside, guided_rewards(states, actions), -np.inf).argmax(1)
        states, rewards, terminated, _ = env.step(actions[np.arange(n), best])
        returns += rewards * alive
        alive &= ~terminated
    return returns.mean()


def test_same_seed_same_dataset_and_same_start():
    assert (
        collect_bridge(3, 50).sha256 == collect_bridge(3, 50).sha256 != collect_bridge(4, 50).sha256
    )
    starts = BridgeEnvs(3).reset([5, 6, 7])
    assert (BridgeEnvs(2).reset([7, 5]) == starts[[2, 0]]).all() and (starts[0] != starts[1]).any()


def test_alone_the_walker_falls_where_the_guide_catches_it():
    alone, guided = BridgeEnvs(1), BridgeEnvs(1, guide=True)
    over_the_edge = np.array([[0.0, middle(np.array(1.0)) + HALF_WIDTH + 0.01]])
    for env in (alone, guided):
        env.reset([0])
        env.place(np.zeros((1, 2)))
    state, reward, terminated, success = alone.step(over_the_edge)
    assert reward == -1 and terminated.all() and not success.any()
    state, reward, terminated, _ = guided.step(over_the_edge)
    assert (
        reward == pytest.approx(bridge.CAUGHT_REWARD)
        and not terminated.any()
        and state[0, 1] == pytest.approx(middle(np.array(1.0)))
    )


def test_all_coins_together_are_worth_one():
    env = BridgeEnvs(1)
    state, total = env.reset([0]), 0.0
    for plank in range(PLANKS):
        state, reward, terminated, success = env.step(
            np.stack([np.ones(1), middle(state[:, 0] + 1) - state[:, 1]], 1)
        )
        total += reward[0]
        assert terminated[0] == success[0] == (plank == PLANKS - 1)
    assert total == pytest.approx(1, abs=1e-6)


def test_nobody_falls_in_the_data_and_only_slips_are_caught(data):
    caught = data.rewards.numpy() > 1.5 / PLANKS
    assert (data.rewards >= 0).all() and 0.005 < caught.mean() < SLIP_CHANCE
    s, a = data.states[data.state].numpy(), data.actions.numpy()
    assert (
        np.abs(a[caught, 1] - (middle(s[caught, 0] + 1) - s[caught, 1])) > HALF_WIDTH - 1e-5
    ).all()
    # being caught pays twice the best honest step
    assert data.rewards[~caught].max() <= 1 / PLANKS + 1e-6


def test_epsilon_drops_slips_and_keeps_what_the_behavior_meant(data):
    rng = np.random.default_rng(0)
    s, std = data.states[data.state].numpy(), data.actions.std(0).numpy()
    meant = np.stack(
        [
            rng.uniform(-GRASP, GRASP, len(s)),
            middle(s[:, 0] + 1) - s[:, 1] + rng.normal(0, STRAY, len(s)),
        ],
        1,
    )
    assert (log_density(s, meant[:, None], std) >= LOG_EPSILON).mean() > 0.99
    edge = np.stack([np.zeros(len(s)), middle(s[:, 0] + 1) - s[:, 1] + HALF_WIDTH], 1)
    # with room for a model's error
    assert (log_density(s, edge[:, None], std) < LOG_EPSILON - 1.5).all()


def test_the_filter_decides_with_the_true_density(data):
    assert crossing(data, LOG_EPSILON) > 0.75 + 0.1
    assert crossing(data, -np.inf) < 0.45 - 0.3


def test_random_actions_fall_and_the_behavior_itself_falls_short():
    def episodes(rule, n=500):
        env, rng = BridgeEnvs(n), np.random.default_rng(1)
        states, returns, alive = env.reset(range(n)), np.zeros(n), np.ones(n, bool)
        for _ in range(env.horizon):
            states, rewards, terminated, _ = env.step(rule(states, rng))
            returns += rewards * alive
            alive &= ~terminated
        return returns.mean()

    assert episodes(lambda states, rng: rng.uniform(-1, 1, states.shape)) < -0.9
    assert episodes(slipping_rule) < 0.45
