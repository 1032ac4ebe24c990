"""Policies of the bridge and of the maze for tests of the widgets that run them."""

import os
from dataclasses import replace
from functools import cache
from tempfile import TemporaryDirectory
from unittest.mock import patch

from arq_core.algorithm.arq import arq
from arq_core.config import settings
from arq_core.datasets.ours import collect_bridge, collect_maze
from arq_core.engine.streams import Streams
from arq_core.experiments import experiment
from arq_core.experiments.in_page import in_page, telling
from arq_core.experiments.maze_page import ROWS, maze_policies
from arq_core.experiments.methods import METHODS


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


def maze_experiment(width=32, evaluations=8, steps=300, n=6, episodes=150):
    """The maze with few episodes, small networks and little training; seed 0."""
    e = experiment.prepare("maze", "page", [0], device="cpu")
    hyper = replace(e.hyper, width=width, batch=128, score_lr=1e-2, n=n, acting_n=n)
    budget = replace(
        e.budget,
        sampler_steps=evaluations,
        score_steps=steps,
        q_steps=max(10, steps // 2),
        q_beta_steps=max(10, steps // 2),
    )
    data = collect_maze(0, episodes)
    return replace(e, dataset=data, recorded=data, hyper=hyper, budget=budget)


@cache
def maze_walkers(**size):
    """(policies of the maze that were hardly trained, ARQ's policy as it was before rounding)."""
    e = maze_experiment(**size)
    with TemporaryDirectory() as folder, patch.dict(os.environ, ARQ_CACHE=folder):
        policies = maze_policies(e, tuple(ROWS))
        return policies, METHODS["arq+s_psi"](e.data, e.hyper, e.budget, e.rng, e.store()).policy
