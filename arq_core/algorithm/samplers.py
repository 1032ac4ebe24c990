"""Solvers of the reverse process: from x_T ~ N(0, I) to a sample of beta(a|s), a function each.

Every solver is called as sampler(score, sde, x, times, rng) -> x. `score(x, t)` is the gradient of
log p_t, like x, at one time t (a 0-d tensor); x is [E, ..., A]; `times` is a decreasing grid from 1
to t_end (sde.py), and steps are the grid's own differences, never 1/N; rng is anything with
`randn_like`. Samples have the law of x at t_end, whose noise sigma(t_end) is left in them. Step
sizes are computed in float64 whatever the type of x. No solver lets a member see another member.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.sde import VPSDE, Grid, Times, log_snr_grid, uniform_grid

Sample = Float[Tensor, "E *rows A"]
Score = Callable[[Sample, Tensor], Sample]


def steps(times: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(t in the type of x, for the score; t and the next time in float64, for coefficients), all on
    the CPU, as scalars: reading one never waits for an accelerator."""
    exact = times.detach().to("cpu", torch.float64)
    return zip(exact[:-1].to(x.dtype), exact[:-1], exact[1:], strict=True)


def data_prediction(score: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """D = E[x_0 | x_t] = (x + sigma^2 score) / alpha (Tweedie's formula)."""
    return (x + sigma**2 * score) / alpha


def langevin_step_size(score: Tensor, z: Tensor, snr: float, norm: str) -> Tensor:
    """S5: 2 (snr |z| / |score|)^2 (Song et al. 2021, Alg. 5), each sample's or batch means."""
    z, score = z.norm(dim=-1, keepdim=True), score.norm(dim=-1, keepdim=True)
    if norm == "batch":
        axes = tuple(range(1, z.ndim))
        z, score = z.mean(axes, keepdim=True), score.mean(axes, keepdim=True)
    return 2 * (snr * z / score) ** 2


def reverse_mean(score: Tensor, sde: VPSDE, x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
    """S4: Mean of an Euler-Maruyama step of length dt > 0 back in time: x - (f - g^2 score) dt."""
    return x - (sde.drift(x, t) - sde.diffusion(t) ** 2 * score) * dt


@torch.no_grad()
def predictor_corrector(score: Score, sde: VPSDE, x: Sample, times: Tensor, rng,
                        snr: float = 0.16, norm: str = "sample") -> Sample:
    """S5, the paper's: a Langevin step, then Euler-Maruyama (Song et al. 2021, Alg. 1 and 5).

    Order 1 in the step (weak) but for the corrector's own bias, at most snr^2 of the variance; 2
    evaluations a step. Returns the last mean, without its noise: a std not large against
    sqrt(beta dt) of the last step comes out too small. snr, the corrector first, and norm "sample"
    are the released code's; the paper's source, Song et al., uses "batch". Per-sample step sizes
    fail in low dimension: E[1/|score|^2] is infinite for A <= 2, and at A = 3 many samples still
    leave the support. Batch means avoid that, but a sample then depends on its batch.
    """
    _check_norm(norm, x.shape[-1])
    mean = x
    for t_model, t, t_next in steps(times, x):
        s, z = score(x, t_model), rng.randn_like(x)
        step = langevin_step_size(s, z, snr, norm)
        x = x + step * s + (2 * step).sqrt() * z
        mean = reverse_mean(score(x, t_model), sde, x, t, t - t_next)
        x = mean + sde.diffusion(t) * (t - t_next).sqrt() * rng.randn_like(x)
    return mean


def _check_norm(norm: str, dim: int) -> None:
    if norm not in ("sample", "batch"):
        raise ValueError(f"predictor_corrector: saw norm = {norm!r}, expected 'sample' (released "
                         "code) or 'batch' (Song et al.).")
    if norm == "sample" and dim <= 3:
        warnings.warn(f"predictor_corrector: per-sample Langevin steps leave the support at A = "
                      f"{dim} (E[1/|score|^2] is infinite for A <= 2 and large at 3); use "
                      "norm='batch' or the sampler 'dpmpp_2m'.", stacklevel=3)


@torch.no_grad()
def euler_maruyama(score: Score, sde: VPSDE, x: Sample, times: Tensor, rng) -> Sample:
    """The reverse SDE by Euler-Maruyama (Song et al. 2021, Eq. 6). Weak order 1; 1 evaluation."""
    mean = x
    for t_model, t, t_next in steps(times, x):
        mean = reverse_mean(score(x, t_model), sde, x, t, t - t_next)
        x = mean + sde.diffusion(t) * (t - t_next).sqrt() * rng.randn_like(x)
    return mean


@torch.no_grad()
def probability_flow(score: Score, sde: VPSDE, x: Sample, times: Tensor, rng=None) -> Sample:
    """S6: The probability-flow ODE (Song et al. 2021, Eq. 13) by Heun's method in the VP angle.

    dx/dphi = -tan(phi) (score + x), which vanishes for standard normal data (Salimans and Ho 2022,
    App. D, for the angle). Order 2; 2 evaluations a step; deterministic.
    """
    model_times = times.detach().to("cpu", x.dtype)
    for i, (t_model, t, t_next) in enumerate(steps(times, x)):
        a, b = sde.angle(t), sde.angle(t_next)
        slope = -torch.tan(a) * (score(x, t_model) + x)
        guess = x + (b - a) * slope
        slope_there = torch.tan(b) * (score(guess, model_times[i + 1]) + guess)
        x = x + (b - a) / 2 * (slope - slope_there)
    return x


@torch.no_grad()
def dpmpp_2m(score: Score, sde: VPSDE, x: Sample, times: Tensor, rng=None) -> Sample:
    """DPM-Solver++(2M) (Lu et al. 2022, DPM-Solver++, Alg. 2): D is extrapolated in lambda.

    Order 2 (the first step is of order 1); 1 evaluation a step; deterministic; an increasing grid
    walks from data to noise.
    """
    last = None
    for t_model, t, t_next in steps(times, x):
        (alpha, sigma), (alpha_next, sigma_next) = sde.marginal(t), sde.marginal(t_next)
        d = data_prediction(score(x, t_model), x, alpha, sigma)
        h = sde.log_snr(t_next) - sde.log_snr(t)
        x = sigma_next / sigma * x - alpha_next * torch.expm1(-h) * extrapolated(d, h, last)
        last = d, h
    return x


@torch.no_grad()
def sde_dpmpp_2m(score: Score, sde: VPSDE, x: Sample, times: Tensor, rng) -> Sample:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, DPM-Solver++, Sec. 5): `dpmpp_2m` for the reverse SDE.

    Weak order 2 (additive noise: the last step's noise in D stands in for this step's own);
    1 evaluation a step; keeps its last noise.
    """
    last = None
    for t_model, t, t_next in steps(times, x):
        (alpha, sigma), (alpha_next, sigma_next) = sde.marginal(t), sde.marginal(t_next)
        d = data_prediction(score(x, t_model), x, alpha, sigma)
        h = sde.log_snr(t_next) - sde.log_snr(t)
        fresh = -torch.expm1(-2 * h)                         # share of the variance that is renewed
        shrunk = sigma_next / sigma * torch.exp(-h) * x
        mean = shrunk + alpha_next * fresh * extrapolated(d, h, last)
        x = mean + sigma_next * fresh.sqrt() * rng.randn_like(x)
        last = d, h
    return x


def extrapolated(d: Tensor, h: Tensor, last: tuple[Tensor, Tensor] | None) -> Tensor:
    """D half a step of length h ahead in lambda, from this D and the `last` (D, h); D if None."""
    if last is None:
        return d
    older, h_older = last
    return d + h / (2 * h_older) * (d - older)


@dataclass(frozen=True)
class Sampler:
    """A solver with the grid it works best on and its evaluations of the score per step."""

    solve: Callable[..., Tensor]
    grid: Grid
    evaluations: int

    def __call__(self, score: Score, sde: VPSDE, x: Sample, times: Tensor, rng) -> Sample:
        """What `solve` returns."""
        return self.solve(score, sde, x, times, rng)


SAMPLERS = {
    "predictor_corrector": Sampler(predictor_corrector, uniform_grid, 2),
    "predictor_corrector_batch":
        Sampler(partial(predictor_corrector, norm="batch"), uniform_grid, 2),
    "euler_maruyama": Sampler(euler_maruyama, uniform_grid, 1),
    "probability_flow": Sampler(probability_flow, log_snr_grid, 2),
    "dpmpp_2m": Sampler(dpmpp_2m, log_snr_grid, 1),
    "sde_dpmpp_2m": Sampler(sde_dpmpp_2m, log_snr_grid, 1),
}


def make_grid(name: str, sde: VPSDE, evaluations: int, t_end: float = 1e-3) -> Times:
    """The times on which SAMPLERS[name] spends at most `evaluations` evaluations of the score.

    t_end = 1e-3 is the paper's; its 500 steps of predictor-corrector are 1000 evaluations.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler: saw {name!r}, expected one of {', '.join(SAMPLERS)}.")
    sampler = SAMPLERS[name]
    if evaluations < sampler.evaluations:
        raise ValueError(f"sampler_steps: saw {evaluations} evaluations, expected at least "
                         f"{sampler.evaluations}, one step of {name}; raise sampler_steps.")
    return sampler.grid(sde, evaluations // sampler.evaluations, t_end)
