"""How well a model's log-densities on a grid match a behaviour of known form: what is drawn by
Figure A.1, measured.

The grid has U states and N cells of the action axis. Models are judged by their density at the
middle of a cell, the truth by its exact mass in the cell, so that segments may end within one.
Epsilon applies to the density of the STANDARDISED action, as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.densities.segments import SegmentDensity

# "off the support" for certain: farther from it than this, in units of s and a
FAR = 0.1


@dataclass(frozen=True)
class Grid:
    """Middles of U equal cells of [-1, 1] for the state, and N cells of [-reach, reach] for the
    action (a model may leak out of the box).
    """

    states: Float[Tensor, " U"]
    edges: Float[Tensor, " N+1"]

    @classmethod
    def of(cls, states: int = 96, actions: int = 300, reach: float = 1.25) -> Grid:
        return cls(
            (torch.arange(states) + 0.5) * 2 / states - 1,
            torch.linspace(-reach, reach, actions + 1),
        )

    @property
    def actions(self) -> Float[Tensor, " N"]:
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def cell(self) -> float:
        return ((self.edges[-1] - self.edges[0]) / (len(self.edges) - 1)).item()

    def mass(self, density: SegmentDensity) -> Float[Tensor, "U N"]:
        """The true probability of each cell, given the state."""
        return density.cdf(self.edges.double(), self.states.double()[:, None]).diff(dim=1).float()


def total_variation(
    mass: Float[Tensor, "U N"], log_prob: Float[Tensor, "... U N"], cell: float
) -> Float[Tensor, "... U"]:
    """Half the sum of |p - q| over the cells of each state, for log-densities of the raw action; 0
    is equal, 1 is disjoint.

    What the model's density lacks to 1 on the grid is taken to lie beyond it: an early model is far
    wider than the truth.
    """
    model = log_prob.exp() * cell
    return ((mass - model).abs().sum(-1) + (1 - model.sum(-1)).clamp(min=0)) / 2


def kl_divergence(
    mass: Float[Tensor, "U N"], log_prob: Float[Tensor, "... U N"], cell: float
) -> Float[Tensor, "... U"]:
    """KL(truth || model) at each state, nats: the mean over the truth of its log-density less the
    model's.
    """
    return torch.where(mass > 0, mass * ((mass / cell).log() - log_prob), 0.0).sum(-1)


def on_grid(
    density: SegmentDensity,
    grid: Grid,
    log_prob: Float[Tensor, "E U N"],
    scale: Float[Tensor, " E"],
    log_epsilon: float,
) -> dict[str, Float[Tensor, " E"]]:
    """Figures of merit of each member's log-densities of the standardised action, a / scale up to a
    shift; means over states.

    tv, kl (nats); normalisation: the integral of the model's density; recall: the true mass that
    epsilon keeps; precision: the share of kept cells whose middle is in the support; dropped_far:
    the share of cells dropped, of those farther than FAR from the support in the (s, a) plane;
    dropped_far_along: the same, farther along the action at their own state.
    """
    raw, mass, kept = (
        log_prob - scale.log()[:, None, None],
        grid.mass(density),
        log_prob >= log_epsilon,
    )
    here, away = (
        density.distance(grid.actions, grid.states[:, None]),
        density.plane_distance(grid.actions, grid.states),
    )
    return dict(
        tv=total_variation(mass, raw, grid.cell).mean(-1),
        kl=kl_divergence(mass, raw, grid.cell).mean(-1),
        normalisation=(raw.exp() * grid.cell).sum(-1).mean(-1),
        recall=(mass * kept).sum(-1).mean(-1),
        precision=_share(here == 0, kept),
        dropped_far=_share(~kept, away > FAR),
        dropped_far_along=_share(~kept, here > FAR),
    )


def of_samples(
    density: SegmentDensity,
    actions: Float[Tensor, "E U n"],
    states: Float[Tensor, " U"],
    log_prob: Float[Tensor, "E U n"],
    log_epsilon: float,
) -> dict[str, Float[Tensor, " E"]]:
    """Of a model's own samples: the share that epsilon keeps, and the share in the true support, of
    all and of the kept (nan if none).
    """
    inside, kept = density.log_prob(actions, states[:, None]) > -torch.inf, log_prob >= log_epsilon
    everywhere = torch.ones_like(kept)
    return dict(
        samples_kept=_share(kept, everywhere),
        samples_inside=_share(inside, everywhere),
        kept_samples_inside=_share(inside, kept),
    )


def _share(what: Tensor, among: Tensor) -> Tensor:
    """The share of `among` that is `what`, over the last two axes."""
    return (what & among).double().sum((-1, -2)) / among.expand(
        torch.broadcast_shapes(what.shape, among.shape)
    ).double().sum((-1, -2))
