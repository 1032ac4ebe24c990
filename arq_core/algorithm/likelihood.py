"""log beta(a|s) along the probability-flow ODE, by the instantaneous change of variables
(Song et al. 2021, App. D.2).

log p_0(x_0) = log N(x_T; 0, I) + the integral of the divergence of the ODE's velocity over its
path. Three ways to integrate: as released (RK45 in t), with a fixed grid in the VP angle, or along
a path that a sampler walks anyway. Log-densities are in nats, of the action as the score sees it
(standardised: no Jacobian). x is [E, ..., A], log-densities are [E, ...].

A divergence is a function (score, x, t) -> (score value like x, divergence of the score over the
last axis). A score may bring its own forward-mode derivative as
`score.jvp(x, t, tangents) -> (value, out_tangents)`, tangents [P, *x.shape].
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp as forward_jvp
from torch.func import vmap

from arq_core.algorithm.samplers import Sample, Score, dpmpp_2m
from arq_core.algorithm.sde import VPSDE

LogProb = Float[Tensor, "E *rows"]
Tangents = Float[Tensor, "P E *rows A"]
Divergence = Callable[[Score, Tensor, Tensor], tuple[Tensor, Tensor]]
Velocity = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def jvp(score: Score, x: Sample, t: Tensor, tangents: Tangents) -> tuple[Sample, Tangents]:
    """(score(x, t), its derivatives along P directions), by the score's own jvp if it has one."""
    if (own := getattr(score, "jvp", None)) is not None:
        return own(x, t, tangents)

    def along(v: Tensor):
        return forward_jvp(lambda y: score(y, t), (x,), (v,))

    out_dims: Any = (None, 0)           # one value for all tangents
    together: Any = vmap(along, out_dims=out_dims)
    return together(tangents)


def exact_divergence(score: Score, x: Sample, t: Tensor,
                     chunk: int | None = None) -> tuple[Sample, LogProb]:
    """S8: The trace of the Jacobian from A forward-mode derivatives, `chunk` (all) at a time."""
    axes = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    value, total = x, torch.zeros_like(x[..., 0])
    for some in axes.split(chunk or len(axes)):
        tangents = some.reshape(-1, *[1] * (x.ndim - 1), len(axes)).expand(-1, *x.shape)
        value, out = jvp(score, x, t, tangents)
        total = total + (tangents * out).sum((0, -1))
    return value, total


def rademacher(rng, x: Sample, probes: int) -> Tangents:
    """Random signs for P probes, each member's from its own stream."""
    return (2 * rng.randint(2, probes, *x.shape[1:]).movedim(1, 0) - 1).to(x)


def hutchinson_divergence(probes: Tensor) -> Divergence:
    """S8: The unbiased estimate: mean over probes of v . (J v) (Hutchinson 1990). Probes
    [P, *x.shape] or broadcastable to it.

    They are drawn once and shared by every evaluation of a solve, so that the solver sees a smooth
    right-hand side.
    """
    def divergence(score: Score, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        tangents = probes.to(x).expand(-1, *x.shape)
        value, out = jvp(score, x, t, tangents)
        return value, (tangents * out).sum(-1).mean(0)
    return divergence


@torch.no_grad()
def log_prob_rk45(score: Score, sde: VPSDE, x: Sample, divergence: Divergence, rtol: float = 1e-5,
                  atol: float = 1e-5, t_start: float = 1e-5) -> LogProb:
    """S7, as released: scipy's RK45 in t from t_start to 1, the whole batch as one system (so the
    error control couples members). The state is float64, the score is evaluated in the type of x.
    """
    if not torch.isfinite(x).all():
        raise ValueError("log_prob_rk45: saw actions that are not finite, expected finite numbers; "
                         "RK45 would never end.")

    def rhs(time: float, state: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(state[:x.numel()]).to(x).reshape(x.shape)
        t = torch.tensor(time, dtype=x.dtype)
        s, div = divergence(score, y, t)
        g2 = sde.diffusion(t) ** 2
        velocity, rate = sde.drift(y, t) - g2 / 2 * s, -g2 / 2 * (x.shape[-1] + div)
        return torch.cat([velocity.flatten(), rate.flatten()]).double().cpu().numpy()

    start = np.concatenate([x.double().flatten().cpu().numpy(), np.zeros(x[..., 0].numel())])
    from scipy.integrate import solve_ivp  # here: half a second of every step that needs none
    solution = solve_ivp(rhs, (t_start, sde.T), start, method="RK45", rtol=rtol, atol=atol)
    if not solution.success:
        raise RuntimeError(f"log_prob_rk45: saw RK45 stop at t = {solution.t[-1]:.3g} "
                           f"({solution.message}), expected t = 1; check that the score is finite, "
                           "or use log_prob_fixed.")
    end = torch.from_numpy(solution.y[:, -1])
    prior = sde.prior_log_prob(end[:x.numel()].reshape(x.shape))
    return (prior + end[x.numel():].reshape(x.shape[:-1])).to(x)


def heun(f: Velocity, x: Sample, a: Tensor, b: Tensor) -> tuple[Sample, LogProb]:
    """A step of Heun's method from angle a to b, and the divergence's integral. Order 2."""
    v0, d0 = f(x, a)
    v1, d1 = f(x + (b - a) * v0, b)
    return x + (b - a) / 2 * (v0 + v1), (b - a) / 2 * (d0 + d1)


def rk4(f: Velocity, x: Sample, a: Tensor, b: Tensor) -> tuple[Sample, LogProb]:
    """One step of the classical Runge-Kutta method, as `heun`. Order 4; 4 evaluations."""
    h, middle = b - a, (a + b) / 2
    v0, d0 = f(x, a)
    v1, d1 = f(x + h / 2 * v0, middle)
    v2, d2 = f(x + h / 2 * v1, middle)
    v3, d3 = f(x + h * v2, b)
    return x + h / 6 * (v0 + 2 * v1 + 2 * v2 + v3), h / 6 * (d0 + 2 * d1 + 2 * d2 + d3)


@torch.no_grad()
def log_prob_fixed(score: Score, sde: VPSDE, x: Sample, divergence: Divergence, times: Tensor,
                   method=rk4) -> LogProb:
    """S7: log p at times[-1] of x, by `method` (heun or rk4) in the VP angle phi on a decreasing
    grid from 1, walked backwards.

    dx/dphi = (eps - sigma x) / alpha with eps = -sigma score, that is -tan(phi) (score + x); zero
    for standard normal data.
    """
    def velocity(y: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        s, div = divergence(score, y, sde.time_at_angle(phi).to(x.dtype))
        return -torch.tan(phi) * (s + y), -torch.tan(phi) * (div + x.shape[-1])

    angles, change = sde.angle(times.detach().to("cpu", torch.float64)).flip(0), 0
    for a, b in pairwise(angles):
        x, step = method(velocity, x, a, b)
        change = change + step
    return sde.prior_log_prob(x) + change


@torch.no_grad()
def sample_with_log_prob(score: Score, sde: VPSDE, x: Sample, times: Tensor,
                         divergence: Divergence) -> tuple[Sample, LogProb]:
    """S7: The sample of `dpmpp_2m` from x = x_T and its log p at times[-1], from one walk: n + 1
    evaluations for n steps.

    Measured on log-SNR grids, its log-density errs less than that of Heun's method at the same cost
    from 20 evaluations on: 12 to 43 times less for exact scores, 1.2 to 3.4 times for small trained
    networks; at 10 it may err more. `make_grid("dpmpp_2m", sde, evaluations - 1)` keeps to a number
    of evaluations.
    """
    sample, change = _walk(score, sde, x, times, divergence)
    return sample, sde.prior_log_prob(x) + change


@torch.no_grad()
def log_prob_multistep(score: Score, sde: VPSDE, x: Sample, divergence: Divergence,
                       times: Tensor) -> LogProb:
    """log p at times[-1] of x by the same walk in the other direction: n + 1 evaluations for n
    steps of the decreasing grid.

    From 20 evaluations on it measured more accurate than Heun's method at the same cost, trained
    networks included, and best on a power grid (p = 3).
    """
    end, change = _walk(score, sde, x, times.flip(0), divergence)
    return sde.prior_log_prob(end) - change


def _walk(score: Score, sde: VPSDE, x: Sample, times: Tensor,
          divergence: Divergence) -> tuple[Sample, LogProb]:
    """The end of `dpmpp_2m` from x along `times`, and log p there minus log p at the start."""
    nodes = []

    def recorded(y: Tensor, t: Tensor) -> Tensor:
        s, div = divergence(score, y, t)
        nodes.append((y, s, div))
        return s

    end = dpmpp_2m(recorded, sde, x, times)
    recorded(end, times.detach().to("cpu", x.dtype)[-1])
    return end, log_prob_change(sde, times, *map(torch.stack, zip(*nodes, strict=True)))


@functools.lru_cache(maxsize=64)
def path_integrals(sde: VPSDE, times: tuple[float, ...], dtype: torch.dtype, device: torch.device,
             ) -> tuple[Float[Tensor, " nodes"], Float[Tensor, "nodes-1 nodes"]]:
    """sigma^2 at the nodes, and what turns values at them into integrals over each step."""
    exact = torch.tensor(times, dtype=torch.float64)
    lam = sde.log_snr(exact)
    sign = torch.sign(lam[-1] - lam[0]).item()              # the spline wants increasing knots
    from scipy.interpolate import CubicSpline
    spline = CubicSpline(sign * lam.numpy(), np.eye(len(lam))).antiderivative()(sign * lam.numpy())
    weights = torch.from_numpy(sign * np.diff(spline, axis=0))
    return (sde.marginal(exact)[1] ** 2).to(device, dtype), weights.to(device, dtype)


def log_prob_change(sde: VPSDE, times: Float[Tensor, " nodes"], x: Float[Tensor, "nodes E *rows A"],
                    s: Float[Tensor, "nodes E *rows A"], div: Float[Tensor, "nodes E *rows"],
                    ) -> LogProb:
    """log p at the last node minus log p at the first, for nodes (x, score s, its divergence).

    The ODE in lambda is dx/dlambda = v = sigma^2 (x + s), with d log p/dlambda = -sigma^2 (A + div)
    along it. Solver nodes lie beside its path, by what a step adds beyond the integral of v; as s
    is the gradient of log p, that deviation changes log p by s . deviation. Both integrals are
    those of the cubic spline through the nodes. Order 4 on a log-SNR grid where s is the gradient
    of log p exactly; where a network's s is not, order 2 with that difference as a factor. Derived
    here, no source.
    """
    variance, weights = path_integrals(sde, tuple(times.tolist()), x.dtype, x.device)
    v = variance.reshape(-1, *[1] * (x.ndim - 1)) * (x + s)
    rate = -variance.reshape(-1, *[1] * (div.ndim - 1)) * (x.shape[-1] + div)
    deviation = x.diff(dim=0) - torch.tensordot(weights, v, 1)
    beside = ((s[1:] + s[:-1]) / 2 * deviation).sum((0, -1))
    return torch.tensordot(weights.sum(0), rate, 1) + beside
