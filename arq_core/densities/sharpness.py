"""How sharp a model's edges are, and how well its log-densities tell actions in the support from
others: two words about Figure A.1, as numbers.

Log-densities [E, U, N] stand on the grid of `quality.Grid`; they are of the raw action where a
density is compared with the truth's.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from arq_core.densities.quality import Grid
from arq_core.densities.segments import SegmentDensity

# an edge counts where nothing of the support is nearer outside of it, in widths of its segment
CLEAR = 1.0
ACROSS = (-0.5, 1.0)  # from the middle of a segment to a width outside of it, the edge at 0


def edge_profile(
    density: SegmentDensity, grid: Grid, log_prob: Float[Tensor, "E U N"], points: int = 151
) -> tuple[Float[Tensor, " P"], Float[Tensor, "E P"]]:
    """(signed distance from an edge in widths of its segment, outwards; the model's density there
    over the truth's inside).

    A mean over both edges of every segment at every state, as optics measures a lens by its image
    of an edge; the truth falls from 1 to 0 at 0. Between the middles of cells the density is
    interpolated linearly, so nothing seems sharper than a cell.
    """
    at, (low, high, weight) = torch.linspace(*ACROSS, points), density.segments(grid.states)
    width, total, count = high - low, torch.zeros(len(log_prob), points), 0
    for edge, outwards in ((low, -1), (high, 1)):
        far = edge + outwards * CLEAR * width
        between = (
            density.cdf(far, grid.states[:, None]) - density.cdf(edge, grid.states[:, None])
        ).abs()
        state, segment = ((weight > 0) & (between < 1e-6)).nonzero().T
        place = (
            (edge[..., None] + outwards * at * width[..., None])[state, segment] - grid.actions[0]
        ) / grid.cell
        left = place.floor().long().clamp(0, len(grid.actions) - 2)
        q = log_prob.exp()[:, state]
        q = [q.gather(2, i.expand(len(q), -1, -1)) for i in (left, left + 1)]
        inside = (weight / width)[state, segment][:, None]
        total, count = (
            total + (torch.lerp(*q, (place - left).clamp(0, 1)) / inside).sum(1),
            count + len(state),
        )
    return at, total / count


def edge_width(
    at: Float[Tensor, " P"], profile: Float[Tensor, "E P"], high: float = 0.9
) -> Float[Tensor, " E"]:
    """Where a profile falls through 1 - high less where it falls through `high` of the truth's
    density inside: 0 is an ideal edge.

    In widths of a segment; inf for a profile that never rises to `high` or never falls to the
    other. 90 to 10% is what optics quotes.
    """

    def fall(curve: Tensor, level: float) -> float:
        above = (curve >= level).nonzero().flatten()
        if len(above) == 0 or above[-1] == len(curve) - 1:
            return torch.inf
        i = int(above[-1])
        return (at[i] + (curve[i] - level) / (curve[i] - curve[i + 1]) * (at[i + 1] - at[i])).item()

    return torch.tensor(
        [
            torch.inf
            if torch.inf in (ends := (fall(c, 1 - high), fall(c, high)))
            else ends[0] - ends[1]
            for c in profile
        ]
    )


def separation(inside: Bool[Tensor, "U N"], value: Float[Tensor, "E U N"]) -> Float[Tensor, " E"]:
    """The chance that a cell of the support has the larger value than one off it, equal ones
    counted half (the area under the ROC curve).

    By the sum of ranks (Mann and Whitney 1947). 1: some epsilon keeps exactly the support, over all
    states together; .5: a coin.
    """
    inside, n = inside.flatten(), int(inside.sum())
    below = torch.stack(
        [
            (torch.searchsorted(others, v, right=False) + torch.searchsorted(others, v, right=True))
            .double()
            .mean()
            / 2
            for v, others in (
                (x[inside].contiguous(), x[~inside].sort().values) for x in value.flatten(1)
            )
        ]
    )
    return below / (len(inside) - n)
