"""The diffusion of a behaviour made of uniform segments, in closed form: p_t, its distribution
function, its exact score, true samples.

A uniform action on [low, high] at time t is x = alpha a + sigma z, a uniform plus a normal, whose
density is a difference of normal cdfs: p_t(x) = [Phi((x - alpha low)/sigma) - Phi((x - alpha
high)/sigma)] / (alpha (high - low)); it follows from S2 (Song et al. 2021, Eq. 29). With the exact
score a solver's own error is all that is left of the error of its samples. Give everything in
float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.special import erfcx, log_ndtr, ndtr

from arq_core.algorithm.samplers import Score
from arq_core.algorithm.sde import VPSDE

# on support: at most 3 sigma(t) beyond a segment; at an edge 1 in 1,000 of its noise goes farther
SUPPORT_SIGMAS = 3.0
# Wasserstein distances integrate |F_n - F| over [-4, 4], in cells of .005
REACH, CELLS = 4.0, 1600


@dataclass(frozen=True)
class SegmentMarginal:
    """p_t of segments low, high, weight [..., M] that broadcast against x[..., None], under the
    diffusion `sde` (sde.py).

    As a score it is the function of (x, t) that samplers take, x [..., 1]. t is one time, a 0-d
    tensor.
    """

    sde: object
    low: Float[Tensor, "... M"]
    high: Float[Tensor, "... M"]
    weight: Float[Tensor, "... M"]

    @classmethod
    def at(
        cls,
        sde,
        densities: Sequence,
        states: Float[Tensor, "E B"],
        mean: Float[Tensor, " E"],
        scale: Float[Tensor, " E"],
    ) -> SegmentMarginal:
        """Of the standardised action (a - mean)/scale of density e (segments.SegmentDensity) at
        states[e], for x [E, B, n, 1].
        """
        # [3, B, M_e]
        parts = [
            torch.stack(density.segments(s.double()))
            for density, s in zip(densities, states, strict=True)
        ]
        most = max(part.shape[-1] for part in parts)
        # absent: weight 0
        filled = [torch.cat([part, absent_like(part, most)], -1) for part in parts]
        low, high, weight = torch.stack(filled, 1)[:, :, :, None, None]
        mean, scale = (v.double()[:, None, None, None, None] for v in (mean, scale))
        return cls(sde, (low - mean) / scale, (high - mean) / scale, weight)

    def _ends(self, x: Tensor, t: Tensor):
        """((x - alpha low)/sigma, (x - alpha high)/sigma, alpha, sigma) for x[..., None]."""
        alpha, sigma = self.sde.marginal(t)
        return (
            (x[..., None] - alpha * self.low) / sigma,
            (x[..., None] - alpha * self.high) / sigma,
            alpha,
            sigma,
        )

    def _components(self, x: Tensor, t: Tensor):
        """(log of each segment's weight times density, its own score), from the tail in which cdfs
        keep their digits.
        """
        a, b, alpha, sigma = self._ends(x, t)
        right = a + b > 0
        upper, lower = torch.where(right, -b, a), torch.where(right, -a, b)
        log_upper, log_ratio = log_ndtr(upper), log_ndtr(lower) - log_ndtr(upper)
        # (Phi(a) - Phi(b)) / Phi(upper)
        between = -torch.expm1(log_ratio)
        score = (hazard(upper) - hazard(lower) * log_ratio.exp()) / (between * sigma)
        return self.weight.log() + log_upper + between.log() - (
            alpha * (self.high - self.low)
        ).log(), torch.where(right, -score, score)

    def log_prob(self, x: Float[Tensor, "... 1"], t: Tensor) -> Float[Tensor, ...]:
        """log p_t(x), nats."""
        return self._components(x, t)[0].logsumexp(-1)[..., 0]

    def cdf(self, x: Float[Tensor, "... 1"], t: Tensor) -> Float[Tensor, ...]:
        """P(x_t <= x): the integral of Phi is u Phi(u) + phi(u)."""
        a, b, alpha, sigma = self._ends(x, t)
        integral = a * ndtr(a) - b * ndtr(b) + normal(a) - normal(b)
        return (self.weight * sigma * integral / (alpha * (self.high - self.low))).sum(-1)[..., 0]

    def __call__(self, x: Float[Tensor, "... 1"], t: Tensor) -> Float[Tensor, "... 1"]:
        """The gradient of log p_t: the segments' own scores (phi(a) - phi(b)) / (sigma (Phi(a) -
        Phi(b))), averaged by their share at x.
        """
        log_part, own = self._components(x, t)
        return (log_part.softmax(-1) * own).sum(-1)

    def sample(self, n: int, t: Tensor, generator: torch.Generator) -> Float[Tensor, "... n 1"]:
        """n true samples of p_t for each place of the leading axes."""
        places = self.weight.shape[:-3]
        k = torch.multinomial(
            self.weight.reshape(-1, self.weight.shape[-1]), n, replacement=True, generator=generator
        ).reshape(*places, n)
        low, high = (end[..., 0, 0, :].gather(-1, k) for end in (self.low, self.high))
        alpha, sigma = self.sde.marginal(t)
        u, z = (
            draw(k.shape, generator=generator, dtype=low.dtype)
            for draw in (torch.rand, torch.randn)
        )
        return (alpha * (low + (high - low) * u) + sigma * z)[..., None]

    def support(self, t: Tensor) -> tuple[Float[Tensor, "... M"], Float[Tensor, "... M"]]:
        """Lower and upper ends of what counts as support at t: segments widened by SUPPORT_SIGMAS
        of noise; absent ones are empty.
        """
        alpha, sigma = self.sde.marginal(t)
        there, margin = self.weight > 0, SUPPORT_SIGMAS * sigma
        return torch.where(there, alpha * self.low - margin, torch.inf), torch.where(
            there, alpha * self.high + margin, -torch.inf
        )

    def off_support(self, x: Float[Tensor, "... 1"], t: Tensor) -> Tensor:
        """Which x are in none of the ranges of `support`, [...]."""
        low, high = self.support(t)
        return ~((x[..., None] >= low) & (x[..., None] <= high)).any(-1)[..., 0]

    def wasserstein(self, x: Float[Tensor, "... n 1"], t: Tensor) -> Float[Tensor, ...]:
        """Wasserstein-1 distance of n samples to p_t, the integral of |F_n - F| (Vallender 1974),
        in units of x; within [-REACH, REACH].
        """
        middles = (torch.arange(CELLS, dtype=torch.float64) + 0.5) * 2 * REACH / CELLS - REACH
        below = (
            torch.searchsorted(
                x[..., 0].double().sort(-1).values,
                middles.expand(*x.shape[:-2], -1).contiguous(),
                right=True,
            )
            / x.shape[-2]
        )
        return (below - self.cdf(middles[:, None], t)).abs().mean(-1) * 2 * REACH


def absent_like(part: Float[Tensor, "3 B M"], most: int) -> Float[Tensor, "3 B m"]:
    """Segments [0, 1] of weight 0 that fill up to `most`."""
    return part.new_tensor([0.0, 1.0, 0.0])[:, None, None].expand(
        3, part.shape[1], most - part.shape[-1]
    )


def hazard(u: Tensor) -> Tensor:
    """phi(u) / Phi(u), the derivative of log Phi, also where both underflow."""
    return math.sqrt(2 / math.pi) / erfcx(-u / math.sqrt(2))


def normal(u: Tensor) -> Tensor:
    """phi(u), the standard normal density."""
    return torch.exp(-0.5 * u.square()) / math.sqrt(2 * math.pi)


def recorded(
    sampler: Callable[..., Tensor],
    score: Score,
    sde: VPSDE,
    x: Float[Tensor, "E *rows A"],
    times: Tensor,
    rng,
) -> Float[Tensor, "times E *rows A"]:
    """The path of a solver: x, then where it was at each inner one of the `times`, then what it
    returns.

    Where it was at a time is where it last asked for the score at it: behind a guess (Heun's) and
    behind the corrector. Solvers stay unchanged.
    """
    asked = {}

    def watched(at: Tensor, t: Tensor) -> Tensor:
        asked[float(t)] = at
        return score(at, t)

    end = sampler(watched, sde, x, times, rng)
    return torch.stack([x, *(asked[float(t)] for t in times[1:-1].to("cpu", x.dtype)), end])


def nearest(
    times: Float[Tensor, " n"], levels: Float[Tensor, " m"], sde: VPSDE
) -> Int[Tensor, " m"]:
    """For each of `levels`, the place among `times` of the one nearest to it in log-SNR."""
    return (sde.log_snr(times) - sde.log_snr(levels)[:, None]).abs().argmin(1)
