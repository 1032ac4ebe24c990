"""What a critic says along the data, against what followed."""

import numpy as np
import pytest
import torch
from problems import chain, streams

from arq_core.algorithm.nets import Critic
from arq_core.algorithm.qlearning import QEnsemble
from arq_core.baselines.returns import monte_carlo
from arq_core.experiments.critics import Along, along_the_data, horizons_of_lag


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
