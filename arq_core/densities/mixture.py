"""A mixture of normals whose density at every diffusion time is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from scipy.special import chdtri, ndtr
from torch import Tensor

from arq_core.densities.distances import (
    SUPPORT_SIGMAS,
)


@dataclass(frozen=True)
class Mixture:
    """beta(.|s) at S states as K normals with diagonal covariances, the last one cut off hard below
    `cut` on the first axis.

    Stays in closed form at every t of the diffusion `sde`: a cut normal plus noise is a normal
    times a normal cdf. As a score it is the function of (x, t) that samplers and likelihood take, x
    [..., S, n, A], with its own `jvp`.
    """

    sde: object
    log_weight: Float[Tensor, "S K"]
    mean: Float[Tensor, "S K A"]
    std: Float[Tensor, "S K A"]
    cut: Float[Tensor, " S"]

    def at(self, states: slice) -> Mixture:
        return replace(self, **{k: v[states] for k, v in vars(self).items() if k != "sde"})

    def rescaled(self, shift: Tensor, scale: Tensor) -> Mixture:
        """The law of (x - shift) / scale."""
        return replace(
            self,
            mean=(self.mean - shift) / scale,
            std=self.std / scale,
            cut=(self.cut - shift[0]) / scale[0],
        )

    def sample(self, n: int, t: Tensor, generator: torch.Generator) -> Float[Tensor, "S n A"]:
        """n true samples at each state, diffused to t (t = 0: of beta itself); float64.

        The cut is by inversion of the cdf.
        """
        k = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator)
        mean, std = (
            m.gather(1, k[..., None].expand(-1, -1, m.shape[-1])) for m in (self.mean, self.std)
        )
        z = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        below = torch.special.ndtr((self.cut - self.mean[:, -1, 0]) / self.std[:, -1, 0])[:, None]
        above = torch.special.ndtri(below + (1 - below) * torch.special.ndtr(z[..., 0]))
        z[..., 0] = torch.where(k == self.mean.shape[1] - 1, above, z[..., 0])
        alpha, sigma = self.sde.marginal(t)
        return alpha * (mean + std * z) + sigma * torch.randn(
            mean.shape, generator=generator, dtype=mean.dtype
        )

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        """log p_t(x), nats, [..., S, n]; give x and t in float64."""
        return self._components(x, t)[0].logsumexp(-1)

    def off_support(self, x: Tensor, t: Tensor) -> Tensor:
        """Where x at time t is beyond 4.5 sigma of every component (the radius of equal tail in A
        dimensions) or of the cut.
        """
        alpha, sigma = self.sde.marginal(t)
        offset = x[..., None, :] - alpha * self.mean[:, None]
        beyond = (offset.square() / (alpha**2 * self.std[:, None] ** 2 + sigma**2)).sum(
            -1
        ) > chdtri(x.shape[-1], 2 * ndtr(-SUPPORT_SIGMAS))
        beyond[..., -1] |= x[..., 0] < alpha * self.cut[:, None] - SUPPORT_SIGMAS * sigma
        return beyond.all(-1)

    def _components(self, x: Tensor, t: Tensor):
        """(log of weight times density [..., S, n, K], the components' scores as pull - precision
        x, and h, dh/dx of the cut).
        """
        alpha, sigma = (m.to(x) for m in self.sde.marginal(t))
        mean, std = alpha * self.mean.to(x), alpha * self.std.to(x)
        # [S, K, A]
        precision = 1 / (std**2 + sigma**2)
        pull = mean * precision
        log_k = (
            x @ pull.mT
            - 0.5 * (x.square() @ precision.mT)
            + (
                self.log_weight.to(x)
                + 0.5 * (precision / (2 * math.pi)).log().sum(-1)
                - 0.5 * (mean * pull).sum(-1)
            )[:, None]
        )
        m, s, p, cut = (
            v[:, None]
            for v in (mean[:, -1, 0], std[:, -1, 0], precision[:, -1, 0], alpha * self.cut.to(x))
        )
        # h: by how many posterior standard deviations E[alpha x_0 | x] lies above the cut
        slope = s * p.sqrt() / sigma
        h = (m - cut) / (s * sigma * p.sqrt()) + slope * (x[..., 0] - m)
        log_k[..., -1] += torch.special.log_ndtr(h) - torch.special.log_ndtr((m - cut) / s)
        return log_k, pull, precision, h, slope

    def _score(self, x: Tensor, t: Tensor):
        log_k, pull, precision, h, slope = self._components(x, t)
        share = log_k.softmax(-1)
        # (log ndtr)'
        hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(-h / math.sqrt(2))
        score = share @ pull - x * (share @ precision)
        score[..., 0] += share[..., -1] * hazard * slope
        return score, share, pull, precision, hazard * slope, -hazard * (h + hazard) * slope**2

    def __call__(self, x: Float[Tensor, "... S n A"], t: Tensor) -> Float[Tensor, "... S n A"]:
        return self._score(x, t)[0]

    def jvp(
        self, x: Tensor, t: Tensor, tangents: Float[Tensor, "P ... S n A"]
    ) -> tuple[Tensor, Tensor]:
        """The score, and J v = sum of share_k (J_k v + s_k (s_k . v)) - s (s . v) for components of
        score s_k and Jacobian J_k.
        """
        score, share, pull, precision, push, bend = self._score(x, t)
        # s_k . v
        along = tangents @ pull.mT - (x * tangents) @ precision.mT
        along[..., -1] += push * tangents[..., 0]
        weight = share * along
        out = (
            weight @ pull
            - x * (weight @ precision)
            - tangents * (share @ precision)
            - score * (score * tangents).sum(-1, keepdim=True)
        )
        out[..., 0] += weight[..., -1] * push + share[..., -1] * bend * tangents[..., 0]
        return score, out
