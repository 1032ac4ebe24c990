"""Solvers of the reverse process: from x_T ~ N(0, I) to a sample of beta(a|s), one pure function each.

Every solver is called as sampler(score, sde, x, times, rng) -> x. `score(x, t)` is the gradient of log p_t, like x, at one time t
(a 0-d tensor); x is [E, ..., A]; `times` is a decreasing grid from 1 to t_end (sde.py), and steps are the grid's own differences,
never 1/N; rng is anything with `randn_like`. Samples have the law of x at t_end, whose noise sigma(t_end) is left in them.
Step sizes are computed in float64 whatever the type of x. No solver lets a member see another member.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from arq_core.algorithm.sde import VPSDE, Grid, log_snr_grid, uniform_grid

Score = Callable[[Tensor, Tensor], Tensor]


def steps(times: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(t in the type of x, for the score; t and the next time in float64, for coefficients). All stay on the CPU, as scalars: reading
    one never waits for an accelerator."""
    exact = times.detach().to("cpu", torch.float64)
    return zip(exact.to(x.dtype), exact[:-1], exact[1:])


def data_prediction(score: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """D = E[x_0 | x_t] = (x + sigma^2 score) / alpha (Tweedie's formula)."""
    return (x + sigma**2 * score) / alpha


def langevin_step_size(score: Tensor, z: Tensor, snr: float, norm: str) -> Tensor:
    """S5: 2 (snr |z| / |score|)^2 (Song et al. 2021, Alg. 5): norms of each sample, or their means over each member's batch."""
    z, score = z.norm(dim=-1, keepdim=True), score.norm(dim=-1, keepdim=True)
    if norm == "batch":
        axes = tuple(range(1, z.ndim))
        z, score = z.mean(axes, keepdim=True), score.mean(axes, keepdim=True)
    return 2 * (snr * z / score) ** 2


def reverse_mean(score: Tensor, sde: VPSDE, x: Tensor, t: Tensor, dt: Tensor) -> Tensor:
    """S4: Mean of one Euler-Maruyama step of length dt > 0 backwards in time: x - (f - g^2 score) dt."""
    return x - (sde.drift(x, t) - sde.diffusion(t) ** 2 * score) * dt


@torch.no_grad()
def predictor_corrector(score: Score, sde: VPSDE, x: Tensor, times: Tensor, rng,
                        snr: float = 0.16, norm: str = "sample") -> Tensor:
    """S5: The paper's sampler: one Langevin step at t, then Euler-Maruyama to the next time (Song et al. 2021, Alg. 1 and 5).

    Order 1 in the step (weak) but for the corrector's own bias, a share of at most snr^2 of the variance; 2 evaluations a step.
    Returns the last mean, without its noise: a std not large against sqrt(beta dt) of the last step comes out too small. snr 0.16 and the corrector first are the released code's, and so is norm = "sample", where
    the paper's source, Song et al., uses "batch". Per-sample step sizes fail in low dimension: E[1/|score|^2] is infinite for A <= 2,
    and at A = 3 many samples still leave the support. Batch means avoid that, but a sample then depends on its batch.
    """
    if norm not in ("sample", "batch"):
        raise ValueError(f"predictor_corrector: saw norm = {norm!r}, expected 'sample' (released code) or 'batch' (Song et al.).")
    if norm == "sample" and x.shape[-1] <= 3:
        warnings.warn(f"predictor_corrector: per-sample Langevin steps leave the support at A = {x.shape[-1]} (E[1/|score|^2] is "
                      "infinite for A <= 2 and large at 3); use norm='batch' or the sampler 'dpmpp_2m'.", stacklevel=2)
    for t_model, t, t_next in steps(times, x):
        s, z = score(x, t_model), rng.randn_like(x)
        step = langevin_step_size(s, z, snr, norm)
        x = x + step * s + (2 * step).sqrt() * z
        mean = reverse_mean(score(x, t_model), sde, x, t, t - t_next)
        x = mean + sde.diffusion(t) * (t - t_next).sqrt() * rng.randn_like(x)
    return mean


@torch.no_grad()
def euler_maruyama(score: Score, sde: VPSDE, x: Tensor, times: Tensor, rng) -> Tensor:
    """The reverse SDE by Euler-Maruyama (Song et al. 2021, Eq. 6). Weak order 1; 1 evaluation a step; returns the last mean."""
    for t_model, t, t_next in steps(times, x):
        mean = reverse_mean(score(x, t_model), sde, x, t, t - t_next)
        x = mean + sde.diffusion(t) * (t - t_next).sqrt() * rng.randn_like(x)
    return mean


@torch.no_grad()
def probability_flow(score: Score, sde: VPSDE, x: Tensor, times: Tensor, rng=None) -> Tensor:
    """S6: The probability-flow ODE (Song et al. 2021, Eq. 13) by Heun's method in the VP angle phi = atan(sigma / alpha).

    dx/dphi = -tan(phi) (score + x), which vanishes for standard normal data (Salimans and Ho 2022, App. D, for the angle). Order 2;
    2 evaluations a step; deterministic.
    """
    model_times = times.detach().to("cpu", x.dtype)
    for i, (t_model, t, t_next) in enumerate(steps(times, x)):
        a, b = sde.angle(t), sde.angle(t_next)
        slope = -torch.tan(a) * (score(x, t_model) + x)
        guess = x + (b - a) * slope
        x = x + (b - a) / 2 * (slope - torch.tan(b) * (score(guess, model_times[i + 1]) + guess))
    return x


@torch.no_grad()
def dpmpp_2m(score: Score, sde: VPSDE, x: Tensor, times: Tensor, rng=None) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, DPM-Solver++, Alg. 2): D is extrapolated in lambda from the last two steps.

    Order 2 (the first step is of order 1); 1 evaluation a step; deterministic; an increasing grid walks from data to noise.
    """
    older = h_older = None
    for t_model, t, t_next in steps(times, x):
        (alpha, sigma), (alpha_next, sigma_next) = sde.marginal(t), sde.marginal(t_next)
        d, h = data_prediction(score(x, t_model), x, alpha, sigma), sde.log_snr(t_next) - sde.log_snr(t)
        ahead = d if older is None else d + h / (2 * h_older) * (d - older)
        x = sigma_next / sigma * x - alpha_next * torch.expm1(-h) * ahead
        older, h_older = d, h
    return x


@torch.no_grad()
def sde_dpmpp_2m(score: Score, sde: VPSDE, x: Tensor, times: Tensor, rng) -> Tensor:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, DPM-Solver++, Sec. 5): `dpmpp_2m` for the reverse SDE.

    Weak order 2 (additive noise: the last step's noise in D stands in for this step's own); 1 evaluation a step; keeps its last noise.
    """
    older = h_older = None
    for t_model, t, t_next in steps(times, x):
        (alpha, sigma), (alpha_next, sigma_next) = sde.marginal(t), sde.marginal(t_next)
        d, h = data_prediction(score(x, t_model), x, alpha, sigma), sde.log_snr(t_next) - sde.log_snr(t)
        ahead = d if older is None else d + h / (2 * h_older) * (d - older)
        fresh = -torch.expm1(-2 * h)                                      # share of the variance that is renewed
        mean = sigma_next / sigma * torch.exp(-h) * x + alpha_next * fresh * ahead
        x = mean + sigma_next * fresh.sqrt() * rng.randn_like(x)
        older, h_older = d, h
    return x


def recorded(sampler: Callable[..., Tensor], score: Score, sde: VPSDE, x: Tensor, times: Tensor, rng) -> Tensor:
    """The path of a solver, [n + 1, *x.shape]: x, then where it was at each of the n + 1 `times`, then what it returns.

    Where it was at a time is where it last asked for the score at it: behind a guess (Heun's) and behind the corrector. Solvers stay unchanged.
    """
    asked = {}

    def watched(at: Tensor, t: Tensor) -> Tensor:
        asked[float(t)] = at
        return score(at, t)

    end = sampler(watched, sde, x, times, rng)
    return torch.stack([x, *(asked[float(t)] for t in times[1:-1].to("cpu", x.dtype)), end])


def nearest(times: Tensor, levels: Tensor, sde: VPSDE) -> Tensor:
    """For each of `levels`, the place among `times` of the time nearest to it in log-SNR."""
    return (sde.log_snr(times) - sde.log_snr(levels)[:, None]).abs().argmin(1)


@dataclass(frozen=True)
class Sampler:
    """A solver with the grid it works best on and its evaluations of the score per step. Calling it calls `solve`."""

    solve: Callable[..., Tensor]
    grid: Grid
    evaluations: int

    def __call__(self, score: Score, sde: VPSDE, x: Tensor, times: Tensor, rng) -> Tensor:
        return self.solve(score, sde, x, times, rng)


SAMPLERS = {
    "predictor_corrector": Sampler(predictor_corrector, uniform_grid, 2),
    "predictor_corrector_batch": Sampler(partial(predictor_corrector, norm="batch"), uniform_grid, 2),
    "euler_maruyama": Sampler(euler_maruyama, uniform_grid, 1),
    "probability_flow": Sampler(probability_flow, log_snr_grid, 2),
    "dpmpp_2m": Sampler(dpmpp_2m, log_snr_grid, 1),
    "sde_dpmpp_2m": Sampler(sde_dpmpp_2m, log_snr_grid, 1),
}


def make_grid(name: str, sde: VPSDE, evaluations: int, t_end: float = 1e-3) -> Tensor:
    """The times on which SAMPLERS[name] spends at most `evaluations` evaluations of the score; float64, decreasing.

    t_end = 1e-3 is the paper's; its 500 steps of predictor-corrector are 1000 evaluations.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler: saw {name!r}, expected one of {', '.join(SAMPLERS)}.")
    sampler = SAMPLERS[name]
    if evaluations < sampler.evaluations:
        raise ValueError(f"sampler_steps: saw {evaluations} evaluations, expected at least {sampler.evaluations}, one step of "
                         f"{name}; raise sampler_steps.")
    return sampler.grid(sde, evaluations // sampler.evaluations, t_end)
