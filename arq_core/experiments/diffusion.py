"""Diffusion in one picture: actions of two kinds, whose diffused density is known, on their way to
noise and back.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Int

from arq_core.algorithm.samplers import euler_maruyama
from arq_core.algorithm.sde import VPSDE, uniform_grid
from arq_core.densities.diffused import recorded
from arq_core.densities.mixture import Mixture
from arq_core.widgets.diffusion import CELLS, SIDE, Diffusion, Ways

# Their mixture has mean 0 and variance 1, as standardised actions have.
WEIGHTS, MEANS, STDS = (0.4, 0.6), (-1.2, 0.8), (0.2, 0.2)
STEPS = 250  # of each way
PLACES = 90  # of the handle, on each way: evenly along the angle whose tangent is sigma / m
T_END = 1e-3  # of the way back, as in the paper; the way forwards begins there
UNIT = 2.0**-13  # of the noise, which a page is sent in 16 bits


class Given:
    """A source of noise that was drawn before: a row each time it is asked."""

    def __init__(self, noise: np.ndarray):
        self.rows = iter(noise)

    def randn_like(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(next(self.rows)).to(x).reshape(x.shape)


def two_kinds(sde: VPSDE) -> Mixture:
    """The two kinds of action as a density with an exact score at every time."""
    of = lambda numbers: torch.tensor([numbers], dtype=torch.float64)
    return Mixture(
        sde, of(WEIGHTS).log(), of(MEANS)[..., None], of(STDS)[..., None], of(-torch.inf)
    )


def forwards(
    sde: VPSDE, times: torch.Tensor, start: np.ndarray, noise: np.ndarray
) -> list[np.ndarray]:
    """Where points are at increasing times, by the exact transitions of S1: what is left of x after
    a step is exp(-B/2) of it, with B the integral of beta over the step.
    """
    b = sde.integral_beta(times).diff()
    keep, fresh = torch.exp(-b / 2).tolist(), torch.sqrt(-torch.expm1(-b)).tolist()
    x = [start]
    for share, spread, z in zip(keep, fresh, noise, strict=True):
        x.append(share * x[-1] + spread * z)
    return x


def places(sde: VPSDE, grid: torch.Tensor) -> Int[np.ndarray, " places"]:
    """Those of the steps to the end of an increasing grid and back where the handle stands."""
    angle = sde.angle(grid).numpy()
    even = np.linspace(angle[0], angle[-1], PLACES + 1)
    there = np.abs(angle - even[:, None]).argmin(1)
    return np.concatenate([there, 2 * (len(grid) - 1) - there[-2::-1]])


@cache
def ways(points: int = 20, seed: int = 1) -> Ways:
    """`points` actions go forwards by exact transitions, then back by Euler-Maruyama steps of S4
    with the exact score.
    """
    sde = VPSDE()
    grid = uniform_grid(sde, STEPS, T_END)
    times, mixture = torch.cat([grid.flip(0), grid[1:]]), two_kinds(sde)
    m, sigma = (v.numpy() for v in sde.marginal(times))
    rng, low = np.random.default_rng(seed), round(WEIGHTS[0] * points)
    kind = np.repeat([0, 1], [low, points - low])
    spread = np.hypot(m[0] * np.take(STDS, kind), sigma[0])
    start = m[0] * np.take(MEANS, kind) + spread * rng.standard_normal(points)
    start = start.astype(np.float32)
    noise = np.rint(rng.standard_normal((2 * STEPS, points)) / UNIT).astype(np.int16)
    there = forwards(sde, times[: STEPS + 1], start.astype(float), UNIT * noise[:STEPS])
    back = recorded(
        euler_maruyama,
        mixture,
        sde,
        torch.as_tensor(there[-1])[None, None, :, None],
        times[STEPS:],
        Given(UNIT * noise[STEPS:]),
    )
    at = places(sde, grid.flip(0))
    grid_x, middle = np.linspace(-SIDE, SIDE, CELLS + 1), sum(MEANS) / 2

    def between(k: int) -> float:
        x = torch.as_tensor(np.r_[grid_x, m[k] * middle])[None, :, None]
        p = mixture.log_prob(x, times[k])[0].exp()
        return (p[-1] / p[:-1].max()).item()

    return Ways(
        WEIGHTS,
        MEANS,
        STDS,
        (sde.beta_min, sde.beta_max),
        times.numpy(),
        at,
        low,
        start,
        noise,
        UNIT,
        np.concatenate([there, back[1:, 0, 0, :, 0].numpy()])[at],
        m[at],
        sigma[at],
        np.array([between(k) for k in at]),
    )


def diffusion(**position) -> Diffusion:
    """The widget of twenty points."""
    return Diffusion(ways(), **position)
