"""Cloning by a mixture: its density by hand, a training on plain networks, and how it acts."""

import math
from dataclasses import replace

import pytest
import torch
from plain import Adam, Kept, assert_same, mlp, weights_of
from problems import chain, streams, tiny
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from arq_core.algorithm.types import DataError
from arq_core.baselines.bc_gmm import ACTING_STD, MixtureActor, fit_bc_gmm
from arq_core.baselines.networks import drawn_components, mixture_log_prob
from arq_core.engine.store import NoStore


def test_density_between_two_equal_modes_by_hand():
    """Modes at ±μ with std σ: log p(0) = -μ²/2σ² - log(σ √(2π)), and p(μ) is half of one mode's."""
    mu, sigma = 0.6, 0.1
    means = torch.tensor([[[-mu], [mu]]])
    log_stds, weights = torch.full_like(means, math.log(sigma)), torch.full((1, 2), 0.5).log()
    peak = -math.log(sigma * math.sqrt(2 * math.pi))
    for x, expected in ((0.0, peak - mu**2 / (2 * sigma**2)), (mu, peak - math.log(2))):
        found = mixture_log_prob(torch.tensor([[x]]), weights, means, log_stds)
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_components_are_drawn_by_their_weights():
    weights = torch.tensor([[[0.7, 0.0, 0.3], [0.0, 1.0, 0.0]]])
    k = drawn_components(weights.log(), 20_000, streams(3))
    shares = torch.stack([(k == i).float().mean(-1) for i in range(3)], -1)
    torch.testing.assert_close(shares, weights, atol=0.015, rtol=0)
    assert (shares[0, 0, 1], shares[0, 1, 1]) == (0, 1)


def saved_after(steps, hyper, data):
    store = Kept()
    fit_bc_gmm(data, hyper, tiny(bc_gmm_steps=steps)[1], streams(), store)
    return store.files["bc_gmm"]


def test_one_step_is_maximum_likelihood_of_robomimics_mixture():
    """Means by tanh, std by softplus + 1e-4, against torch.distributions and torch.optim."""
    data, (hyper, _) = chain(), tiny()
    own = dict(hyper.bc_gmm, width=8, batch=16, modes=3)
    hyper = replace(hyper, bc_gmm=own)
    start, end = saved_after(0, hyper, data), saved_after(1, hyper, data)
    m = streams().fork("bc_gmm").randint(len(data.actions), 16)
    for e in range(2):
        w = weights_of(start, e)
        out = mlp(w, "actor.net.layers", data.states[data.state[m[e]]])
        logits, means, spread = out[:, :3], out[:, 3:9], out[:, 9:]
        std = torch.nn.functional.softplus(spread) + 1e-4
        each = Independent(Normal(means.tanh().view(-1, 3, 2), std.view(-1, 3, 2)), 1)
        density = MixtureSameFamily(Categorical(logits=logits), each)
        Adam(w, "actor", own["lr"]).step(-density.log_prob(data.actions[m[e]]).mean())
        assert_same(w, end, e, "actor")


def test_an_action_is_one_of_the_modes_and_not_their_mean():
    """A network whose last layer is its bias: modes at ±.5, the first drawn nine times in ten."""
    actor = MixtureActor(3, 1, 2, streams(), [4, 4])
    mode = math.atanh(0.5)
    with torch.no_grad():
        actor.net.layers[-1].weight.zero_()
        actor.net.layers[-1].bias.copy_(torch.tensor([math.log(9.0), 0.0, -mode, mode, 3.0, 3.0]))
    actions = actor.draw(torch.randn(2, 4, 3), 2_000, streams())
    assert (actions.abs() - 0.5).abs().max() < 6 * ACTING_STD
    assert (actions < 0).float().mean().item() == pytest.approx(0.9, abs=0.01)


def test_two_modes_of_the_data_are_both_done():
    """At every state half of the actions are near -.7 and half near .7; their mean never is."""
    data, (hyper, _) = chain(episodes=40, action_dim=1), tiny()
    actions = 0.7 * torch.sign(data.actions) + 0.02 * data.actions
    data = replace(data, actions=actions)
    hyper = replace(hyper, bc_gmm=dict(hyper.bc_gmm, lr=1e-2, width=16, modes=2))
    policy = fit_bc_gmm(data, hyper, tiny(bc_gmm_steps=200)[1], streams(), NoStore())
    acted = policy.act(torch.randn(2, 400, 3), streams())
    assert (acted.abs() > 0.5).float().mean() > 0.97
    assert 0.2 < (acted > 0).float().mean() < 0.8


def test_a_setting_that_is_missing_or_a_state_of_another_size_is_named():
    data, (hyper, budget) = chain(), tiny()
    own = replace(hyper, bc_gmm=dict(hyper.bc_gmm, modes=0))
    with pytest.raises(DataError, match="bc_gmm.modes: saw 0, expected an integer of 1 or more"):
        fit_bc_gmm(data, own, budget, streams(), NoStore())
    policy = fit_bc_gmm(data, hyper, budget, streams(), NoStore())
    with pytest.raises(DataError, match="states: saw dimension 4, expected 3"):
        policy.act(torch.randn(2, 6, 4), streams())
