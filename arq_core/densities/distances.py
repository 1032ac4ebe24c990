"""How near samples are to a law: distances in units of what two true samples differ by, and a law
that is known in closed form.

A sample of n actions at one state is [n, A]; S states side by side are [S, n, A]. Nothing here
knows how samples were made.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

ROWS = 500  # rows of a distance matrix at a time: 10 MB against 5,000 columns
# off support: as improbable under every component as 4.5 standard deviations of a 1-D normal
SUPPORT_SIGMAS = 4.5


def distances(x: Float[Tensor, "n A"], y: Float[Tensor, "m A"]) -> Float[Tensor, "n m"]:
    """|x_i - y_j|, by one matrix product (five times as fast as torch.cdist on a CPU); bring both
    near the origin first.
    """
    squared = torch.addmm(y.square().sum(1), x, y.T, alpha=-2).add_(x.square().sum(1, keepdim=True))
    return squared.clamp_(min=0).sqrt_()


def mean_distance(x: Float[Tensor, "n A"], y: Float[Tensor, "m A"]) -> float:
    """E|X - Y| over all pairs, a few rows at a time."""
    return sum(distances(rows, y).sum(dtype=torch.float64).item() for rows in x.split(ROWS)) / (
        len(x) * len(y)
    )


def own_distance(x: Float[Tensor, "n A"]) -> float:
    """mean_distance(x, x), about the mean of x, from the blocks on and above the diagonal."""
    x, total = x - x.mean(0), 0.0
    for i, rows in enumerate(x.split(ROWS)):
        d = distances(rows, x[i * ROWS :])
        total += (
            2 * d.sum(dtype=torch.float64).item()
            - d[:, : len(rows)].sum(dtype=torch.float64).item()
        )
    return total / len(x) ** 2


def distance(x: Float[Tensor, "n A"], y: Float[Tensor, "n A"], own_y: float | None = None) -> float:
    """Wasserstein-1 distance at A = 1, else energy distance sqrt(2 E|X-Y| - E|X-X'| - E|Y-Y'|)
    (Szekely and Rizzo 2013).

    Both are of the empirical laws, hence positive for two samples of one law, and both grow in
    proportion to a small shift. `own_y` is own_distance(y), for a y that is used again.
    """
    if x.shape[1] == 1:
        return (x.flatten().sort().values - y.flatten().sort().values).abs().mean().item()
    own_y = own_distance(y) if own_y is None else own_y
    return math.sqrt(
        max(2 * mean_distance(x - y.mean(0), y - y.mean(0)) - own_distance(x) - own_y, 0.0)
    )


def split_distances(
    pool: Float[Tensor, "N A"], splits: int, generator: torch.Generator
) -> Float[Tensor, " splits"]:
    """`distance` between the halves of the pool, for random halves: what two samples of N/2 from
    one law differ by.

    With labels c = +-1 of the halves, the energy distance is sqrt(-c' D c) / (N/2) for the matrix D
    of all distances, and Wasserstein-1 the integral of |sum of labels below x| / (N/2): one pass
    over the pool serves all splits.
    """
    half = len(pool) // 2
    c = (
        torch.stack([torch.randperm(2 * half, generator=generator) for _ in range(splits)], 1).lt(
            half
        )
        * 2.0
        - 1
    )
    pool = pool[: 2 * half] - pool[: 2 * half].mean(0)
    if pool.shape[1] == 1:
        return (
            c[:-1].cumsum(0).abs().double().T @ pool.flatten().sort().values.diff().double() / half
        )
    form = sum(
        ((distances(rows, pool) @ c).double() * labels).sum(0)
        for rows, labels in zip(pool.split(ROWS), c.split(ROWS), strict=True)
    )
    return (-form).clamp(min=0).sqrt() / half


def against_truth(d: Float[Tensor, " S"], null: Float[Tensor, "S splits"]) -> dict[str, float]:
    """Distances at S states, judged by the distances of two true samples there.

    ratio: mean over states of d / (mean of the null); z_state: (ratio - 1) in standard deviations
    of one state's true-against-true ratio (root mean square over states); z = z_state * sqrt(S),
    less the error of the null's own mean: the z-score of all states together, standard normal for
    true samples.
    """
    unit = null.mean(1)
    variance = (null / unit[:, None]).var(1).mean()
    ratio, z_state = (d / unit).mean(), (d / unit - 1).mean() / variance.sqrt()
    return dict(
        ratio=ratio.item(),
        z=(z_state * math.sqrt(len(d) / (1 + 1 / null.shape[1]))).item(),
        z_state=z_state.item(),
    )


def density_errors(got: Tensor, reference: Tensor, log_epsilon: float) -> dict[str, float]:
    """Errors of log-densities in nats where the reference is in the support (nan if nowhere), and
    how often both agree on who is in it.
    """
    inside = reference >= log_epsilon
    error = (got.double() - reference)[inside] if inside.any() else torch.tensor([torch.nan])
    return dict(
        bias=error.mean().item(),
        std=error.std(correction=0).item(),
        mean_abs=error.abs().mean().item(),
        p95=error.abs().quantile(0.95).item(),
        kept_agreement=((got >= log_epsilon) == inside).double().mean().item(),
        kept=(got >= log_epsilon).double().mean().item(),
        kept_reference=inside.double().mean().item(),
    )
