"""Observed orders of convergence against closed forms, and what a sample may depend on."""

import math
import warnings

import pytest
import torch

from arq_core.algorithm.samplers import (
    SAMPLERS,
    dpmpp_2m,
    make_grid,
    predictor_corrector,
    probability_flow,
)
from arq_core.algorithm.sde import VPSDE, log_snr_grid, power_grid, uniform_grid
from arq_core.engine.streams import Streams

SDE, T_END = VPSDE(), 1e-3


class Normal:
    """The score of alpha N(mean, std^2) + sigma z; mean and std [A]."""

    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def moments(self, t):
        alpha, sigma = SDE.marginal(t)
        return alpha * self.mean, alpha**2 * self.std**2 + sigma**2

    def __call__(self, x, t):
        mean, variance = self.moments(t)
        return (mean - x) / variance


class Mixture:
    """The score of two normals of weight 1/2 at +-mean, along every axis alike; scalars."""

    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, x, t):
        alpha, sigma = SDE.marginal(t)
        variance, m = alpha**2 * self.std**2 + sigma**2, alpha * self.mean
        return (m * torch.tanh(m * x / variance) - x) / variance


class Impulse:
    """Noise that is 1 for row 2 + k at draw k and 0 elsewhere: row by row, a linear sampler's
    response to each draw."""

    draw = 0

    def randn_like(self, x):
        z = torch.zeros_like(x)
        z[:, 2 + self.draw : 3 + self.draw] = 1
        self.draw += 1
        return z


def output_moments(solver, grid, n):
    """Exact mean and variance of a sampler's output for a normal score: row 0 starts at the mean of
    x_T, row 1 one above."""
    times = grid(SDE, n, T_END)
    mean, variance = Normal(0.7, 0.3).moments(times[0])
    x = mean.expand(1, n + 2, 1).clone()
    x[:, 1] += 1
    y = solver(Normal(0.7, 0.3), SDE, x, times, Impulse()).flatten()
    gain = y[1:] - y[0]
    return y[0], gain[0] ** 2 * variance + gain[1:].square().sum()


def observed_orders(errors):
    return [math.log2(abs(a / b)) for a, b in zip(errors, errors[1:])]


ORDERS = {  # a solver's order in the step: a new solver is a line here
    "euler_maruyama": 1,
    "probability_flow": 2,
    "dpmpp_2m": 2,
    "sde_dpmpp_2m": 2,
}
BIASED = {
    "predictor_corrector",
    "predictor_corrector_batch",
}  # by Langevin's steps, at any step size


def test_every_solver_has_its_order_here():
    assert set(ORDERS) | BIASED == set(SAMPLERS)


@pytest.mark.parametrize("name, order", ORDERS.items())
def test_sampler_order_on_a_normal(name, order):
    """Mean and variance approach those of x at t_end with the stated order; no Monte Carlo error is
    involved."""
    target = Normal(0.7, 0.3).moments(torch.tensor(T_END, dtype=torch.float64))
    ns = {1: (50, 100, 200), 2: (40, 80, 160)}[order]
    results = [output_moments(SAMPLERS[name].solve, log_snr_grid, n) for n in ns]
    means, variances = ([float(r[i] - target[i]) for r in results] for i in (0, 1))
    assert observed_orders(variances) == pytest.approx([order, order], abs=0.15 * order)
    if max(map(abs, means)) > 1e-9:  # data prediction gets the mean right at any step size
        assert observed_orders(means) == pytest.approx([order, order], abs=0.15 * order)


@pytest.mark.parametrize("solver", [probability_flow, dpmpp_2m])
def test_sampler_order_on_a_mixture(solver):
    """End points of the ODE itself, which is not linear here, against a fine solution by the same
    formula's sibling."""
    x = torch.linspace(-2, 2, 50, dtype=torch.float64).reshape(1, 50, 1)
    reference = probability_flow(Mixture(0.7, 0.2), SDE, x, power_grid(SDE, 4000, T_END))
    errors = [
        (solver(Mixture(0.7, 0.2), SDE, x, log_snr_grid(SDE, n, T_END)) - reference).abs().mean()
        for n in (40, 80, 160)
    ]
    assert observed_orders(errors) == pytest.approx([2, 2], abs=0.3)


@pytest.mark.parametrize("norm", ["sample", "batch"])
def test_predictor_corrector_takes_its_steps_from_the_grid(norm):
    """A std of 0.02 comes out as x's at t_end within 3%, of which Langevin's own bias is about 1%.

    The grid is even in log-SNR, so steps differ. Many axes make the per-sample norms sharp; 20,000
    numbers estimate the std to 0.5%.
    """
    score, rng = Normal(0.0, 0.02), Streams([0])
    target = score.moments(torch.tensor(T_END, dtype=torch.float64))[1].sqrt().item()
    x = predictor_corrector(
        score, SDE, rng.randn(20, 1000), log_snr_grid(SDE, 400, T_END), rng, norm=norm
    )
    assert x.std().item() == pytest.approx(target, rel=0.03)


def test_predictor_corrector_std_errs_by_order_one_on_the_papers_grid():
    """500 uniform steps to t_end give 0.0184 for the 0.0226 there; twice the steps halve the
    error."""
    score = Normal(0.0, 0.02)
    target = score.moments(torch.tensor(T_END, dtype=torch.float64))[1].sqrt().item()
    errors = []
    for n in (500, 1000):
        rng = Streams([n])
        errors.append(
            target
            - predictor_corrector(score, SDE, rng.randn(20, 1000), uniform_grid(SDE, n, T_END), rng)
            .std()
            .item()
        )
    assert errors[0] == pytest.approx(0.0042, abs=0.0004) and observed_orders(
        errors
    ) == pytest.approx([1], abs=0.25)


@pytest.mark.parametrize("name", SAMPLERS)
def test_member_samples_what_it_would_sample_alone(name):
    score, times = Mixture(0.7, 0.2), make_grid(name, SDE, 20)
    x = Streams([0, 1]).randn(6, 4)
    both = SAMPLERS[name](score, SDE, x, times, Streams([5, 6]))
    alone = SAMPLERS[name](score, SDE, x[1:], times, Streams([6]))
    assert torch.equal(both[1:], alone)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sample_ignores_other_samples_in_batch_except_by_batch_norms(name):
    score, times = Mixture(0.7, 0.2), make_grid(name, SDE, 20)
    x = Streams([0]).randn(6, 4)
    other = x.clone()
    other[:, 1:] *= 3
    first, second = (
        SAMPLERS[name](score, SDE, start, times, Streams([5]))[:, 0] for start in (x, other)
    )
    assert torch.equal(first, second) == (name != "predictor_corrector_batch")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_keeps_type_and_shape_and_spends_its_budget(name, dtype):
    calls = []

    def score(x, t):
        assert x.dtype == t.dtype == dtype and t.ndim == 0
        calls.append(t)
        return Normal(0.1, 0.5)(x, t)

    rng = Streams([0, 1])
    x = SAMPLERS[name](score, SDE, rng.randn(5, 3, 4, dtype=dtype), make_grid(name, SDE, 21), rng)
    assert x.shape == (2, 5, 3, 4) and x.dtype == dtype and torch.isfinite(x).all()
    assert 21 - SAMPLERS[name].evaluations < len(calls) <= 21


@pytest.mark.parametrize("name", SAMPLERS)
def test_float32_sample_is_the_float64_sample(name):
    """The same draws in both types give the same sample to a thousandth of its std."""

    class Shared:
        def __init__(self):
            self.generator = torch.Generator().manual_seed(0)

        def randn_like(self, x):
            return torch.randn(x.shape, generator=self.generator, dtype=torch.float64).to(x)

    start = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact, single = (
        SAMPLERS[name](Normal(0.7, 0.3), SDE, start.to(dtype), make_grid(name, SDE, 40), Shared())
        for dtype in (torch.float64, torch.float32)
    )
    assert (exact - single).abs().max() < 3e-4


def test_per_sample_norms_warn_in_three_dimensions_and_below():
    times = make_grid("predictor_corrector", SDE, 4)
    with pytest.warns(UserWarning, match="A = 3"):
        predictor_corrector(Normal(0.0, 1.0), SDE, Streams([0]).randn(8, 3), times, Streams([1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor_corrector(Normal(0.0, 1.0), SDE, Streams([0]).randn(8, 4), times, Streams([1]))
        predictor_corrector(
            Normal(0.0, 1.0), SDE, Streams([0]).randn(8, 3), times, Streams([1]), norm="batch"
        )


@pytest.mark.parametrize(
    "call, seen",
    [
        (lambda: make_grid("heun", SDE, 10), "'heun'"),
        (lambda: make_grid("probability_flow", SDE, 1), "1 evaluations"),
        (
            lambda: predictor_corrector(
                Normal(0.0, 1.0), SDE, torch.zeros(1, 4), torch.ones(2), None, norm="l2"
            ),
            "'l2'",
        ),
    ],
)
def test_sampler_names_the_choice_it_cannot_use(call, seen):
    with pytest.raises(ValueError, match=seen):
        call()


@pytest.mark.filterwarnings("ignore:predictor_corrector")
def test_per_sample_langevin_leaves_the_support_in_one_dimension():
    """At A = 1 the released step size puts over a tenth of its samples (0.13 to 0.14 here) more
    than 5 std from both modes, where a true sample almost never lies; batch means and
    DPM-Solver++(2M) put at most 0.0003 there."""
    score, lost = Mixture(0.7, 0.05), {}
    for name, evaluations in (
        ("predictor_corrector", 1000),
        ("predictor_corrector_batch", 1000),
        ("dpmpp_2m", 20),
    ):
        rng = Streams([0])
        x = SAMPLERS[name](score, SDE, rng.randn(2000, 1), make_grid(name, SDE, evaluations), rng)
        lost[name] = ((x.abs() - 0.7).abs() > 5 * 0.051).float().mean().item()
    assert lost["predictor_corrector"] > 0.1
    assert lost["predictor_corrector_batch"] < 0.003 and lost["dpmpp_2m"] < 0.003
