"""Log-densities against closed forms, observed orders, and divergences against traces."""

import itertools
import math

import pytest
import torch

from arq_core.algorithm.likelihood import (
    exact_divergence,
    heun,
    hutchinson_divergence,
    jvp,
    log_prob_fixed,
    log_prob_multistep,
    log_prob_rk45,
    rademacher,
    rk4,
    sample_with_log_prob,
)
from arq_core.algorithm.samplers import dpmpp_2m
from arq_core.algorithm.sde import VPSDE, log_snr_grid
from arq_core.engine.streams import Streams

SDE, T_END = VPSDE(), 1e-3


class Normal:
    """The score of N(mean, diag std^2) diffused, with its own jvp. `flow_log_prob` is the ODE's
    density in closed form."""

    def __init__(self, a):
        g = torch.Generator().manual_seed(a)
        self.mean = torch.randn(a, generator=g, dtype=torch.float64)
        self.std = 0.2 + torch.rand(a, generator=g, dtype=torch.float64)

    def moments(self, t):
        alpha, sigma = SDE.marginal(t)
        return alpha * self.mean.to(t), alpha**2 * self.std.to(t) ** 2 + sigma**2

    def __call__(self, x, t):
        mean, variance = self.moments(t)
        return (mean - x) / variance

    def jvp(self, x, t, tangents):
        return self(x, t), -tangents / self.moments(t)[1]

    def log_prob(self, x, t):
        mean, variance = self.moments(torch.tensor(t, dtype=torch.float64))
        return torch.distributions.Normal(mean, variance.sqrt()).log_prob(x).sum(-1)

    def flow_log_prob(self, x, t_end):
        """The ODE maps x to mean_T + gain (x - mean_end), gain = std_T / std_end, where the prior
        N(0, I) is read."""
        (mean, variance), (mean_T, variance_T) = (
            self.moments(torch.tensor(t, dtype=torch.float64)) for t in (t_end, 1.0)
        )
        gain = (variance_T / variance).sqrt()
        return SDE.prior_log_prob(mean_T + gain * (x - mean)) + gain.log().sum()


class Mixture:
    """The score of K diffused normals [K, A] of equal weight, with its own jvp."""

    def __init__(self, a, k=4):
        g = torch.Generator().manual_seed(10 + a)
        self.mean = 0.8 * torch.randn(k, a, generator=g, dtype=torch.float64)
        self.std = 0.1 + 0.4 * torch.rand(k, a, generator=g, dtype=torch.float64)

    def parts(self, x, t):
        """Each normal's share [..., K, 1], score [..., K, A] and variance [K, A]."""
        alpha, sigma = SDE.marginal(t)
        variance = alpha**2 * self.std.to(x) ** 2 + sigma**2
        offset = x[..., None, :] - alpha * self.mean.to(x)
        share = torch.softmax(-0.5 * (offset**2 / variance + variance.log()).sum(-1), -1)
        return share[..., None], -offset / variance, variance

    def __call__(self, x, t):
        share, score, _ = self.parts(x, t)
        return (share * score).sum(-2)

    def jvp(self, x, t, tangents):
        share, score, variance = self.parts(x, t)
        v = tangents[..., None, :]
        along = (score * v).sum(-1, keepdim=True)  # how each log-density changes
        change = share * (along - (share * along).sum(-2, keepdim=True))
        return (share * score).sum(-2), (change * score - share * v / variance).sum(-2)


WEIGHTS = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def field(x, t):
    """A nonlinear field [..., 5] whose Jacobian is dense and not symmetric."""
    return torch.tanh(x @ WEIGHTS) * x.square().sum(-1, keepdim=True) + t * torch.sin(x)


def traces(score, x, t):
    rows = x.reshape(-1, x.shape[-1])
    return torch.stack(
        [torch.autograd.functional.jacobian(lambda y: score(y, t), row).trace() for row in rows]
    ).reshape(x.shape[:-1])


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def observed_orders(errors):
    return [math.log2(a / b) for a, b in zip(errors, errors[1:])]


@pytest.mark.parametrize("chunk", [None, 1, 2, 5, 9])
def test_exact_divergence_is_the_trace_of_the_jacobian(chunk):
    x, t = noise(2, 3, 5), torch.tensor(0.3, dtype=torch.float64)
    value, divergence = exact_divergence(field, x, t, chunk)
    assert torch.allclose(value, field(x, t), atol=1e-14)
    assert torch.allclose(divergence, traces(field, x, t), atol=1e-12)


def test_hutchinson_over_all_sign_vectors_is_the_trace():
    """The mean over all 2^A probes has no cross terms left: the estimate is unbiased."""
    x, t = noise(2, 3, 5), torch.tensor(0.3, dtype=torch.float64)
    probes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=5))).reshape(32, 1, 1, 5)
    value, divergence = hutchinson_divergence(probes)(field, x, t)
    assert torch.allclose(value, field(x, t), atol=1e-14)
    assert torch.allclose(divergence, traces(field, x, t), atol=1e-12)
    one = hutchinson_divergence(probes[:1])(field, x, t)[1]
    assert (one - divergence).abs().max() > 0.1


def test_hutchinson_with_one_probe_is_exact_for_a_diagonal_jacobian():
    x, t, rng = noise(2, 6, 7), torch.tensor(0.3, dtype=torch.float64), Streams([3, 4])
    estimate = hutchinson_divergence(rademacher(rng, x, 1))(Normal(7), x, t)[1]
    assert torch.allclose(estimate, exact_divergence(Normal(7), x, t)[1], atol=1e-12)


def test_probes_are_signs_and_a_members_own():
    x = torch.zeros(2, 50, 4)
    probes = rademacher(Streams([3, 4]), x, 10)
    assert (
        probes.shape == (10, 2, 50, 4)
        and probes.dtype == x.dtype
        and set(probes.unique().tolist()) == {-1.0, 1.0}
    )
    assert abs(probes.mean()) < 0.05
    assert torch.equal(probes[:, 1:], rademacher(Streams([4]), x[1:], 10))


@pytest.mark.parametrize("score", [Normal(3), Mixture(3)])
def test_jvp_prefers_the_scores_own_which_is_torchs(score):
    x, t = noise(1, 3, 3), torch.tensor(0.3, dtype=torch.float64)
    own, generic = (
        jvp(score, x, t, noise(4, 1, 3, 3)),
        jvp(score.__call__, x, t, noise(4, 1, 3, 3)),
    )
    assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(own, generic))


@pytest.mark.parametrize("a", [1, 3, 24])
def test_log_prob_matches_closed_form_normal(a):
    score, x = Normal(a), noise(1, 6, a)
    x = score.mean + score.std * x
    expected = score.flow_log_prob(x, T_END)
    fixed = log_prob_fixed(score, SDE, x, exact_divergence, log_snr_grid(SDE, 100, T_END), rk4)
    adaptive = log_prob_rk45(score, SDE, x, exact_divergence, rtol=1e-9, atol=1e-9, t_start=T_END)
    walked = log_prob_multistep(score, SDE, x, exact_divergence, log_snr_grid(SDE, 100, T_END))
    for log_prob, tolerance in ((fixed, 1e-6), (adaptive, 1e-6), (walked, 1e-4)):
        assert torch.allclose(log_prob, expected, rtol=0, atol=tolerance)
    assert torch.allclose(
        fixed, score.log_prob(x, T_END), rtol=0, atol=0.03 * math.sqrt(a)
    )  # N(0, I) is not quite p at t = 1


def test_released_setting_is_accurate_to_hundredths_and_stops_on_numbers_that_are_not_finite():
    x = noise(2, 5, 3, dtype=torch.float32)
    log_prob = log_prob_rk45(Normal(3), SDE, x, exact_divergence)
    assert log_prob.shape == (2, 5) and log_prob.dtype == torch.float32
    assert torch.allclose(log_prob.double(), Normal(3).flow_log_prob(x.double(), 1e-5), atol=0.02)
    x[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        log_prob_rk45(Normal(3), SDE, x, exact_divergence)


@pytest.mark.parametrize("method, order, ns", [(heun, 2, (32, 64, 128)), (rk4, 4, (16, 32, 64))])
def test_solver_order_of_log_prob_fixed(method, order, ns):
    score, x = Mixture(2), noise(1, 10, 2)
    reference = log_prob_fixed(score, SDE, x, exact_divergence, log_snr_grid(SDE, 200, T_END), rk4)
    errors = [
        (
            log_prob_fixed(score, SDE, x, exact_divergence, log_snr_grid(SDE, n, T_END), method)
            - reference
        )
        .abs()
        .mean()
        for n in ns
    ]
    assert observed_orders(errors) == pytest.approx([order, order], abs=0.15 * order)


def test_solver_order_of_log_prob_change_is_four_both_ways():
    """Along dpmpp_2m's nodes, against the known log-densities of its two ends (so N(0, I) at t = 1
    plays no part)."""
    score, start = Normal(3), noise(1, 30, 3)
    down, up = [], []
    for n in (40, 80, 160):
        times = log_snr_grid(SDE, n, T_END)
        end, log_prob = sample_with_log_prob(score, SDE, start, times, exact_divergence)
        change = score.log_prob(end, T_END) - score.log_prob(start, 1.0)
        down.append((log_prob - SDE.prior_log_prob(start) - change).abs().mean())
        end = dpmpp_2m(score, SDE, start, times.flip(0))
        change = score.log_prob(start, T_END) - score.log_prob(end, 1.0)
        log_prob = log_prob_multistep(score, SDE, start, exact_divergence, times)
        up.append((log_prob - SDE.prior_log_prob(end) - change).abs().mean())
    for errors in (down, up):
        assert min(observed_orders(errors)) > 3.4


@pytest.mark.parametrize("a", [1, 3, 24])
@pytest.mark.parametrize("n, tolerance", [(20, 0.2), (32, 0.02)])
def test_sample_with_log_prob_agrees_with_log_prob_at_its_samples(a, n, tolerance):
    """Mean absolute error in nats against RK4 on a fine grid; the samples are those of dpmpp_2m. At
    A = 24 and n = 20 the two worst of 60 samples make more than half of the second error; its
    median is 0.007."""
    score, x, times = Mixture(a), noise(1, 60, a), log_snr_grid(SDE, n, T_END)
    sample, log_prob = sample_with_log_prob(score, SDE, x, times, exact_divergence)
    reference = log_prob_fixed(
        score, SDE, sample, exact_divergence, log_snr_grid(SDE, 100, T_END), rk4
    )
    assert torch.allclose(sample, dpmpp_2m(score, SDE, x, times), atol=1e-12)
    assert (log_prob - reference).abs().mean() < tolerance
    assert (
        log_prob_multistep(score, SDE, sample, exact_divergence, times) - reference
    ).abs().mean() < tolerance


@pytest.mark.parametrize(
    "log_prob",
    [
        lambda x: sample_with_log_prob(
            Mixture(3), SDE, x, log_snr_grid(SDE, 20, T_END), exact_divergence
        )[1],
        lambda x: log_prob_multistep(
            Mixture(3), SDE, x, exact_divergence, log_snr_grid(SDE, 20, T_END)
        ),
        lambda x: log_prob_fixed(
            Mixture(3).__call__, SDE, x, exact_divergence, log_snr_grid(SDE, 8, T_END), heun
        ),
    ],
)
def test_log_prob_in_float32_is_that_in_float64_and_ignores_the_batch(log_prob):
    x = noise(2, 4, 3, 3)
    single, exact = log_prob(x.float()), log_prob(x)
    assert single.dtype == torch.float32 and single.shape == (2, 4, 3)
    assert torch.allclose(single.double(), exact, rtol=0, atol=2e-3)
    assert torch.allclose(log_prob(x[1:, 2:3]), exact[1:, 2:3], rtol=0, atol=1e-9)
