"""Reward transforms: those of Table A.2, and the others that antmaze is trained with elsewhere.

Scores are always of the raw reward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from arq_core.algorithm.types import DataError, Transitions

NORMALIZED_RANGE = 1000.0  # best minus worst return after `normalized`; released code


def original(data: Transitions) -> Transitions:
    """The rewards as recorded."""
    return data


def minus_one(data: Transitions) -> Transitions:
    """r - 1: with the sparse rewards of antmaze and robomimic, -1 everywhere except at the goal."""
    return replace(data, rewards=data.rewards - 1)


def centred(data: Transitions) -> Transitions:
    """(r - 0.5)·4: antmaze's 0 and 1 become -2 and 2."""
    return replace(data, rewards=(data.rewards - 0.5) * 4)


def hundredfold(data: Transitions) -> Transitions:
    """100·r: antmaze's goal pays 100 (Tarasov et al. 2023)."""
    return replace(data, rewards=data.rewards * 100)


def off_centre(data: Transitions) -> Transitions:
    """(r - 0.25)·2: antmaze's 0 and 1 become -0.5 and 1.5."""
    return replace(data, rewards=(data.rewards - 0.25) * 2)


def normalized(data: Transitions) -> Transitions:
    """r·1000/(best - worst return), over the dataset's episodes as far as they were kept (a cut one
    lacks its last reward).
    """
    _, episode = data.episode.unique(return_inverse=True)
    returns = torch.zeros(int(episode.max()) + 1, dtype=torch.double).index_add(
        0, episode, data.rewards.double()
    )
    spread = float(returns.max() - returns.min())
    if spread == 0:
        raise DataError(
            f"rewards: saw {len(returns)} episodes with returns that do not differ, "
            "expected a best and a worst to normalise by; choose the rewards as they are: "
            "arq.prepare(..., changes={'reward': 'original'})."
        )
    return replace(data, rewards=data.rewards * (NORMALIZED_RANGE / spread))


REWARDS: dict[str, Callable[[Transitions], Transitions]] = {
    "original": original,
    "minus_one": minus_one,
    "centred": centred,
    "off_centre": off_centre,
    "hundredfold": hundredfold,
    "normalized": normalized,
}

# Recipes for antmaze in circulation, by name: formula, and who trains with it. All are r' = scale·r
# + shift: where only the goal pays and only the goal ends an episode they rank policies alike, but
# their values differ in scale and sign, and so does what a wrong end of an episode does
# (datasets.traps). Q of one is no Q of another. The first is the paper's and ours.
ANTMAZE_RECIPES = {
    "minus_one": ("r - 1", "IQL (Kostrikov et al. 2021), train_offline.py; the paper, Table A.2"),
    "centred": (
        "(r - 0.5)·4",
        "CQL (Kumar et al. 2020); `cql_antmaze` in Diffusion-QL's utils/data_sampler.py",
    ),
    "off_centre": (
        "(r - 0.25)·2",
        "`antmaze` in Diffusion-QL's utils/data_sampler.py (Wang et al. 2022)",
    ),
}


def recipe_table(rewards: torch.Tensor) -> list[dict]:
    """What each recipe makes of the given rewards [M]: one row a recipe, for a table of before and
    after.
    """
    n = len(rewards)
    rows = torch.arange(n)
    data = Transitions(
        torch.zeros(n, 1),
        rows,
        rows,
        torch.zeros(n, 1),
        rewards.float(),
        torch.zeros(n, dtype=torch.bool),
        rows,
    )
    return [
        dict(
            recipe=name,
            formula=formula,
            source=source,
            before=rewards.tolist(),
            after=REWARDS[name](data).rewards.tolist(),
        )
        for name, (formula, source) in ANTMAZE_RECIPES.items()
    ]
