"""Every method on one problem of two modes: a frequent habit on either side of what nobody tried.

`bandits.hole` as a dataset: half of the actions in a mode that pays 0.8, half in one that pays 1,
none between, where nothing is paid. Two steps are an episode, since some methods want sequences;
neither the state nor the first of them means anything to the second. What a method does there shows
what an action costs it that was not recorded.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.types import Transitions
from arq_core.config import settings
from arq_core.config.hyper import Budget
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.experiments.methods import METHODS
from arq_core.theory import bandits

RECORDED = 1_000  # actions
ASKED = 200  # states in which each method acts
STEPS = 500  # of all that a method trains: a few seconds of a core
FEWER = {"ibc_small": 150, "dt": 150}  # where a step takes hundreds of passes of a network
TOO_LARGE = ("ibc",)  # whose settings are for a GPU
SEED = 500
NEAR = 0.05  # of a mode: so far beside it an action counts as in it
LESSER, BETTER = (-0.8, -0.4), (0.4, 0.8)  # the modes of bandits.hole


def recorded() -> Transitions:
    """RECORDED transitions, rewards from 0 to about 1; the state is a number that means nothing."""
    rng, problem = Streams([SEED]), bandits.hole(0.0)
    actions, rewards = problem.sample(RECORDED, rng)
    rows = torch.arange(RECORDED)
    return Transitions(
        rng.fork("states").randn(RECORDED + 1, 1)[0],
        rows,
        rows + 1,
        actions[0, :, None],
        rewards[0] / problem.best,
        rows % 2 == 1,
        rows // 2,
    )


def actions_of(method: str, data: Transitions, store: Store) -> Float[Tensor, " n"]:
    """The actions of a method, one seed, in ASKED states like the recorded ones, after STEPS."""
    hyper = settings.with_changes(settings.hyper("bridge"), dict(ensemble=1, width=64), "two modes")
    steps = {f.name: STEPS for f in fields(Budget) if f.name.endswith("_steps")}
    steps |= {f"{name}_steps": fewer for name, fewer in FEWER.items()}
    budget = settings.budget("ci", "bridge")
    budget = settings.with_changes(
        budget, steps | dict(sampler_steps=budget.sampler_steps), "two modes"
    )
    rng = Streams([SEED])
    policy = METHODS[method](data, hyper, budget, rng, store).policy
    policy.reset(ASKED)
    states = rng.fork("two modes", "states").randn(ASKED, 1)
    return policy.act(states, rng.fork("two modes", "acting"))[0, :, 0]


def within(actions: Float[Tensor, " n"], mode: tuple[float, float]) -> float:
    """The share of actions in a mode, or within NEAR of it."""
    low, high = mode
    return ((actions >= low - NEAR) & (actions <= high + NEAR)).float().mean().item()


def off(actions: Float[Tensor, " n"]) -> float:
    """The share of actions in neither mode."""
    return 1 - within(actions, LESSER) - within(actions, BETTER)
