"""The split-conformal epsilon: order statistics by hand, the promise by counting ranks and by the
Beta law, and what is refused.
"""

import re
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import chain, streams, tiny
from scipy.stats import beta, kstest

from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.types import DataError, Transitions, in_support
from arq_core.densities.conformal import (
    Relative,
    conformal_line,
    fewest,
    hold_out,
    law_of_dropped,
    one_of_each,
    order_of_line,
    recorded_log_prob,
    recordings,
)
from arq_core.engine.store import NoStore


@pytest.mark.parametrize(
    ("n", "delta", "k"),
    [(9, 0.1, 1), (9, 0.5, 5), (10, 0.5, 5), (99, 0.01, 1), (198, 0.01, 1), (199, 0.01, 2)],
)
def test_the_line_is_the_kth_smallest(n, delta, k):
    log_prob = torch.arange(n, 0, -1.0)  # n, ..., 1: the k-th smallest is k
    assert order_of_line(n, delta) == k and conformal_line(log_prob, delta) == k
    together = torch.stack([log_prob, log_prob - 100])
    assert conformal_line(together, delta).tolist() == [k, k - 100]


def test_a_share_is_the_decimal_number_that_was_written():
    assert 100 * 0.29 < 29 and order_of_line(99, 0.29) == 29


@pytest.mark.parametrize(("n", "delta"), [(4, 0.4), (5, 0.5), (5, 0.34)])
def test_over_all_orders_of_exchangeable_numbers_the_promise_is_exact(n, delta):
    dropped = [
        bool(new < conformal_line(torch.tensor(held), delta))
        for *held, new in permutations([float(i) for i in range(n + 1)])
    ]
    share = sum(dropped) / len(dropped)
    assert share == pytest.approx(order_of_line(n, delta) / (n + 1))
    assert delta - 1 / (n + 1) < share <= delta


def test_equal_densities_are_kept_and_never_more_than_delta_is_dropped():
    numbers = [0.0, 1.0, 1.0, 1.0, 2.0]
    lines = [
        (new, conformal_line(torch.tensor(held), 0.6).item())
        for *held, new in permutations(numbers)
    ]
    kept = [bool(in_support(torch.tensor([new]), line)) for new, line in lines]
    assert 1 - sum(kept) / len(kept) <= 0.6
    assert all(is_kept for (new, line), is_kept in zip(lines, kept, strict=True) if new == line)
    assert conformal_line(torch.ones(50), 0.1) == 1  # all equal: nothing is dropped


def test_the_dropped_share_of_a_held_out_set_is_a_beta_number():
    n, delta, g = 60, 0.1, torch.Generator().manual_seed(0)
    held = torch.rand(4000, n, generator=g, dtype=torch.float64)
    dropped = conformal_line(held, delta)  # of uniform numbers, the share below a line is the line
    a, b = law_of_dropped(n, delta)
    assert (a, b) == (6, 55)
    assert kstest(dropped, beta(a, b).cdf).pvalue > 0.01
    assert kstest(dropped, beta(a + 1, b).cdf).pvalue < 1e-6  # the next order would be seen
    assert delta - 1 / (n + 1) < beta(a, b).mean() <= delta


@given(st.floats(1e-4, 0.99))
def test_fewer_than_the_fewest_are_refused_and_they_are_enough(delta):
    n = fewest(delta)
    assert order_of_line(n, delta) >= 1
    if n:
        with pytest.raises(DataError, match=f"saw {n - 1}, expected at least {n} for"):
            order_of_line(n - 1, delta)


def test_the_error_says_how_many_are_needed_and_what_delta_there_is():
    with pytest.raises(DataError, match="saw 50, expected at least 99 for delta = 0.01") as told:
        conformal_line(torch.randn(50), 0.01)
    assert "a delta of 0.02 or more" in str(told.value)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, float("nan")])
def test_a_delta_that_is_no_share_is_refused(delta):
    with pytest.raises(DataError, match="expected a share between 0 and 1"):
        conformal_line(torch.randn(50), delta)


def test_a_density_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="saw 1 that are not numbers"):
        conformal_line(torch.tensor([0.0, torch.nan, 1.0]), 0.5)


def test_whole_episodes_are_held_out_and_none_is_on_both_sides():
    data = chain(episodes=20, length=5)
    seen, held = hold_out(data, 0.25)
    episodes = [set(x.episode.tolist()) for x in (seen, held)]
    assert len(episodes[1]) == 5 and episodes[0] | episodes[1] == set(range(20))
    assert not episodes[0] & episodes[1]
    assert all(int((held.episode == e).sum()) == 5 for e in episodes[1])
    assert hold_out(data, 0.25)[1].fingerprint() == held.fingerprint()
    assert hold_out(data, 0.25, seed=1)[1].fingerprint() != held.fingerprint()


def test_every_episode_is_held_out_as_often():
    data, counts = chain(episodes=6, length=2), torch.zeros(6)
    for seed in range(600):
        counts[hold_out(data, 1 / 3, seed)[1].episode.unique()] += 1
    assert (counts / 600 - 1 / 3).abs().max() < 0.08  # four standard deviations


def test_a_recording_that_goes_on_behind_a_terminal_is_on_one_side():
    """Three recordings of four steps; in OGBench's, each step at the goal is an episode's last."""
    state = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13])
    ends = torch.tensor([0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1]).bool()
    episode = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 3, 4, 4, 4])
    row = torch.arange(12.0)
    states = torch.zeros(15, 1)
    data = Transitions(states, state, state + 1, row[:, None] / 12, row, ends, episode)
    assert recordings(data).tolist() == [0, 4, 8]
    assert recordings(chain(episodes=3, length=5)).tolist() == [0, 5, 10]
    for seed in range(5):
        seen, held = ({int(r) // 4 for r in x.rewards} for x in hold_out(data, 0.3, seed))
        assert len(held) == 1 and len(seen) == 2 and not seen & held
        rows = one_of_each(data, seed)
        assert rows.div(4, rounding_mode="floor").tolist() == [0, 1, 2]


@pytest.mark.parametrize("n", [50, 70, 98, 998])
def test_the_delta_that_is_advised_is_taken(n):
    with pytest.raises(DataError) as told:
        order_of_line(n, 0.0005)
    assert order_of_line(n, float(re.search(r"delta of ([\d.]+) or", str(told.value))[1])) >= 1


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_one_episode_at_least_is_on_either_side(share):
    seen, held = hold_out(chain(episodes=4, length=3), share)
    assert min(len(seen.episode.unique()), len(held.episode.unique())) == 1


def test_a_single_episode_is_refused_with_one_error():
    with pytest.raises(DataError, match=r"episodes: saw 1 \(10 transitions\), expected at least 2"):
        hold_out(chain(episodes=1), 0.1)
    with pytest.raises(DataError, match="share: saw 1"):
        hold_out(chain(), 1.0)


def test_one_of_each_episode_is_drawn_evenly():
    data = chain(episodes=3, length=4)
    rows = torch.stack([one_of_each(data, seed) for seed in range(800)])
    assert (data.episode[rows] == torch.arange(3)).all()
    often = torch.stack([torch.bincount(r, minlength=12) for r in rows.T]).sum(0) / 800
    assert (often - 1 / 4).abs().max() < 0.07


@pytest.fixture(scope="module")
def clone():
    h, b = tiny()
    return fit_behavior(chain(), h, b, streams(), NoStore())


def test_recorded_densities_are_those_of_the_clone_one_by_one(clone, monkeypatch):
    monkeypatch.setattr("arq_core.densities.conformal.ROWS", 32)
    data = chain()
    found = recorded_log_prob(clone, data, streams())
    assert found.shape == (2, 120)
    rng = streams().fork("recorded", 32)
    some = clone.log_prob(
        data.actions[32:64][:, None].expand(2, -1, -1, -1),
        data.states[data.state[32:64]].expand(2, -1, -1),
        rng,
    )
    assert torch.equal(found[:, 32:64], some.squeeze(-1))


def test_a_line_of_each_member_is_zero_for_all(clone):
    line = torch.tensor([-1.0, 2.0])
    states = chain().states[:7].expand(2, -1, -1)
    actions, own = clone.sample_with_log_prob(states, 4, streams())
    same, relative = Relative(clone, line[:, None, None]).sample_with_log_prob(states, 4, streams())
    assert torch.equal(same, actions)
    for e in range(2):
        assert torch.equal(in_support(relative[e], 0.0), own[e] - line[e] >= 0)
        assert torch.allclose(relative[e], own[e] - line[e])
