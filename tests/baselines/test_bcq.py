"""BCQ: its target and divergences by hand, a step of both forms on plain networks, how it acts."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from plain import Adam, Kept, assert_same, mlp, weights_of
from problems import chain, streams, tiny
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from arq_core.algorithm.types import DataError
from arq_core.baselines.bcq import FORMS, ActionVAE, fit_bcq, soft_clipped_maximum
from arq_core.baselines.neighbours import Drawing
from arq_core.engine.store import NoStore


def test_soft_clipped_maximum_by_hand():
    """Q1 = [1, 3], Q2 = [2, 2]: .75·[1, 2] + .25·[2, 3] = [1.25, 2.25]."""
    q = torch.tensor([[[[1.0, 3.0]], [[2.0, 2.0]]]])
    assert soft_clipped_maximum(q, 0.75).tolist() == [[2.25]]


@pytest.mark.parametrize("form, actions, expected", [("robomimic", 7, 7.0), ("original", 7, 0.5)])
def test_divergence_of_a_shifted_normal_by_hand(form, actions, expected):
    """N(1, 1) from N(0, 1) in 14 dimensions: half a nat each, summed or averaged."""
    vae = ActionVAE(3, actions, streams(), [4, 4], FORMS[form], "normal")
    assert vae.latent == 14
    mean = torch.ones(2, 5, 14)
    found = vae.divergence(torch.randn(2, 5, 3), mean, mean, torch.zeros_like(mean))
    assert found.tolist() == [expected] * 2


def test_latent_variables_of_the_original_form_are_clipped_and_robomimics_are_not():
    largest = {}
    for name, form in FORMS.items():
        vae = ActionVAE(3, 2, streams(), [4, 4], form, "normal")
        largest[name] = vae.draw_latent(torch.randn(2, 200, 3), streams()).abs().max().item()
    assert largest["original"] == 0.5 and largest["robomimic"] > 2


def saved_after(steps, hyper, data):
    store = Kept()
    fit_bcq(data, hyper, tiny(bcq_steps=steps)[1], streams(), store)
    return store.files["bcq"]


def tanh_of(weights, name, *x):
    return mlp(weights, name, torch.cat(x, -1)).tanh()


@pytest.mark.parametrize("form, phi", [("original", 0.05), ("robomimic", 0.05), ("robomimic", 0.0)])
def test_one_step_is_vae_then_critics_by_the_new_vae_then_perturbation_by_the_new_critic(form, phi):
    """Against autograd and torch.optim on plain networks with the same weights and draws."""
    data, (hyper, _) = chain(), tiny()
    own = dict(hyper.bcq, form=form, phi=phi, batch=16, candidates=3, polyak=0.9)
    hyper = replace(hyper, bcq=own)
    start, end = saved_after(0, hyper, data), saved_after(1, hyper, data)
    draws, latent = streams().fork("bcq", "draws"), 4 if form == "original" else 14
    m, noise = draws.randint(len(data.actions), 16), draws.randn(16, latent)
    of_target, of_actor = draws.randn(48, latent), draws.randn(16, latent)
    if form == "original":
        of_target, of_actor = of_target.clamp(-0.5, 0.5), of_actor.clamp(-0.5, 0.5)

    def moved(w, name, s, a):
        return (a + phi * tanh_of(w, f"{name}.net.layers", s, a)).clamp(-1, 1) if phi else a

    for e in range(2):
        w, both = weights_of(start, e), slice(2 * e, 2 * e + 2)
        critics = [weights_of(start, 2 * e + c, "critic", "critic_target") for c in (0, 1)]
        s, after = data.states[data.state[m[e]]], data.states[data.next_state[m[e]]]
        a, r = data.actions[m[e]], data.rewards[m[e]]

        mean, spread = mlp(w, "vae.encoder.layers", torch.cat([s, a], 1)).chunk(2, 1)
        std = spread.exp() if form == "original" else (spread / 2).exp()
        z = mean + std * noise[e]
        error = (tanh_of(w, "vae.decoder.layers", s, z) - a).square().mean()
        kl = kl_divergence(Normal(mean, std), Normal(torch.zeros(()), torch.ones(())))
        kl = kl.mean() if form == "original" else kl.sum(1).mean()
        Adam(w, "vae", own["lr"]).step(error + own["kl_weight"] * kl)
        assert_same(w, end, e, "vae")

        many = after.repeat_interleave(3, 0)
        x = moved(w, "actor_target", many, tanh_of(w, "vae.decoder.layers", many, of_target[e]))
        q = [mlp(c, "critic_target.net.layers", torch.cat([many, x], 1)) for c in critics]
        low, high = torch.minimum(*q).view(16, 3), torch.maximum(*q).view(16, 3)
        best = (0.75 * low + 0.25 * high).max(1).values.detach()
        y = r + hyper.gamma * ~data.terminals[m[e]] * best
        for c, critic in enumerate(critics):
            of_data = mlp(critic, "critic.net.layers", torch.cat([s, a], 1))[:, 0]
            Adam(critic, "critic", own["lr"]).step((of_data - y).square().mean())
            assert_same(critic, end, 2 * e + c, "critic")

        if phi:
            drawn = tanh_of(w, "vae.decoder.layers", s, of_actor[e]).detach()
            first = torch.cat([s, moved(w, "actor", s, drawn)], 1)
            value = mlp(critics[0], "critic.net.layers", first)
            Adam(w, "actor", own["lr"]).step(-value.mean())
            assert_same(w, end, e, "actor")
        for name, rows in (("critic", both), *([("actor", e)] if phi else [])):
            for k in (k for k in start if k.startswith(name + ".")):
                expected = 0.9 * start[k][rows] + 0.1 * end[k][rows]
                found = end[k.replace(name, f"{name}_target", 1)][rows]
                torch.testing.assert_close(found, expected)


def test_a_learned_prior_is_a_mixture_whose_divergence_is_estimated_by_the_drawn_z():
    """Against torch.distributions; and z drawn from it have its mean."""
    vae = ActionVAE(3, 2, streams(), [8, 8], FORMS["robomimic"], "mixture")
    s, z, mean = torch.randn(2, 5, 3), torch.randn(2, 5, 14), torch.randn(2, 5, 14)
    log_std = 0.3 * torch.randn(2, 5, 14)
    log_weights, means, log_stds = vae.prior_parts(s)
    assert means.shape == (2, 5, 10, 14)
    each = Independent(Normal(means, log_stds.exp()), 1)
    prior = MixtureSameFamily(Categorical(logits=log_weights), each)
    of_q = Independent(Normal(mean, log_std.exp()), 1).log_prob(z)
    expected = (of_q - prior.log_prob(z)).mean(-1)
    torch.testing.assert_close(vae.divergence(s, z, mean, log_std), expected)
    out = torch.cat([*vae.prior.layers[-1].parameters()], 1)
    assert out.shape[2] == 10 * (1 + 2 * 14)
    many = vae.draw_latent(s[:, :1].expand(-1, 4_000, -1), streams()).mean(1)
    torch.testing.assert_close(many, prior.mean[:, 0], atol=0.08, rtol=0)


def test_every_form_and_prior_trains_and_acts():
    data, (hyper, budget) = chain(), tiny(bcq_steps=3)
    for form in FORMS:
        own = dict(hyper.bcq, form=form, prior="mixture", phi=0.0, acting_candidates=4)
        policy = fit_bcq(data, replace(hyper, bcq=own), budget, streams(), NoStore())
        acted = policy.act(torch.randn(2, 6, 3), streams())
        assert acted.shape == (2, 6, 2) and acted.abs().max() <= 1


def test_the_best_of_the_draws_is_taken():
    drawn = torch.tensor([[[[0.1], [0.9], [-3.0]]]])
    source = SimpleNamespace(draw=lambda s, n, rng: drawn)
    policy = Drawing(source, 3, lambda s, a: -(a[..., 0] + 0.9).square())
    assert policy.act(torch.zeros(1, 1, 2), streams(0)).tolist() == [[[-1.0]]]  # clipped first
    first = Drawing(source)
    assert first.act(torch.zeros(1, 1, 2), streams(0)).item() == pytest.approx(0.1)


def test_a_setting_that_is_missing_or_unknown_is_named():
    data, (hyper, budget) = chain(), tiny()
    for own, message in (
        ({k: v for k, v in hyper.bcq.items() if k != "phi"}, "bcq: saw no phi among"),
        (dict(hyper.bcq, form="other"), "bcq.form: saw 'other', expected one of 'original'"),
        (dict(hyper.bcq, prior="gmm"), "bcq.prior: saw 'gmm', expected one of 'normal', 'mixture'"),
        (dict(hyper.bcq, candidates=0), "bcq.candidates: saw 0, expected an integer of 1 or more"),
    ):
        with pytest.raises(DataError, match=message):
            fit_bcq(data, replace(hyper, bcq=own), budget, streams(), NoStore())
