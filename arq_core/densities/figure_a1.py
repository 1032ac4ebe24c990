"""The score models of Figure A.1: one per density and seed, all of them members of one batched
training, and what they say on a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.behavior import ScoreBehavior, with_budget
from arq_core.config.hyper import Budget, Hyper
from arq_core.densities.members import fit_members
from arq_core.densities.quality import Grid, of_samples, on_grid
from arq_core.densities.segments import FIGURE_A1, samples, state_features
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams, derive_seed

SAMPLES = 20_000  # training samples of each density
EVALUATIONS = 32  # of the score, for a log-density on the grid
SAMPLES_A_STATE = 64  # of the model itself, for the shares of its samples


def training_data(
    seeds: Sequence[int], device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, "E M"], Float[Tensor, "E M"]]:
    """(states, actions) of all members, density by density, each with its seeds side by side: E = 4
    x seeds.
    """
    drawn = [samples(name, SAMPLES, Streams(seeds, device)) for name in FIGURE_A1]
    states, actions = zip(*drawn, strict=True)
    return torch.cat(states), torch.cat(actions)


def fit(
    hyper: Hyper,
    budget: Budget,
    seeds: Sequence[int],
    store: Store,
    keep_at: Sequence[int] = (),
    device: torch.device | str = "cpu",
) -> dict[int, ScoreBehavior]:
    """s_psi of all densities and seeds, trained as one batch; models by their number of steps: at
    `keep_at`, and the final one last.
    """
    states, actions = training_data(seeds, device)
    rng = Streams(
        [derive_seed("figure-a1", name, seed) for name in FIGURE_A1 for seed in seeds], device
    )
    return fit_members(
        state_features(states), actions[..., None], hyper, budget, rng, store, keep_at
    )


def log_prob_on(grid: Grid, model: ScoreBehavior) -> Float[Tensor, "E U N"]:
    """log beta_psi of the standardised action at the grid's points, nats: exact divergence,
    float32.
    """
    model, e = (
        with_budget(
            model, density="multistep", probes=0, sampler_steps=EVALUATIONS, precision="float32"
        ),
        len(model.of_state.mean),
    )
    actions, states = (
        grid.actions[None, None, :, None].expand(e, len(grid.states), -1, -1),
        state_features(grid.states).expand(e, -1, -1),
    )
    device = model.of_state.mean.device
    return model.log_prob(actions.to(device), states.to(device), Streams([])).cpu()


def measure(
    grid: Grid,
    model: ScoreBehavior,
    log_prob: Float[Tensor, "E U N"],
    log_epsilon: float,
    rng: Streams,
) -> dict[str, dict[str, Float[Tensor, " seeds"]]]:
    """By density: the figures of merit of `quality.on_grid` and `quality.of_samples`, one number
    for each seed.
    """
    device = rng.device
    solved = replace(
        with_budget(
            model, density="same_solve", probes=0, sampler_steps=EVALUATIONS, precision="float32"
        )
    )
    drawn, own = solved.sample_with_log_prob(
        state_features(grid.states).expand(len(rng), -1, -1).to(device), SAMPLES_A_STATE, rng
    )
    scale = model.of_action.scale.flatten().cpu()
    members = torch.arange(len(rng)).chunk(len(FIGURE_A1))
    return {
        name: on_grid(density, grid, log_prob[e], scale[e], log_epsilon)
        | of_samples(density, drawn[e, ..., 0].cpu(), grid.states, own[e].cpu(), log_epsilon)
        for (name, density), e in zip(FIGURE_A1.items(), members, strict=True)
    }
