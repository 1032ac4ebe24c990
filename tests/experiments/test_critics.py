"""What a critic says along the data, against what followed."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import chain, streams, tiny

from arq_core.algorithm.nets import Critic
from arq_core.algorithm.qlearning import QEnsemble
from arq_core.baselines.returns import monte_carlo
from arq_core.config.hyper import horizons_of_lag, neighbours_walk
from arq_core.experiments.critics import Along, along_the_data, warn_of_short_walks


def test_every_transition_is_asked_with_its_own_action_and_time():
    data, q = chain(episodes=6, length=9), QEnsemble(Critic(3, 2, streams()), 1)
    along = along_the_data(data, q, 0.9, 2)
    for m in (0, 17, 53):
        states = data.states[data.state[m]].expand(2, 1, 3)
        expected = q(states, data.actions[m].expand(2, 1, 1, 2)).flatten()
        torch.testing.assert_close(along.said[:, m], expected)
    assert along.time.tolist() == list(range(9)) * 6
    torch.testing.assert_close(along.followed, monte_carlo(data, 0.9))


def _along(said):
    """Twelve episodes of five steps, worth more from one to the next and from step to step."""
    episode, time = torch.arange(12).repeat_interleave(5), torch.arange(5).repeat(12)
    followed = episode + 100.0 * time
    return Along(said(episode, time)[None].float(), followed, time)


@pytest.mark.parametrize(
    "said, equal_time",
    [
        (lambda episode, time: episode + 100 * time, 1.0),
        (lambda episode, time: 100 * time - episode, -1.0),
        (lambda episode, time: episode * 7 + 3, 1.0),
    ],
)
def test_time_alone_explains_nothing_at_equal_times(said, equal_time):
    along = _along(said)
    assert along.rank_correlation(0, 5).item() == pytest.approx(equal_time)


def test_times_that_few_episodes_reach_are_left_out():
    along = _along(lambda episode, time: episode)
    assert np.isnan(along.rank_correlation(5, 9)).all()
    summary = along.summary()
    assert list(summary["rank_correlation"]) == ["0-25"]
    assert summary["followed"] == pytest.approx(along.followed.mean().item())


def test_the_papers_critics_walk_fifty_horizons_and_short_ones_less_than_one():
    assert horizons_of_lag(1_000_000, 0.99, 0.995) == pytest.approx(50)
    assert horizons_of_lag(10_000, 0.99, 0.995) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "method, length, steps, told",
    [
        ("arq+s_psi", 120, 20_000, "q takes 20,000 steps, .* by 1.0 horizons, expected 20 or more"),
        ("arq+pi", 120, 390_000, "by 19.5 horizons"),
        ("q_beta+s_psi", 120, 20_000, "q_beta takes 20,000 steps"),
        ("arq+s_psi", 120, 400_000, None),
        ("q_beta+s_psi", 50, 20_000, None),  # an episode ends before a horizon does
        ("s_psi", 120, 20_000, None),
        ("bc", 120, 20_000, None),
    ],
)
def test_a_critic_that_cannot_have_arrived_is_warned_of(recwarn, method, length, steps, told):
    h, b = tiny("adroit", q_steps=steps, q_beta_steps=steps)
    warn_of_short_walks(chain(episodes=2, length=length), h, b, method)
    said = [str(w.message) for w in recwarn]
    assert len(said) == bool(told) and (not told or re.search(told, said[0])), said


def test_a_critic_that_begins_as_returns_has_no_way_to_walk(recwarn):
    h, b = tiny("adroit", q_steps=10)
    warn_of_short_walks(chain(episodes=2, length=200), replace(h, warm_start=5), b, "arq+pi")
    assert not len(recwarn)


def test_a_neighbours_critic_is_counted_by_its_own_steps_lag_and_discount(recwarn):
    data, (hyper, budget) = chain(length=120), tiny(iql_steps=400)
    # warm starts are not for neighbours
    hyper = replace(hyper, gamma=0.99, warm_start=100, iql=dict(hyper.iql) | dict(polyak=0.98))
    # 400 steps, lag of 50 steps, horizon of 100: 0.08
    with pytest.warns(UserWarning, match="iql: iql takes 400 steps.*lags by 0.1 horizons"):
        warn_of_short_walks(data, hyper, budget, "iql")
    recwarn.clear()
    warn_of_short_walks(data, hyper, replace(budget, iql_steps=100_000), "iql")
    own = {k: v for k, v in hyper.iql.items() if k != "polyak"}
    warn_of_short_walks(data, replace(hyper, iql=own), budget, "iql")
    assert not recwarn.list


def test_a_critic_that_takes_several_steps_for_each_of_the_policys_walks_so_far():
    assert neighbours_walk(dict(polyak=0.995, q_share=20), 0.99, 100_000) == pytest.approx(100)
    assert neighbours_walk(dict(polyak=0.995, gamma=0.999), 0.99, 100_000) == pytest.approx(0.5)
    assert neighbours_walk(dict(lr=1e-3), 0.99, 100_000) is None
