"""Behaviour cloning by squared error: the action that is the mean of what was done.

    pi  <-  argmin  E (tanh(m(s)) - a)²,        a mean over the batch and the action's dimensions

Two networks go by this name in Table A.4. That of locomotion and antmaze was reported with IQL
(Kostrikov, Nair and Levine 2022); most likely it is jaxrl's learner (Kostrikov 2021, agents/bc and
examples/train_offline.py; that it made the numbers is not checked): orthogonal weights, dropout,
and a learning rate that falls to 0 along half a cosine. That of robomimic's machine-generated sets
(Mandlekar et al. 2021, scripts/generate_paper_configs.py) has wider layers, a constant rate and
PyTorch's weights. `bc` of this project is neither: it has the head of pi_phi.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import Actions, Transitions
from arq_core.baselines.neighbours import Batch, Settings, training_key
from arq_core.baselines.networks import DeterministicActor, orthogonal_
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import Schedule, cosine_from_the_start

GAIN = math.sqrt(2)  # of orthogonal weights, in every layer
SCHEDULES: dict[str, Schedule | None] = {"cosine": cosine_from_the_start, "constant": None}
WEIGHTS = ("orthogonal", "uniform")  # uniform: PyTorch's
NEEDED = ("weights", "schedule", "dropout", "lr", "batch", "width", "reward")


def squared_error(means: Actions, actions: Actions) -> Float[Tensor, " E"]:
    """Mean (mean - a)² over the batch and the action's dimensions, action units squared."""
    return (means - actions).square().mean((1, 2))


def fit_bc_mse(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ExplicitPolicy:
    """The policy after `budget.bc_mse_steps` steps with the settings `hyper.bc_mse`. DataError for
    a setting that is missing or of the wrong kind."""
    own = Settings("bc_mse", hyper.bc_mse, NEEDED)
    draws, sizes = rng.fork("bc_mse"), (data.states.shape[1], data.actions.shape[1])
    widths = [own.count("width")] * 2
    actor = DeterministicActor(*sizes, rng.fork("bc_mse", "actor"), widths, own["dropout"])
    if own.one_of("weights", WEIGHTS) == "orthogonal":
        orthogonal_(actor, GAIN, rng.fork("bc_mse", "orthogonal"))
    actor.to(rng.device)
    batch = Batch(data, own.count("batch"), draws)

    def loss() -> Float[Tensor, " E"]:
        return squared_error(actor(batch.states, draws), batch.actions)

    schedule = SCHEDULES[own.one_of("schedule", SCHEDULES)]
    steps, precision = budget.bc_mse_steps, budget.precision
    no_gamma = 0.0  # nothing is discounted: a change of it trains nothing again
    curve = train(
        "bc_mse",
        training_key("bc_mse", hyper.bc_mse, data, rng, steps, no_gamma, precision),
        dict(actor=actor),
        [Update("actor", loss, own["lr"], schedule)],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )["actor"]
    return ExplicitPolicy(actor.requires_grad_(False), curve)
