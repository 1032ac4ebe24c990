"""The forward process is the one its equations say, its inverses invert, and its grids are what
their names say."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from arq_core.algorithm.sde import VPSDE, log_snr_grid, power_grid, uniform_grid

SDE = VPSDE()
TIMES = torch.logspace(-7, 0, 200, dtype=torch.float64)


def test_marginal_preserves_variance_and_alpha_decays_at_half_beta():
    t = TIMES.clone().requires_grad_()
    alpha, sigma = SDE.marginal(t)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(t), atol=1e-14, rtol=0)
    (slope,) = torch.autograd.grad(alpha.log().sum(), t)
    assert torch.allclose(slope, -(0.1 + 19.9 * TIMES) / 2, rtol=1e-12)


def test_marginal_solves_the_moment_equations_of_drift_and_diffusion():
    """dm/dt = f(m, t) and dv/dt = 2 f(1, t) v + g^2 from m = 1, v = 0 give m = alpha and v =
    sigma^2."""

    def rhs(t, y):
        t = torch.tensor(t, dtype=torch.float64)
        mean, variance = torch.from_numpy(y)
        return [
            SDE.drift(mean, t).item(),
            (2 * SDE.drift(variance, t) + SDE.diffusion(t) ** 2).item(),
        ]

    at = np.array([1e-3, 0.1, 0.5, 1.0])
    y = solve_ivp(rhs, (0, 1), [1.0, 0.0], t_eval=at, rtol=1e-11, atol=1e-13, method="DOP853").y
    alpha, sigma = SDE.marginal(torch.from_numpy(at))
    np.testing.assert_allclose(y[0], alpha, rtol=1e-9)
    np.testing.assert_allclose(y[1], sigma**2, rtol=1e-9)


def test_log_snr_and_angle_agree_with_marginal_and_invert():
    alpha, sigma = SDE.marginal(TIMES)
    assert torch.allclose(SDE.log_snr(TIMES), torch.log(alpha / sigma), rtol=0, atol=1e-10)
    assert torch.allclose(SDE.angle(TIMES), torch.atan2(sigma, alpha), rtol=1e-12)
    assert torch.allclose(SDE.time_at_log_snr(SDE.log_snr(TIMES)), TIMES, rtol=1e-10, atol=0)
    assert torch.allclose(SDE.time_at_angle(SDE.angle(TIMES)), TIMES, rtol=1e-10, atol=0)


def test_float32_keeps_its_digits_near_time_zero():
    short = TIMES.float()
    for f in (
        lambda t: SDE.marginal(t)[1],
        SDE.log_snr,
        SDE.angle,
        lambda t: SDE.time_at_angle(SDE.angle(t)),
    ):
        assert f(short).dtype == torch.float32
        assert torch.allclose(
            f(short).double(),
            f(short.double()),
            rtol=2e-6,
            atol=2e-6 * f(short.double()).abs().min().item(),
        )


def test_prior_is_the_standard_normal():
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1)
    assert torch.allclose(SDE.prior_log_prob(x), expected, atol=1e-12)


@pytest.mark.parametrize(
    "grid, variable",
    [
        (uniform_grid, lambda t: t),
        (log_snr_grid, SDE.log_snr),
        (power_grid, lambda t: t ** (1 / 3)),
    ],
)
@pytest.mark.parametrize("t_end", [1e-3, 1e-5])
def test_grid_is_decreasing_exact_at_its_ends_and_even_in_its_variable(grid, variable, t_end):
    times = grid(SDE, 20, t_end)
    assert times.shape == (21,) and times.dtype == torch.float64
    assert times[0] == 1.0 and times[-1] == t_end and (times.diff() < 0).all()
    gaps = variable(times).diff()
    assert torch.allclose(gaps, gaps.mean().expand(20), rtol=1e-8)


@pytest.mark.parametrize(
    "n, t_end, t_start",
    [(0, 1e-3, 1.0), (5, 0.0, 1.0), (5, 1e-3, 1.5), (5, 0.5, 0.5), (5, math.nan, 1.0)],
)
def test_grid_refuses_what_it_cannot_space(n, t_end, t_start):
    with pytest.raises(ValueError, match="time grid: saw"):
        log_snr_grid(SDE, n, t_end, t_start)


def test_process_refuses_a_noise_rate_that_is_not_positive():
    with pytest.raises(ValueError, match="beta_min = -1"):
        VPSDE(beta_min=-1)
