"""Small problems that several tests share."""

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


# settings of neighbours, where they have them
SMALL = dict(batch=32, actions=3, depth=2, langevin=4, samples=8)


def tiny(group="maze", **budget):
    """Hyperparameters and the toy budget, small enough for a test."""
    h = settings.hyper(group)
    small = {
        name: _small(own)
        for name, own in ((name, dict(getattr(h, name))) for name in NEIGHBOURS.values())
    }
    small |= dict(width=16, batch=32, n=5, acting_n=6, k=2, ensemble=2)
    small["dt"] |= dict(batch=8, context=5)
    h = settings.with_changes(h, small, "test")
    return h, settings.with_changes(
        settings.budget("toy", group), dict(times_per_batch=8) | budget, "test"
    )


def _small(own):
    """A neighbour's settings with narrow layers, small batches and few draws."""
    narrow = {k: "16 16" if isinstance(v, str) else 16 for k, v in own.items() if "width" in k}
    return dict(own) | narrow | {k: v for k, v in SMALL.items() if k in own}


def streams(*seeds) -> Streams:
    return Streams(seeds or (0, 1))
