"""AWAC: its two kinds of weights by hand, and one step against plain networks."""

import math
from dataclasses import replace

import pytest
import torch
from by_hand import assert_same, follow, member, mlp, optimiser, saved_after, step, twins
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError
from arq_core.baselines.awac import exp_weights, fit_awac, softmax_weights
from arq_core.baselines.networks import GaussianActor
from arq_core.engine.store import NoStore


def test_softmax_weights_by_hand():
    """At beta = 2, advantages of 0, 2 ln 2 and 2 ln 4 weigh 1, 2 and 4 parts of 7, times three."""
    u = torch.tensor([[0.0, 2 * math.log(2), 2 * math.log(4)]])
    torch.testing.assert_close(softmax_weights(u, 2.0), 3 * torch.tensor([[1.0, 2.0, 4.0]]) / 7)


def test_a_constant_moves_the_exponential_weights_alone():
    u = torch.tensor([[0.0, 0.5, -1.0]])
    torch.testing.assert_close(softmax_weights(u + 1, 2.0), softmax_weights(u, 2.0))
    torch.testing.assert_close(exp_weights(u + 1, 2.0), math.exp(0.5) * exp_weights(u, 2.0))
    assert exp_weights(torch.tensor([[20.0]]), 2.0).item() == 100


def test_draws_of_the_actor_have_its_mean_and_spread():
    """Of 40,000 draws, within five standard errors."""
    actor, states = GaussianActor(3, 2, streams(), [8], (-10.0, 2.0)), torch.randn(2, 1, 3)
    with torch.no_grad():
        actor.log_std.fill_(math.log(0.3))
        draws = actor.sample(states.expand(-1, 40_000, -1), streams().fork("d"))
        assert ((draws.mean(1) - actor(states)[:, 0]).abs() < 5 * 0.3 / 200).all()
    assert ((draws.std(1) - 0.3).abs() < 5 * 0.3 / 200 / math.sqrt(2)).all()


def small(**changes):
    hyper, _ = tiny()
    own = dict(hyper.awac, width=8, batch=16, polyak=0.9, weight_decay=0.1, **changes)
    return replace(hyper, awac=own)


@pytest.mark.parametrize("weights", ["softmax", "exp"])
def test_one_step_is_critics_then_their_average_then_the_actor_by_the_new_critics(weights):
    """Against autograd and torch.optim on plain networks with the same weights, batch and draws."""
    data, hyper = chain(), small(weights=weights, actor_layers=3)
    own = hyper.awac
    start, end = (
        saved_after(fit_awac, data, hyper, tiny(awac_steps=n)[1], streams()) for n in (0, 1)
    )
    draws = streams().fork("awac")
    m, z, z_here = draws.randint(len(data.actions), 16), draws.randn(16, 2), draws.randn(16, 2)
    for e in range(2):
        w = member(start, e)
        s, after = data.states[data.state[m[e]]], data.states[data.next_state[m[e]]]
        a, r = data.actions[m[e]], data.rewards[m[e]]

        def law(states, w=w):
            return torch.distributions.Normal(
                mlp(w, "actor.net", states).tanh(), w["actor.log_std"].exp()
            )

        then = law(after).mean + law(after).stddev * z[e]
        y = r + hyper.gamma * ~data.terminals[m[e]] * twins(w, "target", after, then).amin(0)
        q = twins(w, "critic", s, a)
        step(optimiser(w, "critic", own["lr"]), (q - y.detach()).square().mean(1).sum())
        follow(w, "target", "critic", own["polyak"])
        here = law(s).mean + law(s).stddev * z_here[e]
        u = twins(w, "critic", s, a).amin(0) - twins(w, "critic", s, here).amin(0)
        u = u.detach() / own["beta"]
        weight = u.softmax(0) * 16 if weights == "softmax" else u.exp().clamp(max=100)
        actor = optimiser(w, "actor", own["lr"], torch.optim.AdamW, weight_decay=0.1)
        step(actor, -(weight * law(s).log_prob(a).sum(1)).mean())
        assert_same(w, end, e)


def test_weights_of_another_kind_are_refused():
    with pytest.raises(DataError, match="awac.weights: saw 'sign', expected one of 'softmax', 'ex"):
        fit_awac(chain(), small(weights="sign"), tiny()[1], streams(), NoStore())
