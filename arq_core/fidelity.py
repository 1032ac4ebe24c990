"""How near samples are to a law: distances in units of what two true samples differ by, and a law that is known in closed form.

A sample of n actions at one state is [n, A]; S states side by side are [S, n, A]. Nothing here knows how samples were made.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from scipy.stats import chi2, norm
from torch import Tensor

ROWS = 500             # rows of a distance matrix at a time: 10 MB against 5,000 columns
SUPPORT_SIGMAS = 4.5   # off support: as improbable under every component as 4.5 standard deviations of a 1-D normal


def distances(x: Float[Tensor, "n A"], y: Float[Tensor, "m A"]) -> Float[Tensor, "n m"]:
    """|x_i - y_j|, by one matrix product (five times as fast as torch.cdist on a CPU); bring both near the origin first."""
    squared = torch.addmm(y.square().sum(1), x, y.T, alpha=-2).add_(x.square().sum(1, keepdim=True))
    return squared.clamp_(min=0).sqrt_()


def mean_distance(x: Float[Tensor, "n A"], y: Float[Tensor, "m A"]) -> float:
    """E|X - Y| over all pairs, a few rows at a time."""
    return sum(distances(rows, y).sum(dtype=torch.float64).item() for rows in x.split(ROWS)) / (len(x) * len(y))


def own_distance(x: Float[Tensor, "n A"]) -> float:
    """mean_distance(x, x), about the mean of x, from the blocks on and above the diagonal."""
    x, total = x - x.mean(0), 0.0
    for i, rows in enumerate(x.split(ROWS)):
        d = distances(rows, x[i * ROWS:])
        total += 2 * d.sum(dtype=torch.float64).item() - d[:, :len(rows)].sum(dtype=torch.float64).item()
    return total / len(x) ** 2


def distance(x: Float[Tensor, "n A"], y: Float[Tensor, "n A"], own_y: float | None = None) -> float:
    """Wasserstein-1 distance at A = 1, else energy distance sqrt(2 E|X-Y| - E|X-X'| - E|Y-Y'|) (Szekely and Rizzo 2013).

    Both are of the empirical laws, hence positive for two samples of one law, and both grow in proportion to a small shift.
    `own_y` is own_distance(y), for a y that is used again.
    """
    if x.shape[1] == 1:
        return (x.flatten().sort().values - y.flatten().sort().values).abs().mean().item()
    own_y = own_distance(y) if own_y is None else own_y
    return math.sqrt(max(2 * mean_distance(x - y.mean(0), y - y.mean(0)) - own_distance(x) - own_y, 0.0))


def split_distances(pool: Float[Tensor, "N A"], splits: int, generator: torch.Generator) -> Float[Tensor, "splits"]:
    """`distance` between the halves of the pool, for random halves: what two samples of N/2 from one law differ by.

    With labels c = +-1 of the halves, the energy distance is sqrt(-c' D c) / (N/2) for the matrix D of all distances, and
    Wasserstein-1 the integral of |sum of labels below x| / (N/2): one pass over the pool serves all splits.
    """
    half = len(pool) // 2
    c = torch.stack([torch.randperm(2 * half, generator=generator) for _ in range(splits)], 1).lt(half) * 2.0 - 1
    pool = pool[:2 * half] - pool[:2 * half].mean(0)
    if pool.shape[1] == 1:
        return c[:-1].cumsum(0).abs().double().T @ pool.flatten().sort().values.diff().double() / half
    form = sum(((distances(rows, pool) @ c).double() * labels).sum(0) for rows, labels in zip(pool.split(ROWS), c.split(ROWS)))
    return (-form).clamp(min=0).sqrt() / half


def against_truth(d: Float[Tensor, "S"], null: Float[Tensor, "S splits"]) -> dict[str, float]:
    """Distances at S states, judged by the distances of two true samples there.

    ratio: mean over states of d / (mean of the null); z_state: (ratio - 1) in standard deviations of one state's true-against-true
    ratio (root mean square over states); z = z_state * sqrt(S), less the error of the null's own mean: the z-score of all states
    together, standard normal for true samples.
    """
    unit = null.mean(1)
    variance = (null / unit[:, None]).var(1).mean()
    ratio, z_state = (d / unit).mean(), (d / unit - 1).mean() / variance.sqrt()
    return dict(ratio=ratio.item(), z=(z_state * math.sqrt(len(d) / (1 + 1 / null.shape[1]))).item(), z_state=z_state.item())


def density_errors(got: Tensor, reference: Tensor, log_epsilon: float) -> dict[str, float]:
    """Errors of log-densities in nats where the reference is in the support (nan if nowhere), and how often both agree on who is in it."""
    inside = reference >= log_epsilon
    error = (got.double() - reference)[inside] if inside.any() else torch.tensor([torch.nan])
    return dict(bias=error.mean().item(), std=error.std(correction=0).item(), mean_abs=error.abs().mean().item(),
                p95=error.abs().quantile(0.95).item(), kept_agreement=((got >= log_epsilon) == inside).double().mean().item(),
                kept=(got >= log_epsilon).double().mean().item(), kept_reference=inside.double().mean().item())


@dataclass(frozen=True)
class Mixture:
    """beta(.|s) at S states as K normals with diagonal covariances, the last one cut off hard below `cut` on the first axis.

    Stays in closed form at every t of the diffusion `sde`: a cut normal plus noise is a normal times a normal cdf. As a score it is
    the function of (x, t) that samplers and likelihood take, x [..., S, n, A], with its own `jvp`.
    """

    sde: object
    log_weight: Float[Tensor, "S K"]
    mean: Float[Tensor, "S K A"]
    std: Float[Tensor, "S K A"]
    cut: Float[Tensor, "S"]

    def at(self, states: slice) -> Mixture:
        return replace(self, **{k: v[states] for k, v in vars(self).items() if k != "sde"})

    def rescaled(self, shift: Tensor, scale: Tensor) -> Mixture:
        """The law of (x - shift) / scale."""
        return replace(self, mean=(self.mean - shift) / scale, std=self.std / scale, cut=(self.cut - shift[0]) / scale[0])

    def sample(self, n: int, t: Tensor, generator: torch.Generator) -> Float[Tensor, "S n A"]:
        """n true samples at each state, diffused to t (t = 0: of beta itself); float64. The cut is by inversion of the cdf."""
        k = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator)
        mean, std = (m.gather(1, k[..., None].expand(-1, -1, m.shape[-1])) for m in (self.mean, self.std))
        z = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        below = torch.special.ndtr((self.cut - self.mean[:, -1, 0]) / self.std[:, -1, 0])[:, None]
        above = torch.special.ndtri(below + (1 - below) * torch.special.ndtr(z[..., 0]))
        z[..., 0] = torch.where(k == self.mean.shape[1] - 1, above, z[..., 0])
        alpha, sigma = self.sde.marginal(t)
        return alpha * (mean + std * z) + sigma * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        """log p_t(x), nats, [..., S, n]; give x and t in float64."""
        return self._components(x, t)[0].logsumexp(-1)

    def off_support(self, x: Tensor, t: Tensor) -> Tensor:
        """Where x at time t is beyond 4.5 sigma of every component (the radius of equal tail in A dimensions) or of the cut."""
        alpha, sigma = self.sde.marginal(t)
        offset = x[..., None, :] - alpha * self.mean[:, None]
        beyond = (offset.square() / (alpha**2 * self.std[:, None] ** 2 + sigma**2)).sum(-1) > chi2.isf(2 * norm.sf(SUPPORT_SIGMAS), x.shape[-1])
        beyond[..., -1] |= x[..., 0] < alpha * self.cut[:, None] - SUPPORT_SIGMAS * sigma
        return beyond.all(-1)

    def _components(self, x: Tensor, t: Tensor):
        """(log of weight times density [..., S, n, K], the components' scores as pull - precision x, and h, dh/dx of the cut)."""
        alpha, sigma = (m.to(x) for m in self.sde.marginal(t))
        mean, std = alpha * self.mean.to(x), alpha * self.std.to(x)
        precision = 1 / (std**2 + sigma**2)                                                                     # [S, K, A]
        pull = mean * precision
        log_k = (x @ pull.mT - 0.5 * (x.square() @ precision.mT)
                 + (self.log_weight.to(x) + 0.5 * (precision / (2 * math.pi)).log().sum(-1) - 0.5 * (mean * pull).sum(-1))[:, None])
        m, s, p, cut = (v[:, None] for v in (mean[:, -1, 0], std[:, -1, 0], precision[:, -1, 0], alpha * self.cut.to(x)))
        slope = s * p.sqrt() / sigma              # h: by how many posterior standard deviations E[alpha x_0 | x] lies above the cut
        h = (m - cut) / (s * sigma * p.sqrt()) + slope * (x[..., 0] - m)
        log_k[..., -1] += torch.special.log_ndtr(h) - torch.special.log_ndtr((m - cut) / s)
        return log_k, pull, precision, h, slope

    def _score(self, x: Tensor, t: Tensor):
        log_k, pull, precision, h, slope = self._components(x, t)
        share = log_k.softmax(-1)
        hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(-h / math.sqrt(2))                                # (log ndtr)'
        score = share @ pull - x * (share @ precision)
        score[..., 0] += share[..., -1] * hazard * slope
        return score, share, pull, precision, hazard * slope, -hazard * (h + hazard) * slope**2

    def __call__(self, x: Float[Tensor, "... S n A"], t: Tensor) -> Float[Tensor, "... S n A"]:
        return self._score(x, t)[0]

    def jvp(self, x: Tensor, t: Tensor, tangents: Float[Tensor, "P ... S n A"]) -> tuple[Tensor, Tensor]:
        """The score, and J v = sum of share_k (J_k v + s_k (s_k . v)) - s (s . v) for components of score s_k and Jacobian J_k."""
        score, share, pull, precision, push, bend = self._score(x, t)
        along = tangents @ pull.mT - (x * tangents) @ precision.mT                                              # s_k . v
        along[..., -1] += push * tangents[..., 0]
        weight = share * along
        out = weight @ pull - x * (weight @ precision) - tangents * (share @ precision) - score * (score * tangents).sum(-1, keepdim=True)
        out[..., 0] += weight[..., -1] * push + share[..., -1] * bend * tangents[..., 0]
        return score, out
