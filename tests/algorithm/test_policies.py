"""Eq. 6 and advantage-weighted regression."""

import math
from dataclasses import replace

import pytest
import torch
from problems import chain, streams, tiny

from arq_core.algorithm.policies import (
    HEADS,
    ImplicitPolicy,
    advantage,
    data_advantage,
    fit_awr,
    implicit_probabilities,
)
from arq_core.algorithm.types import SupportSet
from arq_core.engine.store import NoStore

VALUES = torch.tensor([1.0, 4.0, 2.0, 9.0])
MASK = torch.tensor([True, True, True, False])


def test_eq6_at_alpha_0_is_uniform_over_the_support():
    torch.testing.assert_close(
        implicit_probabilities(VALUES, MASK, 0.0), torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0])
    )


@pytest.mark.parametrize("alpha", [1e4, math.inf])
def test_eq6_at_large_alpha_is_greedy_in_the_support(alpha):
    assert implicit_probabilities(VALUES, MASK, alpha).tolist() == [0.0, 1.0, 0.0, 0.0]


def test_eq6_with_q_or_advantage_logits_is_the_same_policy():
    a, q = (implicit_probabilities(VALUES, MASK, 0.7, logits) for logits in ("advantage", "q"))
    torch.testing.assert_close(a, q)
    torch.testing.assert_close(a, torch.softmax(torch.tensor([0.7, 2.8, 1.4, -math.inf]), 0))


def test_advantage_is_against_the_mean_of_the_support():
    torch.testing.assert_close(advantage(VALUES, MASK), VALUES - 7 / 3)


class FixedBehavior:
    """Four candidates at -0.9, 0.1, 0.5 and 3; the last is outside the box, and `log_prob` is
    given."""

    def __init__(self, log_prob):
        self.log_probs = torch.tensor(log_prob)

    def sample(self, states, n, rng):
        return torch.tensor([-0.9, 0.1, 0.5, 3.0])[:, None].expand(*states.shape[:2], 4, 1)

    def sample_with_log_prob(self, states, n, rng, clip=False):
        box = 1.0 if clip else math.inf
        return self.sample(states, n, rng).clamp(-box, box), self.log_prob(None, states, rng)

    def log_prob(self, actions, states, rng):
        return self.log_probs.expand(*states.shape[:2], 4)


def _act(log_prob, log_epsilon, alpha=math.inf, q=lambda s, a: a[..., 0]):
    policy = ImplicitPolicy(FixedBehavior(log_prob), q, alpha, 4, log_epsilon)
    return policy.act(torch.zeros(2, 500, 3), streams())[..., 0]


def test_filter_decides_what_the_implicit_policy_may_choose():
    assert (_act([0.0, 0.0, -9.0, -9.0], -5.0) == 0.1).all()
    assert (_act([0.0, 0.0, -9.0, -9.0], None) == 1.0).all(), (
        "filter off: the best candidate, clipped to the box"
    )


def test_without_a_candidate_in_support_one_draw_of_beta_is_taken():
    """The first, whatever Q and the densities say: draws are exchangeable."""
    assert (_act([-9.0, -8.0, -7.0, -20.0], -5.0) == -0.9).all()


def test_q_judges_the_action_that_is_taken():
    """The candidate at 3 is worth most as it was drawn, and least once it is in the box."""
    of_drawn_and_clipped = lambda s, a: torch.where(a[..., 0] == 1.0, -1.0, a[..., 0])
    for log_epsilon in (-5.0, None):
        assert (_act([0.0, 0.0, 0.0, 0.0], log_epsilon, q=of_drawn_and_clipped) == 0.5).all()


def test_implicit_policy_samples_with_the_probabilities_of_eq6():
    chosen = _act([0.0, 0.0, 0.0, -9.0], -5.0, alpha=1.0)
    p = implicit_probabilities(torch.tensor([-0.9, 0.1, 0.5]), torch.ones(3, dtype=torch.bool), 1.0)
    for action, probability in zip((-0.9, 0.1, 0.5), p, strict=True):
        share = (chosen - action).abs().lt(1e-6).double().mean().item()
        assert abs(share - probability.item()) < 5 * math.sqrt(0.25 / 1000)


def _fit(head, alpha, advantages, data, steps=200):
    h, b = tiny(policy_steps=steps)
    return fit_awr(
        data,
        advantages,
        alpha,
        replace(h, head=head, batch=128, policy_lr=3e-3),
        b,
        streams(),
        NoStore(),
        {},
    )


@pytest.mark.parametrize("head", ["gaussian", "deterministic"])
def test_awr_follows_the_better_of_two_actions_and_bc_their_mean(head):
    """Actions +0.5 (advantage 1) and -0.5 (advantage -1), equally often: alpha = 0 gives 0, alpha =
    2 gives 0.5·tanh(2)."""
    data = chain(episodes=50)
    sign = torch.where(torch.arange(len(data.actions)) % 2 == 0, 1.0, -1.0)
    data = replace(
        data,
        states=torch.zeros_like(data.states),
        actions=(0.5 * sign)[:, None].expand(-1, 2).contiguous(),
    )
    advantages = sign.expand(2, -1)
    act = lambda alpha: (
        _fit(head, alpha, advantages, data).act(torch.zeros(2, 1, 3), streams()).mean().item()
    )
    assert abs(act(0.0)) < 0.05
    assert act(2.0) == pytest.approx(0.5 * math.tanh(2.0), abs=0.05)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_of_table_a3_acts_inside_the_box(head):
    data = chain()
    if head == "resnet":
        pytest.importorskip("torch")
    h, b = tiny(policy_steps=2)
    policy = fit_awr(
        data,
        torch.zeros(2, len(data.actions)),
        0.0,
        replace(h, head=head, batch=4),
        b,
        streams(),
        NoStore(),
        {},
    )
    actions = policy.act(100 * torch.randn(2, 7, 3), streams())
    assert actions.shape == (2, 7, 2) and actions.abs().max() <= 1


def test_awr_weight_is_clipped_at_100():
    """An advantage of 1000 must not blow the loss up: its weight is that of log(100)/alpha."""
    data = chain()
    huge, clipped = (
        _fit("deterministic", 1.0, torch.full((2, len(data.actions)), a), data, steps=50).loss
        for a in (1000.0, math.log(100.0))
    )
    torch.testing.assert_close(huge, clipped)


def test_awr_says_when_no_weight_is_left_to_learn_from():
    """e^(alpha·A) is 0 in float32 below A = -104: without a word the policy would keep its first
    weights and be scored as if it had learned."""
    data = chain()
    lost = torch.stack([torch.full((len(data.actions),), a) for a in (-1.0, -500.0)])
    with pytest.warns(UserWarning, match=r"all 0 for seeds \[1\].*stays as it was initialised"):
        _fit("gaussian", 1.0, lost, data, steps=2)


def test_data_advantage_compares_with_the_support_and_the_action_itself():
    data = chain()
    support = SupportSet(
        torch.rand(2, len(data.states), 3, 2),
        torch.tensor([0.0, 0.0, -9.0]).expand(2, len(data.states), 3),
    )
    got = data_advantage(data, support, lambda s, a: a.sum(-1), -5.0)
    own = data.actions.sum(-1)
    inside = support.actions[:, data.state][:, :, :2].sum(-1)
    torch.testing.assert_close(got, own - (inside.sum(-1) + own) / 3)
