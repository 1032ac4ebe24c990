"""Small problems that several tests share."""

from dataclasses import replace

import torch

from arq_core.algorithm.types import Transitions
from arq_core.config import settings
from arq_core.config.hyper import NEIGHBOURS
from arq_core.engine.streams import Streams


def chain(
    episodes=12, length=10, state_dim=3, action_dim=2, seed=0, terminal_every=2
) -> Transitions:
    """Random episodes of equal length; every `terminal_every`-th ends in a terminal, the others are
    cut by a time limit.
    """
    g = torch.Generator().manual_seed(seed)
    m = episodes * length
    episode = torch.arange(m) // length
    state = torch.arange(m) + episode
    last = torch.arange(m) % length == length - 1
    return Transitions(
        torch.randn(m + episodes, state_dim, generator=g),
        state,
        state + 1,
        torch.rand(m, action_dim, generator=g) * 1.8 - 0.9,
        torch.randn(m, generator=g),
        last & (episode % terminal_every == 0),
        episode,
    )


def tiny(group="maze", **budget):
    """Hyperparameters and the toy budget, small enough for a test."""
    h = settings.with_changes(
        settings.hyper(group), dict(width=16, batch=32, n=5, acting_n=6, k=2, ensemble=2), "test"
    )
    h = replace(h, **{field: _small(getattr(h, field)) for field in NEIGHBOURS.values()})
    return h, settings.with_changes(
        settings.budget("toy", group), dict(times_per_batch=8) | budget, "test"
    )


def _small(own):
    """A neighbour's settings with narrow layers and small batches."""
    sizes = {k: 16 for k in own if "width" in k} | {k: 32 for k in own if k == "batch"}
    return dict(own) | sizes


def streams(*seeds) -> Streams:
    return Streams(seeds or (0, 1))
