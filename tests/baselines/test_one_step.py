"""One-step RL: its weights and values by hand, each training on plain networks, what is kept."""

import math
from dataclasses import replace

import pytest
import torch
from plain import Adam, Kept, assert_same, mlp, weights_of
from problems import chain, streams, tiny
from torch.distributions import Normal, kl_divergence

from arq_core.algorithm.types import DataError, Transitions
from arq_core.baselines.networks import normal_log_prob
from arq_core.baselines.one_step import (
    OneStep,
    Settings,
    SoftlyClampedGaussian,
    exponential_weights,
    fit_one_step,
    rows_with_a_target,
    sampled_kl,
    soft_clamp,
)
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore


def of(own, **changes):
    """Settings of a test: small, and steps of beta and Q as many as said."""
    small = dict(own, width=8, batch=16, samples=3, beta_share=1, q_share=2)
    return small | changes


def test_weights_grow_with_the_advantage_up_to_a_hundred():
    weights = exponential_weights(torch.tensor([[2.0, 1.0, 9.0]]), torch.ones(1, 3), 3.0)
    assert weights[0].tolist() == pytest.approx([math.exp(3.0), 1.0, 100.0])


def test_density_is_the_plain_normals_and_no_truncated_one():
    """log N(0|0, 1) = -.9189; cut to [-1, 1] it would be -.5372."""
    zero = torch.zeros(1, 1, 1)
    plain = normal_log_prob(zero, zero, zero).item()
    assert plain == pytest.approx(-0.9189, abs=1e-4)
    assert plain - math.log(math.erf(1 / math.sqrt(2))) == pytest.approx(-0.5372, abs=1e-4)


def test_soft_clamp_keeps_its_bounds_and_maps_zero_to_their_middle():
    x = torch.tensor([-50.0, 0.0, 50.0])
    assert soft_clamp(x, -5.0, 0.0).tolist() == [-5.0, -2.5, 0.0]


def test_divergence_of_equal_policies_is_nothing_and_of_others_the_closed_form():
    beta = SoftlyClampedGaussian(3, 2, streams(), [8, 8])
    pi = SoftlyClampedGaussian(3, 2, streams(7, 8), [8, 8])
    s = torch.randn(2, 4, 3)
    assert torch.equal(sampled_kl(beta, beta, s, 10, streams()), torch.zeros(2, 4))
    of_pi, of_beta = (Normal(m, d.exp()) for m, d in (pi.parts(s), beta.parts(s)))
    expected = kl_divergence(of_pi, of_beta).sum(-1)
    torch.testing.assert_close(
        sampled_kl(pi, beta, s, 40_000, streams()), expected, rtol=0.03, atol=0.02
    )
    twin = SoftlyClampedGaussian(3, 2, streams(), [8, 8])  # beta's weights, its own gradients
    gradients = [
        torch.autograd.grad(sampled_kl(p, beta, s, 40_000, streams()).sum(), [*p.parameters()])
        for p in (twin, pi)
    ]
    norms = [sum(x.square().sum() for x in g).sqrt().item() for g in gradients]
    assert norms[0] < 0.02 * norms[1]


def one_hot_walk():
    """Four states in a row, actions ±.5, rewards 1, 2, 4 and a terminal; and the same walk cut by a
    time limit behind a reward of 100, whose value nothing in the data says."""
    states = torch.cat([torch.eye(4), torch.eye(4)])
    return Transitions(
        states,
        torch.tensor([0, 1, 2, 4, 5]),
        torch.tensor([1, 2, 3, 5, 6]),
        torch.tensor([[0.5], [-0.5], [0.5], [0.5], [-0.5]]),
        torch.tensor([1.0, 2.0, 4.0, 1.0, 100.0]),
        torch.tensor([False, False, True, False, False]),
        torch.tensor([0, 0, 0, 1, 1]),
    )


def test_rows_that_nothing_follows_teach_q_only_behind_a_terminal():
    assert rows_with_a_target(one_hot_walk()).tolist() == [0, 1, 2, 3]


def test_q_of_a_deterministic_walk_is_its_discounted_rewards():
    """Q(s_k) = the sum of gamma^i r_{k+i}: 1 + .9·2 + .81·4, 2 + .9·4, 4; the reward of 100 behind
    which the walk was cut is not learned from."""
    data, (hyper, _) = one_hot_walk(), tiny()
    own = of(hyper.one_step, width=32, batch=16, lr=1e-2, polyak=0.5, q_share=1)
    hyper = replace(hyper, one_step=own, gamma=0.9)
    budget = tiny(one_step_steps=300)[1]
    one = OneStep(data, Settings("one_step", own, ()), hyper, budget, streams(), NoStore())
    q = one.value()
    rows = torch.tensor([0, 1, 2])
    found = q.of(data.states[rows].expand(2, -1, -1), data.actions[rows].expand(2, -1, -1))[:, 0]
    expected = torch.tensor([1 + 0.9 * 2 + 0.81 * 4, 2 + 0.9 * 4, 4.0]).expand(2, -1)
    torch.testing.assert_close(found, expected, atol=0.15, rtol=0)


def saved_after(steps, hyper, data):
    store = Kept()
    fit_one_step(data, hyper, tiny(one_step_steps=steps)[1], streams(), store)
    return store.files


def gaussian(w, name, s):
    mean, spread = mlp(w, f"{name}.net.layers", s).chunk(2, -1)
    return Normal(mean.tanh(), (-5 + 2.5 * (spread.tanh() + 1)).exp())


@pytest.mark.parametrize("improvement", ["exp_weight", "rev_kl"])
def test_each_training_is_that_of_plain_networks(improvement):
    """beta for one step, Q for two (its target moves at the second), pi for one, from beta on."""
    data, (hyper, _) = chain(), tiny()
    own = of(hyper.one_step, improvement=improvement, temperature=2.0, alpha=0.5)
    hyper = replace(hyper, one_step=own)
    start, end = saved_after(0, hyper, data), saved_after(1, hyper, data)
    rows, of_name = rows_with_a_target(data), streams().fork
    beta_rows = of_name("one_step", "beta draws").randint(len(data.actions), 16)
    q_draws = of_name("one_step", "q draws")
    q_rows = [rows[q_draws.randint(len(rows), 16)] for _ in range(2)]
    pi_draws = of_name("one_step", "pi draws")
    pi_rows = pi_draws.randint(len(data.actions), 16)
    noise = [pi_draws.randn(16, n, 2) for n in ((3,) if improvement == "exp_weight" else (1, 3))]

    def value(w, name, s, a):
        return mlp(w, f"{name}.net.layers", torch.cat([s, a], -1))[..., 0]

    for e in range(2):
        s, a = data.states[data.state[beta_rows[e]]], data.actions[beta_rows[e]]
        w = weights_of(start["one_step_beta"], e)
        loss = -gaussian(w, "beta", s).log_prob(a).sum(-1).mean()
        Adam(w, "beta", own["lr"]).step(loss)
        assert_same(w, end["one_step_beta"], e, "beta")

        q = weights_of(start["one_step_q"], e)
        adam = Adam(q, "q", own["lr"])
        for m in (x[e] for x in q_rows):
            following = data.actions[data.next_transition[m].clamp(min=0)]
            after = value(q, "target", data.states[data.next_state[m]], following).detach()
            y = data.rewards[m] + hyper.gamma * ~data.terminals[m] * after
            of_data = value(q, "q", data.states[data.state[m]], data.actions[m])
            adam.step((of_data - y).square().mean())
        assert_same(q, end["one_step_q"], e, "q")
        for k in (k for k in q if k.startswith("q.")):
            first = start["one_step_q"][k][e]
            expected = own["polyak"] * first + (1 - own["polyak"]) * q[k].detach()
            found = end["one_step_q"]["target" + k[1:]][e]
            torch.testing.assert_close(found, expected)

        s, a = data.states[data.state[pi_rows[e]]], data.actions[pi_rows[e]]
        pi = {k.replace("beta", "pi", 1): v.detach().clone() for k, v in w.items()}
        pi = {k: v.requires_grad_() for k, v in pi.items()}

        def drawn(density, z, s=s):
            many = density.loc[:, None] + density.scale[:, None] * z
            return many, s[:, None].expand(-1, z.shape[1], -1)

        if improvement == "exp_weight":
            many, s3 = drawn(gaussian(w, "beta", s), noise[0][e])
            advantage = value(q, "q", s, a) - value(q, "q", s3, many).mean(1)
            weight = (2.0 * advantage).exp().clamp(max=100).detach()
            inside = a.clamp(-1 + 1e-4, 1 - 1e-4)
            loss = -(weight * gaussian(pi, "pi", s).log_prob(inside).sum(-1)).mean()
        else:
            of_pi, of_beta = gaussian(pi, "pi", s), gaussian(w, "beta", s)
            one, s1 = drawn(of_pi, noise[0][e])
            many, _ = drawn(of_pi, noise[1][e])
            kl = Normal(of_pi.loc[:, None], of_pi.scale[:, None]).log_prob(many).sum(-1)
            kl = kl - Normal(of_beta.loc[:, None], of_beta.scale[:, None]).log_prob(many).sum(-1)
            loss = (0.5 * kl.mean(1) - value(q, "q", s1, one)[:, 0]).mean()
        Adam(pi, "pi", own["lr"]).step(loss)
        assert_same(pi, end["one_step"], e, "pi")


class Watched(FileStore):
    """Notes which trainings were finished, and not found."""

    def __init__(self, folder):
        super().__init__(folder)
        self.done = []

    def save(self, name, key, tensors):
        if not name.endswith(".partial"):
            self.done.append(name)
        super().save(name, key, tensors)


def test_another_temperature_trains_pi_again_and_nothing_else(tmp_path):
    data, (hyper, budget) = chain(), tiny(one_step_steps=2)
    for changes, expected in (
        (dict(), ["one_step_beta", "one_step_q", "one_step"]),
        (dict(), []),
        (dict(temperature=0.3), ["one_step"]),
        (dict(improvement="easy_bcq"), []),
        (dict(q_share=3), ["one_step_q", "one_step"]),
        (dict(beta_share=2), ["one_step_beta", "one_step"]),
    ):
        store = Watched(tmp_path)
        own = replace(hyper, one_step=of(hyper.one_step, **changes))
        fit_one_step(data, own, budget, streams(), store)
        assert store.done == expected, changes


def test_easy_bcq_takes_the_best_of_its_draws_and_pi_its_mean():
    data, (hyper, budget) = chain(), tiny(one_step_steps=2)
    states = torch.randn(2, 6, 3)
    own = of(hyper.one_step, improvement="easy_bcq", candidates=7)
    policy = fit_one_step(data, replace(hyper, one_step=own), budget, streams(), NoStore())
    acted, rng = policy.act(states, streams()), streams()
    drawn = policy.source.draw(states, 7, rng).clamp(-1, 1)
    values, of_acted = policy.q(states, drawn), policy.q(states, acted[:, :, None])[..., 0]
    torch.testing.assert_close(of_acted, values.amax(-1))
    own = of(hyper.one_step)
    policy = fit_one_step(data, replace(hyper, one_step=own), budget, streams(), NoStore())
    assert torch.equal(policy.act(states, streams()), policy.act(states, streams(3, 4)))


def test_data_without_next_actions_and_settings_of_another_kind_are_refused_before_training():
    data, (hyper, budget) = chain(length=1), tiny()
    none = replace(data, terminals=torch.zeros_like(data.terminals))
    with pytest.raises(DataError, match="one_step: saw 12 transitions of which none .* expected "):
        fit_one_step(none, hyper, budget, streams(), NoStore())
    for own, message in (
        ({k: v for k, v in hyper.one_step.items() if k != "alpha"}, "one_step: saw no alpha among"),
        (dict(hyper.one_step, improvement="greedy"), "one_step.improvement: saw 'greedy', expec"),
        (dict(hyper.one_step, q_share=0), "one_step.q_share: saw 0, expected an integer of 1"),
    ):
        with pytest.raises(DataError, match=message):
            fit_one_step(chain(), replace(hyper, one_step=own), budget, streams(), NoStore())
