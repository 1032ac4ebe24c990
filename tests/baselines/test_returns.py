"""Returns against sums written out, and critics that are regressed on them."""

from dataclasses import replace

import pytest
import torch
from problems import chain, streams, tiny

from arq_core.baselines.returns import (
    TAIL,
    beyond,
    fit_returns,
    lambda_returns,
    monte_carlo,
    warm_start,
)
from arq_core.engine.store import NoStore
from arq_core.experiments.methods import METHODS

GAMMA = 0.9


def _written_out(data, last_value):
    """Discounted sums, transition by transition."""
    result = []
    for m in range(len(data.rewards)):
        total, factor = 0.0, 1.0
        for k in range(m, len(data.rewards)):
            if data.episode[k] != data.episode[m]:
                break
            total += factor * data.rewards[k].item()
            factor *= GAMMA
        end = k if data.episode[k] == data.episode[m] else k - 1
        result.append(total + factor * (0.0 if data.terminals[end] else last_value[end].item()))
    return torch.tensor(result)


def test_monte_carlo_returns_are_discounted_sums_and_a_cut_goes_on_as_it_ended():
    data = chain(episodes=5, length=13)
    cut = beyond(data, GAMMA)
    ends = torch.arange(12, 65, 13)
    torch.testing.assert_close(monte_carlo(data, GAMMA), _written_out(data, cut))
    for end in ends.tolist():
        mean = data.rewards[end - TAIL + 1 : end + 1].double().mean() / (1 - GAMMA)
        assert cut[end] == (0 if data.terminals[end] else mean)
    assert cut.nonzero().flatten().tolist() == ends[~data.terminals[ends]].tolist()


def test_a_tail_is_of_its_own_episode():
    data = chain(episodes=4, length=3, terminal_every=100)
    short = data.rewards.view(4, 3).double().mean(1) / (1 - GAMMA)
    torch.testing.assert_close(beyond(data, GAMMA)[2::3][1:], short[1:])


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_lambda_returns_follow_their_recursion(lambda_):
    data = chain(episodes=6, length=7)
    v = torch.randn(2, len(data.rewards), dtype=torch.float64)
    cut = beyond(data, GAMMA)
    g = lambda_returns(data, GAMMA, lambda_, v, cut)
    follows = data.next_transition >= 0
    after = torch.where(follows, (1 - lambda_) * v + lambda_ * g.roll(-1, 1), cut)
    torch.testing.assert_close(g, data.rewards + GAMMA * after)


def test_a_critic_regressed_on_returns_predicts_them():
    data, (h, b) = chain(episodes=4, length=5), tiny()
    h = replace(h, gamma=GAMMA, batch=20, polyak=0.9)
    q = fit_returns(data, h, b, streams(), NoStore(), steps=600, lr=3e-3, copies=2)
    states = data.states[data.state].expand(2, -1, -1)
    said = q.all(states, data.actions[:, None].expand(2, -1, -1, -1)).squeeze(-1)
    assert said.shape == (2, 2, 20)
    error = (said - monte_carlo(data, GAMMA)).square().mean((0, 2)).sqrt()
    assert (error < 0.1 * monte_carlo(data, GAMMA).std()).all()
    assert not torch.equal(said[:, 0], said[:, 1])


def test_at_lambda_0_the_fixed_point_is_sarsas():
    """The critic of a short chain agrees with the sums, whatever lambda is."""
    data, (h, b) = chain(episodes=4, length=5, terminal_every=1), tiny()
    h = replace(h, gamma=GAMMA, batch=20, polyak=0.9)
    q = fit_returns(data, h, b, streams(), NoStore(), lambda_=0.0, steps=600, lr=6e-3, every=1)
    said = q(data.states[data.state].expand(2, -1, -1), data.actions[:, None].expand(2, -1, -1, -1))
    error = (said.squeeze(-1) - monte_carlo(data, GAMMA)).square().mean().sqrt()
    assert error < 0.15 * monte_carlo(data, GAMMA).std()


@pytest.mark.parametrize("method, copies", [("q_beta+s_psi", 1), ("arq+s_psi", 2)])
def test_a_warm_start_is_where_the_critics_of_a_method_begin(method, copies):
    data, (h, b) = chain(), tiny(q_steps=1, q_beta_steps=1)
    still = replace(h, q_lr=0.0, q_beta_lr=0.0)  # no step moves them
    assert warm_start(data, still, b, streams(), NoStore(), copies) is None
    warm = replace(still, warm_start=20, warm_start_lr=1e-2)
    start = warm_start(data, warm, b, streams(), NoStore(), copies)
    for hyper, same in ((warm, True), (still, False)):
        q = METHODS[method](data, hyper, b, streams(), NoStore()).policy.q
        assert q.copies == copies
        now, then = q.net.state_dict(), start.net.state_dict()
        assert all(torch.allclose(now[k], then[k], atol=1e-6) for k in then) == same
