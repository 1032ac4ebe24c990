"""arq_core.datasets.statistics: exact counts, densities that match closed forms, no comparison of a
step with its own episode.
"""

import math

import numpy as np
import pytest
import torch
from problems import chain

from arq_core.algorithm.types import DataError, Transitions
from arq_core.datasets import statistics as s


@pytest.fixture(autouse=True)
def fewer_queries(monkeypatch):
    monkeypatch.setattr(s, "QUERIES", 120)


def spread(actions, states, episodes=8):
    """Transitions with the given states and actions [M ...], dealt out to episodes in equal
    consecutive pieces.
    """
    m = len(actions)
    rows = torch.arange(m)
    states, actions = (
        torch.as_tensor(x, dtype=torch.float32).reshape(m, -1) for x in (states, actions)
    )
    return Transitions(
        states,
        rows,
        rows.roll(-1),
        actions,
        torch.zeros(m),
        torch.zeros(m, dtype=torch.bool),
        rows * episodes // m,
    )


def test_lengths_and_returns_are_sums_over_the_kept_transitions():
    data = chain(episodes=5, length=7, terminal_every=2)
    e = s.episodes(data)
    assert e.length.tolist() == [7] * 5 and e.ended.tolist() == [True, False, True, False, True]
    np.testing.assert_allclose(e.returns, data.rewards.double().view(5, 7).sum(1))


def test_atoms_are_entries_exactly_at_the_faces():
    just_inside = np.nextafter(np.float32(1), np.float32(0))
    low, high = s.atoms(
        spread(
            np.array([[1, -1], [1, 0], [just_inside, -1], [0.5, -just_inside]]),
            np.zeros((4, 1)),
            episodes=2,
        )
    )
    assert low.tolist() == [0, 0.5] and high.tolist() == [0.5, 0]


@pytest.mark.parametrize("count, most", [(1, 5), (5, 5), (6, 5), (1_000_003, 1000)])
def test_spaced_rows_are_distinct_and_reach_both_ends(count, most):
    rows = s.spaced(count, most)
    assert (
        rows[0] == 0
        and rows[-1] == count - 1
        and len(rows) == min(count, most)
        and (np.diff(rows) > 0).all()
    )


def test_gain_of_two_separate_modes_is_the_closed_form():
    """Two modes at ±1 of width w against one Gaussian of variance 1 + w²: log sqrt(1 + 1/w²) - log
    2 nats.
    """
    rng, width = np.random.default_rng(1), 0.2
    x, y = (
        rng.choice([-1, 1], (2, 4000)) + width * rng.standard_normal((2, 4000)) for _ in range(2)
    )
    gain = (s.mixture_log_prob(x, y) - s.gaussian_log_prob(x, y)).mean()
    assert gain == pytest.approx(0.5 * math.log1p(width**-2) - math.log(2), abs=0.02)


def test_a_rare_mode_is_found():
    rng = np.random.default_rng(2)
    x, y = (
        np.where(rng.random((1, 2000)) < 0.05, 6.0, 0.0) + 0.5 * rng.standard_normal((1, 2000))
        for _ in range(2)
    )
    truth = np.logaddexp(
        *(math.log(p) + s._normal(y, m, 0.5) for p, m in ((0.95, 0.0), (0.05, 6.0)))
    ).mean()
    assert s.mixture_log_prob(x, y).mean() == pytest.approx(truth, abs=0.01)


def test_densities_integrate_to_one():
    x, grid = np.random.default_rng(3).standard_normal((1, 64)), np.linspace(-12, 12, 20_001)[None]
    for log_prob in (s.gaussian_log_prob, s.mixture_log_prob):
        assert np.exp(log_prob(x, grid)).sum() * (grid[0, 1] - grid[0, 0]) == pytest.approx(
            1, abs=1e-6
        )


def behaviour(seed=0, m=4000):
    """For states below 0 one Gaussian, above two modes of the same spread in all."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-1, 1, m)
    one, two = (
        0.5 * rng.standard_normal(m),
        rng.choice([-0.49, 0.49], m) + 0.1 * rng.standard_normal(m),
    )
    return spread(np.clip(np.where(states < 0, one, two), -1, 1), states)


def test_modes_tell_where_a_gaussian_fails():
    data = behaviour()
    found = s.modes(data)
    states = data.states[data.state[found.rows], 0].numpy()
    # a neighbourhood across the border has both
    inside = np.abs(states) > 0.1
    failed = found.gain > found.chance
    assert failed[(states > 0) & inside].all()
    # clipped at the box, and one chance in twenty
    assert failed[(states < 0) & inside].mean() < 0.25


def test_gain_by_chance_is_as_rare_as_said():
    rng = np.random.default_rng(7)
    found = s.modes(spread(0.1 * rng.standard_normal(4000), rng.uniform(-1, 1, 4000)))
    # 0.05 expected; neighbourhoods overlap
    assert found.share < 0.15


def test_modes_are_the_same_for_shifted_and_scaled_actions_and_in_every_call():
    data = behaviour()
    moved = spread(0.25 * data.actions.numpy() + 0.5, data.states.numpy())
    np.testing.assert_array_equal(s.modes(data).gain, s.modes(data).gain)
    np.testing.assert_allclose(s.modes(moved).gain, s.modes(data).gain, atol=1e-4)


def test_a_deterministic_policy_with_atoms_gains_nothing():
    data = spread(
        np.ones((400, 1)) * np.where(np.arange(400) < 200, -1, 1)[:, None],
        np.repeat([[-1.0], [1.0]], 200, 0),
        episodes=20,
    )
    found = s.modes(data)
    assert np.isfinite(found.gain).all() and found.share == 0


def test_nearest_pair_is_of_another_half_of_the_episodes():
    """Episodes at 0 and at 10: the nearest foreign pair is far, however near the own episode's
    steps are.
    """
    states = np.concatenate([np.linspace(0, 0.1, 50), np.linspace(10, 10.1, 50)])
    found = s.coverage(spread(np.zeros((100, 1)), states, episodes=2))
    assert (found.nearest > 0.9 * found.typical).all()
    alike = s.coverage(spread(np.zeros((100, 1)), np.tile(np.linspace(0, 10, 50), 2), episodes=2))
    assert (alike.nearest == 0).all() and alike.typical > 0


def test_projection_keeps_the_largest_variance():
    rng = np.random.default_rng(0)
    common = rng.standard_normal(600)
    found = s.coverage(spread(rng.uniform(-1, 1, 600), np.stack([common, common, np.ones(600)], 1)))
    assert found.explained[0] == pytest.approx(2 / 3, abs=0.03) and found.points.shape == (600, 2)
    assert abs(np.corrcoef(found.points[:, 0], common[found.rows])[0, 1]) > 0.99


@pytest.mark.parametrize("look", [s.coverage, s.modes])
def test_one_episode_is_refused(look):
    with pytest.raises(DataError, match="saw 1, expected at least two"):
        look(chain(episodes=1))


def test_facts_are_what_their_names_say():
    data = chain(episodes=4, length=5)
    found, returns = s.facts(data), data.rewards.double().view(4, 5).sum(1)
    assert (found["transitions"], found["episodes"], found["ended"], found["states"]) == (
        20,
        4,
        2,
        24,
    )
    assert found["return_max"] == pytest.approx(float(returns.max()))
    assert found["return_std"] == pytest.approx(float(returns.std(correction=0)))
    assert (found["length_min"], found["length_max"], found["at_box"]) == (5, 5, 0)
