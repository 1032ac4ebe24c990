"""What the methods of Table 1 learn from samples alone: `penalty_study.Evidence` without beta.

Each row has the model its method prescribes: for Eq. 4 an explicit clone (a mixture of 20
Gaussians, which trains in seconds; ARQ's own is s_psi), a Gaussian clone for BRAC-KL, the mean
action for TD3+BC, a conditional VAE, distances to the recorded pairs for PLOFF, an ensemble of
Gaussian models of the outcome for MOPO, and the samples themselves, counted in cells, for CQL and
BRAC-MMD². Members of one call are problems, trained as one batch. PLOFF learns its metric; on these
problems D is the plain distance to the nearest recorded pair. MOPO's outcome is the reward in a
bandit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.baselines.clones import Clone, Recipe, fit, normal_log_prob
from arq_core.densities.quality import Grid
from arq_core.densities.segments import FIGURE_A1, state_features
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.theory.bandits import Bandit
from arq_core.theory.penalties import ensemble_spread
from arq_core.theory.penalty_study import Evidence

MODELS = 3  # of the ensemble that predicts the outcome; MOPO trains 7 and keeps 5
# outcome on Figure A.1's densities, which have none of their own: next state = s + PUSH a + NOISE
# N(0, 1)
PUSH, NOISE = 0.5, 0.1
BANK = 4096  # recorded pairs compared with the grid at a time


def on_bandits(
    bandits: Sequence[Bandit],
    actions: Float[Tensor, "E M"],
    rewards: Float[Tensor, "E M"],
    recipe: Recipe,
    rng: Streams,
    store: Store,
) -> list[Evidence]:
    """Evidence of each bandit from its own samples.

    In one state the Gaussian of highest likelihood has the sample's mean and spread.
    """
    a, none, pairs = bandits[0].actions, torch.zeros(*actions.shape, 1), actions[..., None]
    points, here = a.expand(len(bandits), 1, -1)[..., None], torch.zeros(len(bandits), 1, 1)
    mixture, vae = (fit(family, none, pairs, recipe, rng, store) for family in ("mdn-20", "vae"))
    log_beta, error = (
        density(mixture, points, here, rng)[:, 0],
        reconstruction(vae, points, here)[:, 0],
    )
    spread = outcome_spread(pairs, rewards[..., None], points[:, 0], recipe, rng, store)
    mean, std = actions.mean(1, keepdim=True), actions.std(1, keepdim=True)
    log_clone = normal_log_prob(a[:, None], mean[..., None], std[..., None])
    nearest = torch.stack([(a[:, None] - x).abs().amin(-1) for x in actions])
    mass = torch.stack([counted(x, a, bandits[0].cell) for x in actions])
    return [
        Evidence(a, *rows)
        for rows in zip(log_beta, log_clone, mean, error, nearest, spread, mass, strict=True)
    ]


def on_figure_a1(
    grid: Grid,
    states: Float[Tensor, "4 M"],
    actions: Float[Tensor, "4 M"],
    recipe: Recipe,
    rng: Streams,
    store: Store,
) -> list[Evidence]:
    """Evidence of the four densities of Figure A.1 on a grid of states and actions, from their
    samples; `rng` has four members.
    """
    features, pairs, e = state_features(states), actions[..., None], len(FIGURE_A1)
    points = grid.actions[None, None, :, None].expand(e, len(grid.states), -1, -1)
    here = state_features(grid.states).expand(e, -1, -1)
    mixture, gaussian, vae = (
        fit(family, features, pairs, recipe, rng, store) for family in ("mdn-20", "gaussian", "vae")
    )
    mean = gaussian.of_action.inverse(gaussian.net.parts(gaussian.of_state(here))[1]).detach()[
        :, :, 0
    ]
    following = states + PUSH * actions + NOISE * rng.fork("next state").randn(states.shape[1])
    where = torch.cat([here[:, :, None].expand(-1, -1, len(grid.actions), -1), points], -1)
    spread = outcome_spread(
        torch.cat([features, pairs], -1),
        following[..., None],
        where.flatten(1, 2),
        recipe,
        rng,
        store,
    ).unflatten(1, points.shape[1:3])
    plane = torch.stack(torch.meshgrid(grid.states, grid.actions, indexing="ij"), -1)
    nearest = torch.stack(
        [nearest_pair(plane, torch.stack(pair, -1)) for pair in zip(states, actions, strict=True)]
    )
    mass = torch.stack([counted_by_state(s, a, grid) for s, a in zip(states, actions, strict=True)])
    log_beta, log_clone, error = (
        density(mixture, points, here, rng),
        density(gaussian, points, here, rng),
        reconstruction(vae, points, here),
    )
    return [
        Evidence(grid.actions, *rows)
        for rows in zip(log_beta, log_clone, mean, error, nearest, spread, mass, strict=True)
    ]


def density(
    clone: Clone, points: Float[Tensor, "E B n A"], states: Float[Tensor, "E B S"], rng: Streams
) -> Float[Tensor, "E B n"]:
    """log density of the raw action, nats."""
    return clone.log_prob(points, states, rng) - clone.of_action.scale.log().sum(-1)


@torch.no_grad()
def reconstruction(
    vae: Clone, points: Float[Tensor, "E B n A"], states: Float[Tensor, "E B S"]
) -> Float[Tensor, "E B n"]:
    """‖a - Dec(s, Enc(s, a))‖² of a one-dimensional action, in its own unit."""
    return vae.net.reconstruction_error(
        vae.of_action(points), vae.of_state(states)
    ) * vae.of_action.scale.square().sum(-1)


@torch.no_grad()
def outcome_spread(
    pairs: Float[Tensor, "E M d"],
    outcome: Float[Tensor, "E M D"],
    points: Float[Tensor, "E R d"],
    recipe: Recipe,
    rng: Streams,
    store: Store,
) -> Float[Tensor, "E R"]:
    """The largest standard deviation that MODELS Gaussian models, which differ in their start and
    their batches, predict for the outcome.
    """
    e, copy = len(pairs), lambda x: x.repeat_interleave(MODELS, 0)
    with torch.enable_grad():
        model = fit(
            "gaussian",
            copy(pairs),
            copy(outcome),
            recipe,
            rng.fork("outcome", copies=MODELS),
            store,
        )
    std = model.net.parts(model.of_state(copy(points)))[2][:, :, 0] * model.of_action.scale[:, 0]
    return ensemble_spread(std.unflatten(0, (e, MODELS)), printed=False)


def nearest_pair(
    points: Float[Tensor, "U N 2"], pairs: Float[Tensor, "M 2"]
) -> Float[Tensor, "U N"]:
    """The Euclidean distance of each point (s, a) to the nearest recorded pair."""
    flat = points.flatten(0, 1)
    return (
        torch.stack([torch.cdist(flat, some).amin(-1) for some in pairs.split(BANK)])
        .amin(0)
        .unflatten(0, points.shape[:2])
    )


def counted(
    actions: Float[Tensor, " M"], middles: Float[Tensor, " N"], cell: float
) -> Float[Tensor, " N"]:
    """The share of samples in each cell."""
    k = ((actions - middles[0]) / cell + 0.5).floor().long().clamp(0, len(middles) - 1)
    return torch.bincount(k, minlength=len(middles)).float() / len(actions)


def counted_by_state(
    states: Float[Tensor, " M"], actions: Float[Tensor, " M"], grid: Grid
) -> Float[Tensor, "U N"]:
    """The share of samples in each cell of the action among those of a state's own cell."""
    row = ((states + 1) * len(grid.states) / 2).long().clamp(0, len(grid.states) - 1)
    return torch.stack(
        [counted(actions[row == u], grid.actions, grid.cell) for u in range(len(grid.states))]
    )
