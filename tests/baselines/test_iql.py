"""IQL: its losses by hand, its order, and what it does with a fair coin."""

import math
from dataclasses import replace

import pytest
import torch
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError
from arq_core.baselines.iql import advantage_weights, fit_iql
from arq_core.baselines.neighbours import expectile_loss
from arq_core.baselines.networks import Critics, Perceptron, orthogonal_
from arq_core.engine.store import NoStore


def test_expectile_loss_by_hand():
    """u = 1 and -2 at expectile .7: (.7·1 + .3·4)/2."""
    assert expectile_loss(torch.tensor([1.0, -2.0]), 0.7).item() == pytest.approx(0.95)


def test_the_expectile_of_a_fair_coin_is_the_expectile():
    """For values 0 and 1, each half the time, the loss is least at V = tau."""
    coin, v = torch.tensor([0.0, 1.0]), torch.linspace(0, 1, 1001)
    for tau in (0.5, 0.7, 0.9):
        losses = expectile_loss(coin - v[:, None], tau)
        assert v[losses.argmin()].item() == pytest.approx(tau, abs=1e-3)


def test_weights_grow_with_the_advantage_up_to_a_hundred():
    weights = advantage_weights(torch.tensor([0.0, 0.1, 2.0]), 3.0)
    assert weights.tolist() == pytest.approx([1.0, math.exp(0.3), 100.0])


def saved_after(steps, hyper, data):
    kept = {}

    class Keep(NoStore):
        def save(self, name, key, tensors):
            kept.update({k: v.clone() for k, v in tensors.items()})

    fit_iql(data, hyper, tiny(iql_steps=steps)[1], streams(), Keep())
    return kept


def test_one_step_is_the_authors_value_then_actor_by_the_new_value_then_critic_by_the_new_value():
    """Against autograd and torch.optim on plain networks with the same weights and batch."""
    data, (hyper, _) = chain(), tiny()
    own = dict(hyper.iql, width=8, batch=16, dropout=0.0)
    hyper = replace(hyper, iql=own)
    start, end = saved_after(0, hyper, data), saved_after(1, hyper, data)
    m = streams().fork("iql").randint(len(data.actions), 16)

    def mlp(weights, name, e, x):
        for i in range(3):
            x = x @ weights[f"{name}.{i}.weight"][e] + weights[f"{name}.{i}.bias"][e]
            x = x.relu() if i < 2 else x
        return x

    for e in range(2):
        w = {k: v.clone().requires_grad_() for k, v in start.items() if v.is_floating_point()}
        s, after = data.states[data.state[m[e]]], data.states[data.next_state[m[e]]]
        a, r = data.actions[m[e]].clamp(-1 + 1e-5, 1 - 1e-5), data.rewards[m[e]]
        q = [mlp(w, "critic.net.layers", 2 * e + c, torch.cat([s, a], 1))[:, 0] for c in (0, 1)]

        def step(loss, prefix, w=w):
            names = [k for k in w if k.startswith(prefix + ".")]
            grads = torch.autograd.grad(loss, [w[k] for k in names], retain_graph=True)
            for k, g in zip(names, grads, strict=True):
                p = torch.nn.Parameter(w[k].detach().clone())
                p.grad = g
                torch.optim.Adam([p], lr=own["lr"]).step()
                w[k] = p.detach().clone().requires_grad_()

        u = torch.minimum(*q).detach() - mlp(w, "value.layers", e, s)[:, 0]
        tau = own["expectile"]
        step(((tau - (u < 0).float()).abs() * u.square()).mean(), "value")
        u = torch.minimum(*q).detach() - mlp(w, "value.layers", e, s)[:, 0].detach()
        weight = (own["beta"] * u).exp().clamp(max=100)
        mean = mlp(w, "actor.net.layers", e, s).tanh()
        log_prob = torch.distributions.Normal(mean, w["actor.log_std"][e].exp()).log_prob(a).sum(1)
        step(-(weight * log_prob).mean(), "actor")
        v = mlp(w, "value.layers", e, after)[:, 0].detach()
        y = r + hyper.gamma * ~data.terminals[m[e]] * v
        step(sum((x - y).square().mean() for x in q), "critic")
        for k in (k for k in w if k.split(".")[0] in ("value", "actor")):
            torch.testing.assert_close(end[k][e], w[k][e].detach(), rtol=1e-5, atol=1e-6)
        for k in (k for k in w if k.startswith("critic.")):
            both = slice(2 * e, 2 * e + 2)
            torch.testing.assert_close(end[k][both], w[k][both].detach(), rtol=1e-5, atol=1e-6)
            followed = own["polyak"] * start[k][both] + (1 - own["polyak"]) * end[k][both]
            torch.testing.assert_close(end[k.replace("critic", "target", 1)][both], followed)


def test_a_setting_that_is_missing_is_named():
    data, (hyper, budget) = chain(), tiny()
    for own, message in (
        ({k: v for k, v in hyper.iql.items() if k != "beta"}, "iql: saw no beta among"),
        (dict(hyper.iql, batch=0.5), "iql.batch: saw 0.5, expected an integer"),
        (dict(hyper.iql, lr="fast"), "iql.lr: saw 'fast', expected a number"),
    ):
        with pytest.raises(DataError, match=message):
            fit_iql(data, replace(hyper, iql=own), budget, streams(), NoStore())


def test_orthogonal_weights_are_orthogonal_and_differ_by_member():
    net = Perceptron(3, 2, streams(), [8, 8])
    orthogonal_(net, 2.0, streams().fork("o"))
    for layer, (n, m) in zip(net.layers, ((3, 8), (8, 8), (8, 2)), strict=True):
        w = layer.weight.detach()
        gram = w @ w.mT if n <= m else w.mT @ w
        torch.testing.assert_close(gram, 4 * torch.eye(min(n, m)).expand(2, -1, -1))
        assert not torch.equal(w[0], w[1]) and not layer.bias.any()


def test_critics_of_many_actions_are_perceptrons_of_state_and_action():
    critics = Critics(3, 2, streams().fork("c", copies=2), [8, 8])
    s, a = torch.randn(2, 5, 3), torch.randn(2, 5, 4, 2)
    plain = torch.cat([s[:, :, None].expand(-1, -1, 4, -1), a], -1).flatten(1, 2)
    expected = critics.net(plain.repeat_interleave(2, 0)).view(2, 2, 5, 4)
    torch.testing.assert_close(critics(s, a), expected)
    torch.testing.assert_close(critics.of(s, a[:, :, 1]), expected[..., 1])
