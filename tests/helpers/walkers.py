"""Policies of the bridge for tests of the widget that runs one."""

from dataclasses import replace
from functools import cache

from arq_core.algorithm.arq import arq
from arq_core.config import settings
from arq_core.datasets.ours import collect_bridge
from arq_core.engine.streams import Streams
from arq_core.experiments.in_page import in_page, telling


@cache
def briefly_trained(width=32, evaluations=8, steps=600):
    """(a policy that was hardly trained, its settings): some of its walkers cross, some fall."""
    hyper = replace(
        settings.hyper("bridge"),
        width=width,
        batch=128,
        score_lr=1e-2,
        n=6,
        acting_n=6,
        alpha_arq=30.0,
    )
    budget = replace(
        settings.budget("page", "bridge"),
        sampler_steps=evaluations,
        score_steps=steps,
        q_steps=steps // 2,
    )
    data = collect_bridge(0, 150).transitions
    result = arq(data, hyper, budget, Streams([0]), explicit=False)
    return result.implicit(hyper, hyper.log_epsilon), hyper


@cache
def opening():
    """Where the widget of that policy opens."""
    return telling(in_page(*briefly_trained()).policy)
