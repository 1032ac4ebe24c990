"""Reward transforms of Table A.2: what Q is trained on. Scores are always of the raw reward."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from arq_core.types import DataError, Transitions

NORMALIZED_RANGE = 1000.0   # best minus worst return after `normalized`; released code


def original(data: Transitions) -> Transitions:
    """The rewards as recorded."""
    return data


def minus_one(data: Transitions) -> Transitions:
    """r - 1: with the sparse rewards of antmaze and robomimic, -1 everywhere except at the goal."""
    return replace(data, rewards=data.rewards - 1)


def normalized(data: Transitions) -> Transitions:
    """r·1000/(best - worst return), over the dataset's episodes as far as they were kept (a cut one lacks its last reward)."""
    _, episode = data.episode.unique(return_inverse=True)
    returns = torch.zeros(int(episode.max()) + 1, dtype=torch.double).index_add(0, episode, data.rewards.double())
    spread = float(returns.max() - returns.min())
    if spread == 0:
        raise DataError(f"rewards: saw {len(returns)} episodes with returns that do not differ, expected a best and a worst to normalise "
                        "by; choose a group whose reward is 'original'.")
    return replace(data, rewards=data.rewards * (NORMALIZED_RANGE / spread))


REWARDS: dict[str, Callable[[Transitions], Transitions]] = {"original": original, "minus_one": minus_one, "normalized": normalized}
