"""The score models of Figure A.1 at a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from arq_core.algorithm.behavior import ScoreBehavior
from arq_core.config import settings
from arq_core.config.hyper import Budget, Hyper
from arq_core.densities import figure_a1
from arq_core.densities.segments import FIGURE_A1
from arq_core.engine.machine import fast_precision
from arq_core.engine.streams import Streams, derive_seed
from arq_core.experiments.experiment import (
    _device,
    _seeds,
    check_values,
    finished_steps,
)

# shares of Figure A.1's training after which its models are kept too, to show how the picture
# sharpens
ON_THE_WAY = (0.02, 0.1, 0.35)


@dataclass(frozen=True)
class FigureA1:
    """The score models of Figure A.1 and what they were trained on; E members are the four
    densities, each with its seeds side by side.
    """

    names: tuple[str, ...]  # of each member's density (segments.FIGURE_A1)
    seeds: tuple[int, ...]
    hyper: Hyper
    budget: Budget
    models: dict[int, ScoreBehavior]  # by the number of steps taken, the final one last
    states: Tensor  # [E M], training samples
    actions: Tensor  # [E M]

    @property
    def behavior(self) -> ScoreBehavior:
        return self.models[self.budget.score_steps]

    @property
    def rng(self) -> Streams:
        """Streams for sampling from the members."""
        return Streams(
            [
                derive_seed("figure-a1 samples", name, seed)
                for name, seed in zip(self.names, self.seeds * len(FIGURE_A1), strict=True)
            ],
            self.states.device,
        )


def density_models(
    profile: str,
    group: str = "figure-a1",
    seeds: Sequence[int] | int | None = None,
    device: str = "auto",
) -> FigureA1:
    """Train (or load) the score models of Figure A.1: `group` is "figure-a1" (ours, minutes) or
    "figure-a1-paper" (the paper's network).
    """
    hyper, budget = settings.hyper(group), settings.budget(profile, group)
    check_values(hyper, budget)
    seeds, device = tuple(_seeds(seeds, budget)), torch.device(_device(device))
    budget = replace(budget, precision=fast_precision(budget.precision, device))
    on_the_way = sorted(
        {round(share * budget.score_steps) for share in ON_THE_WAY} - {0, budget.score_steps}
    )
    models = figure_a1.fit(hyper, budget, seeds, finished_steps(device), on_the_way, device)
    states, actions = figure_a1.training_data(seeds, device)
    return FigureA1(
        tuple(name for name in FIGURE_A1 for _ in seeds),
        seeds,
        hyper,
        budget,
        models,
        states,
        actions,
    )
