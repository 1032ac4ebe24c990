"""Four discontinuous, multi-modal behaviours beta(a|s) of known form over s and a in [-1, 1]: the
kind of problem of Figure A.1.

The paper draws four such conditional densities and gives no formulas (appendix A.1); these are our
own, with the same features: at each state a mixture of uniform segments, whose ends or weights jump
as the state moves. Being mixtures of uniforms they have a density, a quantile function and a
distance to the support in closed form, so a score model trained on their samples can be judged, not
only seen. Functions of states and actions broadcast; densities are of the raw action, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.engine.streams import Streams

Segments = tuple[Tensor, Tensor, Tensor]  # low, high, weight: [..., M] each

STATES_BETWEEN = 2001  # states among which `plane_distance` looks for the nearest point: .001 apart
# of `state_features`: its shortest wave is an eighth of the states' range, its steepest slope 16 pi
OCTAVES = 5


@dataclass(frozen=True)
class SegmentDensity:
    """beta(a|s) as M disjoint uniform segments at each state; `segments(states [...])` gives low,
    high, weight [..., M].

    Weights sum to 1 at every state; an absent segment has weight 0 and belongs to nothing.
    """

    name: str
    title: str
    segments: Callable[[Tensor], Segments]

    def log_prob(
        self, actions: Float[Tensor, ...], states: Float[Tensor, ...]
    ) -> Float[Tensor, ...]:
        """log beta(a|s), nats, of the raw action; -inf off the support."""
        low, high, weight = self.segments(states)
        inside = (actions[..., None] >= low) & (actions[..., None] < high)
        return (inside * weight / (high - low)).sum(-1).log()

    def cdf(self, actions: Float[Tensor, ...], states: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """The probability of an action up to a; differences of it are the exact masses of the cells
        of a grid.
        """
        low, high, weight = self.segments(states)
        return (weight * ((actions[..., None] - low) / (high - low)).clamp(0, 1)).sum(-1)

    def sample(self, states: Float[Tensor, "E ..."], rng: Streams) -> Float[Tensor, "E ..."]:
        """One action for each state.

        One uniform number picks the segment and, by what is left of it, the place in there.
        """
        low, high, weight = self.segments(states)
        u, reached = rng.rand(*states.shape[1:])[..., None], weight.cumsum(-1)
        # the last present one, for u beyond a rounded sum
        last = (weight > 0).cumsum(-1).argmax(-1, keepdim=True)
        k = (u >= reached).sum(-1, keepdim=True).minimum(last)
        low, high, weight, reached = (x.gather(-1, k) for x in (low, high, weight, reached))
        place = low + (high - low) * ((u - reached) / weight + 1).clamp(0, 1)
        # segments are half-open
        return place.minimum(high.nextafter(low))[..., 0]

    def distance(
        self, actions: Float[Tensor, ...], states: Float[Tensor, ...]
    ) -> Float[Tensor, ...]:
        """From the action to the support at this very state, in units of the action; 0 on it."""
        low, high, weight = self.segments(states)
        beyond = torch.maximum(low - actions[..., None], actions[..., None] - high).clamp(min=0)
        return beyond.where(weight > 0, torch.inf).amin(-1)

    def plane_distance(
        self, actions: Float[Tensor, " N"], states: Float[Tensor, " U"]
    ) -> Float[Tensor, "U N"]:
        """Euclidean distance of each (s, a) to the support as a set of the plane, to about 1e-3; 0
        on it.

        By the nearest of STATES_BETWEEN states. At a jump it is small on both sides, where
        `distance` along the action is large on one.
        """
        near = torch.linspace(-1, 1, STATES_BETWEEN, dtype=states.dtype, device=states.device)
        # [near N]
        along = self.distance(actions, near[:, None]).square()
        apart = torch.stack([((s - near).square()[:, None] + along).amin(0) for s in states]).sqrt()
        return torch.minimum(apart, self.distance(actions, states[:, None]))


def _about(centre: Tensor, width: float | Tensor, weight: Tensor) -> Segments:
    """Segments of a width about their centres, their weights divided by their sum."""
    return centre - width / 2, centre + width / 2, weight / weight.sum(-1, keepdim=True)


def staircases(s: Tensor) -> Segments:
    """Two staircases of six steps that cross in the middle; on every other step the rising one has
    .65 of the mass.
    """
    step = (3 * (s + 1)).floor().clamp(0, 5)
    rising = 0.3 * step - 0.75
    share = 0.65 - 0.3 * (step % 2)
    return _about(torch.stack([rising, -rising], -1), 0.2, torch.stack([share, 1 - share], -1))


def bands(s: Tensor) -> Segments:
    """Four parallel sloping bands, each with two gaps of .35 in s; two or three of them are there
    at a time, with equal weights.
    """
    band = torch.arange(4, dtype=s.dtype, device=s.device)
    there = torch.remainder(s[..., None] + 1 + band / 4, 1) >= 0.35
    return _about(0.4 * band - 0.6 + 0.25 * s[..., None], 0.2, there.to(s.dtype))


def fork(s: Tensor) -> Segments:
    """A trunk up to s = -.7, two prongs that part up to s = .2, and there a jump to three, the
    outer ones turning back.
    """
    parting, back = 0.18 + 0.5 * (s + 0.7), 0.85 - 0.4 * (s - 0.2)
    trunk, prongs = ((s < end).to(s.dtype) for end in (-0.7, 0.2))
    outer = torch.where(s < 0.2, parting, back)
    middle = trunk + 0.4 * (1 - prongs)
    width = (0.25 - 0.05 * prongs + 0.1 * trunk)[..., None]
    side = (1 - middle) / 2
    return _about(
        torch.stack([-outer, torch.zeros_like(s), outer], -1),
        width,
        torch.stack([side, middle, side], -1),
    )


def arcs(s: Tensor) -> Segments:
    """Two circles' arcs above and below for s < 0, four modes; a checkerboard of four columns and
    six rows for s >= 0, three modes.
    """
    row, column = torch.arange(4, dtype=s.dtype, device=s.device), (4 * s).floor().clamp(0, 3)
    ring = torch.tensor([-0.85, -0.55, 0.55, 0.85], dtype=s.dtype, device=s.device)
    arc = ring.sign() * (ring.square() - (s[..., None] + 0.5).square()).clamp(min=0).sqrt()
    cell = 0.6 * row - 0.75 + 0.3 * (column % 2)[..., None]
    left = (s < 0)[..., None]
    return _about(
        torch.where(left, arc, cell), 0.3 - 0.1 * left.to(s.dtype), (left | (row < 3)).to(s.dtype)
    )


FIGURE_A1 = {
    d.name: d
    for d in (
        SegmentDensity("staircases", "Crossing staircases", staircases),
        SegmentDensity("bands", "Bands with gaps", bands),
        SegmentDensity("fork", "A fork with a jump", fork),
        SegmentDensity("arcs", "Arcs and a checkerboard", arcs),
    )
}


def samples(name: str, m: int, rng: Streams) -> tuple[Float[Tensor, "E m"], Float[Tensor, "E m"]]:
    """(states, actions) of m samples for each member of `rng`: s uniform on [-1, 1), then a from
    beta(.|s).
    """
    if name not in FIGURE_A1:
        raise ValueError(
            f"density: saw {name!r}, expected one of {', '.join(map(repr, FIGURE_A1))}."
        )
    rng = rng.fork("figure-a1", name)
    states = 2 * rng.rand(m) - 1
    return states, FIGURE_A1[name].sample(states, rng)


def state_features(states: Float[Tensor, ...]) -> Float[Tensor, "... F"]:
    """A scalar state as a network sees it: s, and sin and cos of pi s, 2 pi s, ... 2^(OCTAVES-1) pi
    s (F = 1 + 2 OCTAVES).

    A small network of a scalar learns slowly what changes fast with it; waves of several lengths
    make jumps easy (Tancik et al. 2020). Belongs to these problems, not to the paper's network.
    """
    phase = math.pi * 2.0 ** torch.arange(OCTAVES, device=states.device) * states[..., None]
    return torch.cat([states[..., None], phase.sin(), phase.cos()], -1)
