"""The diffusion of uniform segments is a law, its score is that law's, and a recorded walk is the
walk.
"""

import math

import pytest
import torch
from scipy.stats import kstest, wasserstein_distance

from arq_core.algorithm.samplers import SAMPLERS, make_grid
from arq_core.algorithm.sde import VPSDE, log_snr_grid
from arq_core.densities.diffused import SegmentMarginal, nearest, recorded
from arq_core.densities.segments import FIGURE_A1, SegmentDensity
from arq_core.engine.streams import Streams

SDE = VPSDE()
TIMES = [torch.tensor(t, dtype=torch.float64) for t in (1e-3, 0.03, 0.3, 1.0)]
LAW = SegmentMarginal.at(
    SDE,
    list(FIGURE_A1.values()),
    torch.tensor([[-0.5, 0.4], [0.175, -0.6], [0.55, -0.9], [0.375, -0.4]]),
    torch.tensor([0.0, 0.1, -0.1, 0.05]),
    torch.tensor([0.5, 0.4, 0.6, 0.5]),
)
FINE = torch.linspace(-6, 6, 24_001, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("t", TIMES, ids=lambda t: f"t={t:g}")
def test_density_integrates_to_its_distribution_function(t):
    p, reached = LAW.log_prob(FINE, t).exp(), LAW.cdf(FINE, t)
    torch.testing.assert_close(
        torch.cumulative_trapezoid(p, FINE[:, 0], dim=-1),
        reached[..., 1:] - reached[..., :1],
        rtol=0,
        atol=1e-4,
    )
    torch.testing.assert_close(
        reached[..., -1], torch.ones(4, 2, dtype=torch.float64), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("t", TIMES, ids=lambda t: f"t={t:g}")
def test_score_is_the_derivative_of_the_log_density(t):
    x, h = LAW.sample(200, t, torch.Generator().manual_seed(0)), 1e-5 * SDE.marginal(t)[1]
    # and far outside
    x = torch.cat(
        [x, torch.linspace(-5, 5, 40, dtype=torch.float64)[:, None].expand(4, 2, -1, -1)], 2
    )
    slope = (LAW.log_prob(x + h, t) - LAW.log_prob(x - h, t)) / (2 * h)
    torch.testing.assert_close(LAW(x, t)[..., 0], slope, rtol=1e-5, atol=1e-4)


def test_score_far_away_is_that_of_the_noise_where_the_density_underflows():
    x = torch.tensor([-1e7, -1e5, 1e5, 1e7], dtype=torch.float64)[:, None]
    expected = -x / SDE.marginal(TIMES[0])[1] ** 2
    torch.testing.assert_close(
        LAW(x, TIMES[0])[:, :], expected.expand(4, 2, -1, -1), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("t", TIMES, ids=lambda t: f"t={t:g}")
def test_law_is_that_of_noised_samples_of_the_density(t):
    """Kolmogorov-Smirnov at 1 in 10,000, against samples noised by S2 and against `sample`."""
    density, alpha_sigma = FIGURE_A1["fork"], SDE.marginal(t)
    rng = Streams([0])
    actions = (density.sample(torch.full((1, 5000), 0.55, dtype=torch.float64), rng) + 0.1) / 0.6
    noised = alpha_sigma[0] * actions + alpha_sigma[1] * rng.randn_like(actions)
    for x in (noised[0], LAW.sample(5000, t, torch.Generator().manual_seed(1))[2, 0, :, 0]):
        assert (
            kstest(
                x.numpy(), lambda v: LAW.cdf(torch.from_numpy(v)[:, None], t)[2, 0].numpy()
            ).pvalue
            > 1e-4
        )


def test_support_is_the_segments_and_three_sigma_and_absent_segments_are_none():
    one = SegmentDensity(
        "one",
        "",
        lambda s: tuple(
            torch.tensor(v, dtype=s.dtype).expand(*s.shape, 2)
            for v in ((-0.1, 0.5), (0.1, 0.7), (1.0, 0.0))
        ),
    )
    law, t = (
        SegmentMarginal.at(SDE, [one], torch.zeros(1, 1), torch.zeros(1), torch.ones(1)),
        TIMES[1],
    )
    alpha, sigma = (m.item() for m in SDE.marginal(t))
    x = torch.tensor(
        [
            0.0,
            0.1 * alpha + 2.99 * sigma,
            0.1 * alpha + 3.01 * sigma,
            0.6 * alpha + 3.5 * sigma,
            math.nan,
        ],
        dtype=torch.float64,
    )[:, None]
    assert law.off_support(x, t).flatten().tolist() == [False, False, True, True, True]
    assert (
        LAW.off_support(LAW.sample(20_000, t, torch.Generator().manual_seed(2)), t).double().mean()
        < 1.3e-3
    )


def test_wasserstein_distance_is_that_to_a_large_true_sample():
    t, draw = TIMES[1], torch.Generator().manual_seed(3)
    x, true = 0.9 * LAW.sample(400, t, draw) + 0.1, LAW.sample(100_000, t, draw)
    got = LAW.wasserstein(x, t)
    for e, b in ((0, 0), (1, 1), (2, 0)):
        assert (
            got[e, b].item()
            == pytest.approx(wasserstein_distance(x[e, b, :, 0], true[e, b, :, 0]), abs=0.01)
            and got[e, b] > 0.05
        )


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_recorded_walk_starts_and_ends_where_the_sampler_does(name):
    times, start = make_grid(name, SDE, 20), Streams([0]).randn(2, 30, 1, dtype=torch.float64)
    law = SegmentMarginal.at(
        SDE,
        [FIGURE_A1["arcs"]],
        torch.tensor([[0.375, -0.4]]),
        torch.zeros(1),
        torch.full((1,), 0.5),
    )
    with pytest.warns(UserWarning) if name == "predictor_corrector" else torch.no_grad():
        path = recorded(SAMPLERS[name], law, SDE, start, times, Streams([5]))
        end = SAMPLERS[name](law, SDE, start, times, Streams([5]))
    assert (
        path.shape == (len(times), *start.shape)
        and torch.equal(path[0], start)
        and torch.equal(path[-1], end)
    )


def test_a_recorded_walk_of_an_ode_solver_stands_where_a_shorter_walk_ends():
    """Between its ends, too: Heun's guesses are not where it was."""
    times, start = (
        make_grid("probability_flow", SDE, 40),
        Streams([0]).randn(2, 30, 1, dtype=torch.float64),
    )
    law = SegmentMarginal.at(
        SDE,
        [FIGURE_A1["arcs"]],
        torch.tensor([[0.375, -0.4]]),
        torch.zeros(1),
        torch.full((1,), 0.5),
    )
    for name in ("probability_flow", "dpmpp_2m"):
        path = recorded(SAMPLERS[name], law, SDE, start, times, None)
        torch.testing.assert_close(
            path[7], SAMPLERS[name](law, SDE, start, times[:8], None), rtol=0, atol=1e-9
        )


def test_nearest_time_is_nearest_in_log_snr():
    times, levels = make_grid("dpmpp_2m", SDE, 20), log_snr_grid(SDE, 40, 1e-3)
    assert nearest(times, levels, SDE)[::2].tolist() == list(range(21))
    # 9e-3 apart, and 8e-3
    assert nearest(torch.tensor([1.0, 1e-2, 1e-3]), torch.tensor([2e-3]), SDE).tolist() == [2]
