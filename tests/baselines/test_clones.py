"""The other explicit clones: their log-densities are what they claim, members stay apart, and
sharpness is measured as said.
"""

import math

import pytest
import torch
from problems import streams
from torch import nn
from torch.distributions import Normal

from arq_core.baselines import clones
from arq_core.baselines.clones import ConditionalVAE, Mixture, Recipe, fit
from arq_core.densities.quality import Grid
from arq_core.densities.segments import SegmentDensity
from arq_core.densities.sharpness import edge_profile, edge_width, separation
from arq_core.engine.store import NoStore

FEW, ONE = Recipe(lr=1e-3, steps=30, batch=16, ema=0.9), torch.ones(1, 1, 1)


def problem(members=2):
    states = torch.rand(members, 200, 2, generator=torch.Generator().manual_seed(0))
    return states, (
        0.8 * states[..., :1] + torch.arange(members)[:, None, None] * states.flip(1)[..., 1:]
    ) / members


def test_gaussian_log_prob_is_the_closed_form_of_the_standardised_action():
    states, actions = problem()
    clone = fit("gaussian", states, actions, FEW, streams(0, 1), NoStore())
    points, at = torch.linspace(-1, 1, 12).view(1, 3, 4, 1).expand(2, -1, -1, -1), states[:, :3]
    _, mean, std = clone.net.parts(clone.of_state(at))
    standardised = (points - actions.mean(1)[:, None, None]) / actions.std(1, correction=0)[
        :, None, None
    ]
    expected = Normal(mean[:, :, 0], std[:, :, 0]).log_prob(standardised.squeeze(-1))
    # else it is not what is divided by
    assert actions.std(1).min() > 0.05
    torch.testing.assert_close(clone.log_prob(points, at, streams(0, 1)), expected)


@pytest.mark.parametrize("components", [1, 5])
def test_mixture_integrates_to_one_and_its_samples_are_its_own(components):
    net = Mixture(2, 1, ONE, streams(3), components, width=16).requires_grad_(False)
    state, fine = torch.tensor([[[0.2, -0.7]]]), torch.linspace(-12, 12, 24_001)
    density = net.log_prob(fine.view(1, 1, -1, 1), state, streams(3)).exp()[0, 0]
    assert density.sum().item() * 0.001 == pytest.approx(1, abs=1e-4)
    u = torch.searchsorted(fine, net.sample(state, 20_000, streams(4)).flatten())
    u = (density.cumsum(0) * 0.001)[u.clamp(max=len(fine) - 1)].sort().values
    # Kolmogorov-Smirnov, 1 in 10,000
    assert (u - (torch.arange(len(u)) + 0.5) / len(u)).abs().max() < 2.23 / len(u) ** 0.5


class Affine(nn.Module):
    """The last inputs times a slope, and constants after it: [E, R, in] -> [E, R, 1 +
    len(constants)].
    """

    def __init__(self, at, slope, *constants):
        super().__init__()
        self.at, self.slope, self.constants = at, slope, constants

    def forward(self, x):
        y = self.slope * x[..., self.at : self.at + 1]
        return torch.cat([y, *(torch.full_like(y, c) for c in self.constants)], -1)


def linear_vae(slope, std, shift):
    """a = slope z_1 + std·noise, so that beta is N(0, slope² + std²); the encoder is the posterior
    of z_1, narrowed, and for z_2 the prior moved by `shift`.
    """
    net, total = ConditionalVAE(1, 1, ONE, streams(0), fixed=std, width=4), slope**2 + std**2
    # inputs (s, z_1, z_2)
    net.decoder = Affine(1, slope)
    # inputs (s, a)
    net.encoder = Affine(1, slope / total, shift, math.log(0.8 * std / total**0.5), 0.0)
    return net, Normal(0.0, total**0.5)


def test_iwae_bound_rises_from_the_elbo_to_the_exact_density_of_a_linear_decoder():
    net, truth = linear_vae(slope=0.8, std=0.5, shift=1.0)
    actions, states = torch.linspace(-2, 2, 5).view(1, 1, 5, 1), torch.zeros(1, 1, 1)
    exact = truth.log_prob(actions.flatten())

    def bound(k, times):
        return (
            net.log_prob(actions.repeat(1, 1, times, 1), states, streams(1), k)
            .view(times, 5)
            .mean(0)
        )

    elbo = net.elbo(actions, states, streams(1), 40_000).flatten()
    gaps = torch.stack(
        [exact - bound(k, 4000 // k) for k in (1, 5, 50)] + [exact - bound(20_000, 1)]
    )
    torch.testing.assert_close(exact - elbo, gaps[0], rtol=0, atol=0.1)
    assert (
        (gaps[0] > 0.4).all()
        and (gaps[0] > gaps[1] + 0.2).all()
        and (gaps[1] > gaps[2] + 0.04).all()
        and (gaps[3].abs() < 0.05).all()
    )


def test_reconstruction_error_is_that_of_the_encoders_mean():
    net, _ = linear_vae(slope=0.8, std=0.5, shift=0.0)
    actions = torch.tensor([-1.0, 0.5]).view(1, 1, 2, 1)
    kept = 0.8**2 / (0.8**2 + 0.5**2)
    torch.testing.assert_close(
        net.reconstruction_error(actions, torch.zeros(1, 1, 1)).flatten(),
        ((1 - kept) * actions).square().flatten(),
    )


def test_bcq_loss_is_the_elbo_of_a_decoder_of_std_root_one_eighth():
    """Squared error + KL/2, means over A and 2A as BCQ has them, is proportional to the negative
    ELBO up to a constant.
    """
    net = ConditionalVAE(2, 1, ONE, streams(5), fixed=clones.BCQ_STD, width=8).requires_grad_(False)
    states, actions = problem(1)
    mean, std = net.encode(actions, states)
    kl = (std.square() + mean.square() - 1 - 2 * std.log()).mean(-1) / 2
    error = torch.stack(
        [
            (net.decode(states, mean + std * z)[0] - actions).square().mean(-1)
            for z in streams(6).randn(400, 1, 200, 2)[0]
        ]
    ).mean(0)
    negative_elbo = -net.elbo(actions[:, :, None], states, streams(7), 400)[..., 0]
    ratio = 4 * (error + kl / 2) - negative_elbo
    torch.testing.assert_close(
        ratio,
        torch.full_like(ratio, -math.log(clones.BCQ_STD) - math.log(2 * math.pi) / 2),
        rtol=0,
        atol=0.4,
    )


@pytest.mark.parametrize("family", ["mdn-2", "vae", "vae-bcq"])
def test_members_do_not_mix(family):
    states, actions = problem()
    together, alone = (
        fit(family, states, actions, FEW, streams(4, 5), NoStore()),
        fit(family, states[1:], actions[1:], FEW, streams(5), NoStore()),
    )
    for a, b in zip(together.net.parameters(), alone.net.parameters(), strict=True):
        torch.testing.assert_close(a[1:], b, rtol=1e-4, atol=1e-5)
    points = torch.linspace(-1, 1, 12).view(1, 3, 4, 1)
    both = together.log_prob(points.expand(2, -1, -1, -1), states[:, :3], streams(0, 1))
    torch.testing.assert_close(
        both[1:], alone.log_prob(points, states[1:, :3], streams(1)), rtol=1e-3, atol=1e-3
    )
    drawn = together.sample(states[:, :3], 4, streams(0, 1))
    assert drawn.shape == (2, 3, 4, 1)
    torch.testing.assert_close(
        drawn[1:], alone.sample(states[1:, :3], 4, streams(1)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("family", ["mdn-2", "vae"])
def test_reaches_the_entropy_of_a_gaussian_behaviour(family):
    """N(s, .2²) for a state that is known: the least mean loss is the entropy of N(0, .2²) in units
    of the actions' spread.
    """
    g = torch.Generator().manual_seed(1)
    states = torch.rand(1, 4000, 1, generator=g) * 2 - 1
    actions = states + 0.2 * torch.randn(1, 4000, 1, generator=g)
    curve = fit(
        family,
        states,
        actions,
        Recipe(lr=1e-2, steps=200, batch=64, ema=0.9),
        streams(0),
        NoStore(),
    ).loss
    assert curve[0, -1].item() == pytest.approx(
        Normal(0.0, 0.2 / actions.std().item()).entropy().item(), abs=0.15
    )


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match="family: saw 'gan', expected one of 'gaussian'"):
        fit("gan", *problem(), FEW, streams(0, 1), NoStore())


def test_edge_width_of_a_blurred_edge_is_that_of_the_normal_it_was_blurred_with():
    """One segment of width .4 convolved with N(0, .02²): 10-90% of a normal cdf is 2.563 standard
    deviations.
    """
    density = SegmentDensity(
        "one", "", lambda s: tuple(torch.full((*s.shape, 1), v) for v in (-0.2, 0.2, 1.0))
    )
    grid, normal = Grid.of(4, 1000), Normal(0.0, 0.02)
    blurred = (
        ((normal.cdf(grid.actions + 0.2) - normal.cdf(grid.actions - 0.2)) / 0.4)
        .log()
        .expand(1, 4, -1)
    )
    at, profile = edge_profile(density, grid, blurred)
    assert profile[0, 0].item() == pytest.approx(1, abs=1e-3) and profile[
        0, 50
    ].item() == pytest.approx(0.5, abs=1e-2)
    assert edge_width(at, profile).item() == pytest.approx(2.563 * 0.02 / 0.4, rel=0.02)
    assert edge_width(at, profile, 0.75).item() == pytest.approx(1.349 * 0.02 / 0.4, rel=0.03)
    flat = torch.stack([torch.full((151,), 0.5), torch.ones(151)])
    assert edge_width(at, flat).tolist() == [math.inf, math.inf]


def test_separation_is_the_area_under_the_roc_curve():
    inside = torch.tensor([[True, True, False, False]])
    values = torch.tensor([[[3.0, 2.0, 1.0, 0.0]], [[3.0, 0.0, 1.0, 2.0]], [[1.0, 1.0, 1.0, 1.0]]])
    assert separation(inside, values).tolist() == [1.0, 0.5, 0.5]
