"""IDQL: how it chooses among samples of the clone, and one step of its critic."""

import math
from dataclasses import replace

import pytest
import torch
from by_hand import assert_same, follow, member, mlp, optimiser, saved_after, step, twins
from problems import chain, streams, tiny

from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.types import DataError
from arq_core.baselines import idql
from arq_core.baselines.idql import LeastOfTwo, LogExpectileWeights, fit_idql
from arq_core.baselines.uniform import UniformBehavior
from arq_core.engine.store import NoStore

CRITIC = ("value", "critic", "target")  # the modules of its own training
VALUES = torch.tensor([1.0, -1.0, 0.2, 0.0])  # of four candidates, where V = 0


class Four(UniformBehavior):
    """A clone whose samples are -.4, -.2, .2 and .4, with VALUES by both critics less and more."""

    def sample(self, states, n, rng):
        assert n == 4
        four = torch.tensor([-0.4, -0.2, 0.2, 0.4])[:, None]
        return four.expand(*states.shape[:2], -1, -1)

    @staticmethod
    def critics(states, actions):
        q = VALUES.expand(actions.shape[:3])
        return torch.stack([q + 5, q], 1)

    @staticmethod
    def value(states):
        return torch.zeros(*states.shape[:2], 1)


def test_expectile_weights_by_hand():
    """At expectile .9 candidates at V or above weigh .9, the one below .1: of 2.8 in all."""
    states, actions = torch.zeros(1, 1, 3), torch.zeros(1, 1, 4, 1)
    weights = LogExpectileWeights(LeastOfTwo(Four.critics), Four.value, 0.9)(states, actions)
    torch.testing.assert_close(weights.exp(), torch.tensor([[[0.9, 0.1, 0.9, 0.9]]]))


def test_the_implicit_actor_draws_by_the_weights_and_the_other_takes_the_best():
    """Of 40,000 choices, within five standard errors."""
    states, q = torch.zeros(1, 40_000, 3), LeastOfTwo(Four.critics)
    drawn = ImplicitPolicy(
        Four(1), LogExpectileWeights(q, Four.value, 0.9), 1.0, 4, None, logits="q"
    ).act(states, streams(0))
    for action, share in ((-0.4, 0.9 / 2.8), (-0.2, 0.1 / 2.8), (0.2, 0.9 / 2.8), (0.4, 0.9 / 2.8)):
        found = (drawn - action).abs().lt(1e-6).float().mean().item()
        assert found == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 40_000))
    best = ImplicitPolicy(Four(1), q, math.inf, 4, None).act(states, streams(0))
    torch.testing.assert_close(best, torch.full_like(best, -0.4))


def small(**changes):
    hyper, _ = tiny()
    return replace(hyper, idql=dict(hyper.idql, width=8, batch=16, polyak=0.9, **changes))


def test_a_policy_chooses_as_its_setting_says():
    data, budget = chain(), tiny(score_steps=1, idql_steps=1)[1]
    for acting, q, alpha in (
        ("argmax", LeastOfTwo, math.inf),
        ("expectile", LogExpectileWeights, 1.0),
    ):
        hyper = small(acting=acting)
        policy = fit_idql(data, hyper, budget, streams(), NoStore())
        assert isinstance(policy.q, q) and policy.alpha == alpha
        assert policy.n == hyper.acting_n and policy.log_epsilon is None


def test_a_step_of_its_critic_is_the_value_then_the_critics_by_the_new_value():
    """Against autograd and torch.optim on plain networks with the same weights and batch."""
    data, hyper = chain(), small()
    own = hyper.idql
    start, end = (
        saved_after(fit_idql, data, hyper, tiny(score_steps=0, idql_steps=n)[1], streams())
        for n in (0, 1)
    )
    m = streams().fork("idql").randint(len(data.actions), 16)
    for e in range(2):
        w = member({k: v for k, v in start.items() if k.split(".")[0] in CRITIC}, e)
        s, after = data.states[data.state[m[e]]], data.states[data.next_state[m[e]]]
        a, r = data.actions[m[e]], data.rewards[m[e]]
        u = twins(w, "target", s, a).amin(0).detach() - mlp(w, "value", s)[:, 0]
        loss = ((own["expectile"] - (u < 0).float()).abs() * u.square()).mean()
        step(optimiser(w, "value", own["lr"]), loss)
        y = r + hyper.gamma * ~data.terminals[m[e]] * mlp(w, "value", after)[:, 0]
        error = twins(w, "critic", s, a) - y.detach()
        step(optimiser(w, "critic", own["lr"]), error.square().mean(1).sum())
        follow(w, "target", "critic", own["polyak"])
        assert_same(w, {k: end[k] for k in w}, e)


def test_an_unknown_way_to_act_is_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(idql, "fit_behavior", lambda *_: pytest.fail("trained"))
    with pytest.raises(DataError, match="idql.acting: saw 'best', expected one of 'argmax', 'exp"):
        fit_idql(chain(), small(acting="best"), tiny()[1], streams(), NoStore())
