"""Eq. 5 in both variants, terminals and time limits."""

from dataclasses import replace

import pytest
import torch
from problems import chain, streams, tiny

from arq_core.algorithm.nets import Critic
from arq_core.algorithm.qlearning import (
    BOOTSTRAPS,
    QEnsemble,
    bootstrap_paper,
    bootstrap_released,
    fit_q,
    fit_q_beta,
    next_values,
    policy_evaluation_loss,
    target,
)
from arq_core.algorithm.types import SupportSet
from arq_core.engine.store import NoStore

VALUES = torch.tensor([3.0, 9.0, 5.0, 7.0])
SOME, NONE = torch.tensor([True, False, True, True]), torch.zeros(4, dtype=torch.bool)
A_DATA = torch.tensor(4.0)


@pytest.mark.parametrize("variant", BOOTSTRAPS)
def test_eq5_k1_is_max_over_support(variant):
    assert BOOTSTRAPS[variant](VALUES, SOME, 1, A_DATA) == 7.0


@pytest.mark.parametrize("variant", BOOTSTRAPS)
def test_eq5_without_any_candidate_in_support_takes_the_datas_own_action(variant):
    assert BOOTSTRAPS[variant](VALUES, NONE, 1, A_DATA) == 4.0


def test_eq5_variants_differ_where_the_data_action_beats_the_kth():
    assert bootstrap_paper(VALUES, SOME, 3, A_DATA) == 3.0
    assert bootstrap_released(VALUES, SOME, 3, A_DATA) == 4.0


def test_eq5_with_fewer_than_k_in_support_follows_each_variants_rule():
    assert bootstrap_paper(VALUES, SOME, 4, A_DATA) == 3.0  # the smallest in the support
    assert bootstrap_released(VALUES, SOME, 4, A_DATA) == 4.0  # -inf, so a' decides


def test_a_terminal_never_bootstraps_and_a_time_limit_always_does():
    r, v = torch.tensor([1.0, 1.0]), torch.tensor([10.0, 10.0])
    assert target(r, torch.tensor([True, False]), v, 0.9).tolist() == [1.0, 10.0]


def _critic(data, copies=2):
    return QEnsemble(Critic(3, 2, streams().fork("w", copies=copies)), copies)


def test_a_time_limit_with_unknown_next_action_bootstraps_from_the_densest_candidate():
    data, (h, _) = chain(terminal_every=100), tiny()
    support = SupportSet(
        torch.rand(2, len(data.states), h.n, 2), torch.randn(2, len(data.states), h.n)
    )
    cut = (data.next_transition < 0).nonzero()[:, 0][-1:].expand(2, 1)
    q, u = _critic(data), data.next_state[cut]
    none = next_values(q, data, support, cut, replace(h, log_epsilon=100.0))
    densest = support.log_prob[[0, 1], u[:, 0]].argmax(-1)
    expected = q.min(data.states[u], support.actions[[0, 1], u[:, 0], densest][:, None, None])
    torch.testing.assert_close(none, expected[..., 0])


def test_next_action_never_crosses_an_episode():
    data = chain(episodes=3, length=4)
    follows = data.next_transition
    assert follows.tolist() == [1, 2, 3, -1, 5, 6, 7, -1, 9, 10, 11, -1]


def test_eq5_loss_is_half_the_mean_squared_error_of_each_critic():
    data = chain()
    q = _critic(data)
    s, a, y = torch.randn(2, 6, 3), torch.randn(2, 6, 2), torch.randn(2, 6)
    values = q.net(s.repeat_interleave(2, 0), a.repeat_interleave(2, 0)[:, :, None])[..., 0]
    expected = 0.5 * (values - y.repeat_interleave(2, 0)).square().mean(1)
    torch.testing.assert_close(policy_evaluation_loss(q, s, a, y), expected)


def test_min_over_critics_and_the_policys_single_critic():
    q = _critic(chain())
    s, a = torch.randn(2, 4, 3), torch.randn(2, 4, 5, 2)
    assert torch.equal(q.min(s, a), q.all(s, a).amin(1)) and torch.equal(q(s, a), q.all(s, a)[:, 0])


def test_refreshed_bootstrap_values_equal_those_of_the_batch():
    """target_every = 1 and a refresh before every step differ only in where Eq. 5 is evaluated."""
    data, (h, _) = chain(), tiny()
    support = SupportSet(
        torch.rand(2, len(data.states), h.n, 2), torch.randn(2, len(data.states), h.n)
    )
    rows = torch.arange(len(data.actions)).expand(2, -1)
    q = _critic(data)
    m = torch.randint(len(data.actions), (2, 16))
    torch.testing.assert_close(
        next_values(q, data, support, rows, h).gather(1, m), next_values(q, data, support, m, h)
    )


def test_q_of_a_terminal_bandit_is_its_reward():
    """One step, terminal: Q(s, a) must become r(s, a), whatever the candidates promise."""
    data = chain(episodes=200, length=1, terminal_every=1)
    data = replace(data, rewards=data.actions[:, 0].clone())
    h, b = tiny(q_steps=500, target_every=50)
    support = SupportSet(
        torch.rand(2, len(data.states), h.n, 2), torch.zeros(2, len(data.states), h.n)
    )
    q = fit_q(data, support, replace(h, batch=64), b, streams(), NoStore(), {})
    s, a = data.states[data.state].expand(2, -1, -1), data.actions.expand(2, -1, -1)[:, :, None]
    assert (q(s, a)[..., 0] - data.rewards).abs().mean() < 0.05


@pytest.mark.parametrize("fit", ["q", "q_beta"])
def test_policies_ask_the_target_critics(fit):
    """With a target that never moves they are the critics of the beginning."""
    data, (h, b) = chain(), tiny(q_steps=20, q_beta_steps=20)
    h = replace(h, polyak=1.0, q_lr=0.1, q_beta_lr=0.1)
    support = SupportSet(
        torch.zeros(2, len(data.states), h.n, 2), torch.zeros(2, len(data.states), h.n)
    )
    copies = {"q": 2, "q_beta": 1}[fit]
    q = (
        fit_q(data, support, h, b, streams(), NoStore(), {})
        if fit == "q"
        else fit_q_beta(data, h, b, streams(), NoStore())
    )
    before = Critic(3, 2, streams().fork(fit, "weights", copies=copies))
    for name, x in before.named_parameters():
        torch.testing.assert_close(dict(q.net.named_parameters())[name], x)


def _fitted(fit, steps, **how):
    data, (h, b) = chain(), tiny(q_steps=steps, q_beta_steps=steps)
    h = replace(h, q_lr=0.01, q_beta_lr=0.01, **how.pop("hyper", {}))
    if fit == "q_beta":
        return fit_q_beta(data, h, b, streams(), NoStore(), **how)
    shape = (2, len(data.states), h.n)
    support = SupportSet(torch.zeros(*shape, 2), torch.zeros(shape))
    return fit_q(data, support, h, b, streams(), NoStore(), {}, **how)


@pytest.mark.parametrize("fit", ["q", "q_beta"])
def test_critics_kept_on_the_way_are_those_of_a_run_that_ends_there(fit):
    kept = {0: None, 20: None}
    _fitted(fit, 40, kept=kept)
    torch.testing.assert_close(
        kept[20].net.state_dict(), _fitted(fit, 20).net.state_dict(), rtol=0, atol=0
    )
    assert not torch.equal(kept[0].net.hidden.weight, kept[20].net.hidden.weight)
    with pytest.raises(ValueError, match=r"kept: saw \[40\], expected steps from 0 to 39"):
        _fitted(fit, 40, kept={40: None})


@pytest.mark.parametrize("fit", ["q", "q_beta"])
def test_critics_go_on_from_those_that_are_given(fit):
    """With targets that never move, what comes back is what was given."""
    start = _fitted(fit, 30)
    same = _fitted(fit, 5, start=start, hyper=dict(polyak=1.0))
    torch.testing.assert_close(same.net.state_dict(), start.net.state_dict(), rtol=0, atol=0)
    moved = _fitted(fit, 5, start=start, hyper=dict(polyak=0.0))
    assert not torch.equal(moved.net.hidden.weight, start.net.hidden.weight)
