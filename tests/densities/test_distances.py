"""The statistics by which samplers are judged: known distances, a null that is standard normal, and
a law that is what it says.
"""

import importlib.util
import math
import warnings
from pathlib import Path

import pytest
import torch

from arq_core.algorithm.likelihood import exact_divergence, sample_with_log_prob
from arq_core.algorithm.samplers import SAMPLERS, make_grid
from arq_core.algorithm.sde import VPSDE, power_grid
from arq_core.densities.distances import (
    against_truth,
    density_errors,
    distance,
    distances,
    mean_distance,
    own_distance,
    split_distances,
)
from arq_core.engine.streams import Streams

SDE, T_END = VPSDE(), torch.tensor(1e-3, dtype=torch.float64)
BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "fidelity.py"


def load(path):
    spec = importlib.util.spec_from_file_location("benchmark_" + path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


problem = load(BENCHMARK).problem


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def law(a, states=4):
    return problem(a, torch.linspace(0, 1, states, dtype=torch.float64))


def true(mixture, n, seed=0):
    return mixture.sample(n, T_END, generator(seed)).float()


def null(mixture, n):
    return torch.stack(
        [split_distances(p, 256, generator(7)) for p in true(mixture, 2 * n, seed=100)]
    ).double()


def z_of(mixture, x, seed=1):
    d = torch.tensor([distance(a, b) for a, b in zip(x, true(mixture, x.shape[1], seed))])
    return against_truth(d.double(), null(mixture, x.shape[1]))


def solved(mixture, name, evaluations, n=1000):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = Streams([0]).randn(len(mixture.cut), n, mixture.mean.shape[-1])
        return SAMPLERS[name](mixture, SDE, x, make_grid(name, SDE, evaluations), Streams([1]))[0]


def test_distances_are_those_between_rows():
    x, y = torch.randn(40, 5, generator=generator()), torch.randn(30, 5, generator=generator(1))
    assert torch.allclose(distances(x, y), torch.cdist(x.double(), y.double()).float(), atol=1e-5)
    assert mean_distance(x, y) == pytest.approx(
        torch.cdist(x.double(), y.double()).mean().item(), rel=1e-6
    )
    x = torch.randn(1300, 3, generator=generator()) + 2
    assert own_distance(x) == pytest.approx(mean_distance(x, x), rel=1e-5)


def test_w1_of_shifted_samples_is_the_shift():
    x = torch.randn(500, 1, generator=generator())
    assert distance(x, x[torch.randperm(500, generator=generator())] + 0.3) == pytest.approx(
        0.3, abs=1e-6
    )


def test_energy_distance_of_a_shifted_normal_is_the_known_value():
    """Along one of two axes, the other constant: E|X-Y| is the mean of a folded N(shift, 2); each
    own term is biased by 1/n.
    """
    shift, n = 0.8, 4000
    x = torch.zeros(2, n, 2)
    x[..., 0] = torch.randn(2, n, generator=generator())
    x[1, :, 0] += shift
    own = 2 / math.sqrt(math.pi)
    between = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2)
    assert distance(*x) ** 2 == pytest.approx(2 * between - 2 * own * (1 - 1 / n), rel=0.06)


@pytest.mark.parametrize("a", [1, 3])
def test_split_distances_are_distances_of_the_halves(a):
    # at A = 1 the labels are given in order of size
    pool = torch.randn(600, a, generator=generator()).sort(0).values
    # the first split that generator(5) makes
    halves = torch.randperm(600, generator=generator(5)).lt(300)
    assert split_distances(pool, 3, generator(5))[0].item() == pytest.approx(
        distance(pool[halves], pool[~halves]), rel=2e-3
    )


def test_z_is_standard_normal_for_true_samples():
    """Over 60 pairs of true samples at 6 states: mean 0 and std 1, each to three standard
    errors.
    """
    mixture, z = law(1, 6), torch.empty(60)
    spread = null(mixture, 300)
    for seed in range(60):
        d = [distance(x[:300], x[300:]) for x in true(mixture, 600, seed)]
        z[seed] = against_truth(torch.tensor(d).double(), spread)["z"]
    assert abs(z.mean()) < 3 / 60**0.5 and abs(z.std() - 1) < 3 / 120**0.5


@pytest.mark.parametrize("a", [1, 3, 24])
def test_z_tells_four_evaluations_from_the_truth_and_twenty_not(a):
    mixture = law(a)
    truth, coarse, fine = (
        z_of(mixture, x)
        for x in (
            true(mixture, 1000, seed=5),
            solved(mixture, "dpmpp_2m", 4),
            solved(mixture, "dpmpp_2m", 20),
        )
    )
    assert abs(truth["z"]) < 3 and truth["ratio"] == pytest.approx(1, abs=0.4)
    assert coarse["z"] > 6 and coarse["ratio"] > 2
    assert abs(fine["z"]) < 3


@pytest.mark.parametrize("a", [1, 3, 24])
def test_true_samples_are_on_support_and_far_ones_are_not(a):
    mixture, x = law(a), true(law(a), 5000).double()
    assert mixture.off_support(x, T_END).double().mean() < 1e-3
    assert mixture.off_support(x + 6, T_END).all()


@pytest.mark.parametrize("a", [3, 24])
def test_samples_beyond_the_cut_are_off_support(a):
    mixture = law(a)
    x = mixture.mean[:, -1:].clone()
    assert not mixture.off_support(x, T_END).any()
    x[:, 0, 0] = mixture.cut - 0.1
    assert mixture.off_support(x, T_END).all()


def test_mixture_samples_have_its_log_prob_in_one_dimension():
    """Kolmogorov's distance between 20,000 samples and the integral of the density, at the cut's
    sharpest time and later.
    """
    mixture, x = law(1), torch.linspace(-6, 6, 24_001, dtype=torch.float64)
    for t in (T_END, torch.tensor(0.1, dtype=torch.float64)):
        cdf = torch.cumulative_trapezoid(mixture.log_prob(x[:, None].expand(4, -1, 1), t).exp(), x)
        samples = mixture.sample(20_000, t, generator())[..., 0].sort(1).values
        empirical = torch.searchsorted(samples, x[1:].expand(4, -1).contiguous()) / 20_000
        assert torch.allclose(cdf[:, -1], torch.ones(4, dtype=torch.float64), atol=1e-4)
        # exceeded by 1 in 100 at each state
        assert (cdf - empirical).abs().max() < 1.63 / 20_000**0.5


@pytest.mark.parametrize("a", [3, 24])
def test_mixture_samples_have_its_score(a):
    """Stein: the mean of x . score over true samples is -A."""
    mixture, t = law(a), torch.tensor(0.01, dtype=torch.float64)
    x = mixture.sample(5000, t, generator())
    assert ((x - x.mean(1, keepdim=True)) * mixture(x, t)).mean().item() == pytest.approx(
        -1, abs=0.05
    )


@pytest.mark.parametrize("a", [1, 3, 24])
@pytest.mark.parametrize("t", [1e-3, 0.05, 0.4])
def test_mixture_score_and_jvp_are_derivatives_of_log_prob(a, t):
    mixture, t = law(a, 2), torch.tensor(t, dtype=torch.float64)
    x = (mixture.sample(20, t, generator()) + 0.02 * torch.randn(2, 20, a, generator=generator(1)))[
        None
    ].requires_grad_()
    (score,) = torch.autograd.grad(mixture.log_prob(x, t).sum(), x)
    assert torch.allclose(mixture(x, t), score, rtol=1e-8, atol=1e-8)
    x, v = x.detach(), torch.randn(3, 1, 2, 20, a, generator=generator(2), dtype=torch.float64)
    value, out = mixture.jvp(x, t, v)
    h = 1e-6
    assert torch.equal(value, mixture(x, t))
    assert torch.allclose(
        out, (mixture(x + h * v, t) - mixture(x - h * v, t)) / (2 * h), rtol=1e-4, atol=1e-3
    )
    single = mixture(x.float(), t.float())
    assert torch.allclose(single.double(), score, rtol=1e-3, atol=1.0)


def test_rescaled_mixture_is_the_law_of_the_rescaled_samples():
    mixture, shift, scale, zero = (
        law(3),
        torch.tensor([0.2, -0.1, 0.5]),
        torch.tensor([0.5, 2.0, 1.5]),
        0 * T_END,
    )
    x = mixture.rescaled(shift, scale).sample(100, zero, generator())
    assert torch.allclose(x, (mixture.sample(100, zero, generator()) - shift) / scale, atol=1e-12)


def test_walk_with_sixteen_evaluations_errs_by_hundredths_of_a_nat():
    """Mean absolute error of same-solve densities inside the support, exact score and divergence;
    the closed form is the reference.
    """
    mixture, x = law(3), Streams([0]).randn(4, 100, 3)
    sample, got = sample_with_log_prob(
        mixture, SDE, x, power_grid(SDE, 15, 1e-3, p=4), exact_divergence
    )
    found = density_errors(got, mixture.log_prob(sample.double(), T_END), -5.0)
    assert found["mean_abs"] < 0.1 and found["kept_agreement"] > 0.98


def test_density_errors_are_counted_inside_the_support_only():
    reference = torch.tensor([-9.0, -4.0, 0.0, 1.0])
    found = density_errors(reference + torch.tensor([5.0, -2.0, 0.1, -0.1]), reference, -5.0)
    assert found["bias"] == pytest.approx(-2 / 3) and found["mean_abs"] == pytest.approx(2.2 / 3)
    assert (found["kept_agreement"], found["kept"], found["kept_reference"]) == (0.5, 0.75, 0.75)
    assert math.isnan(density_errors(reference, reference - 9, -5.0)["bias"])
