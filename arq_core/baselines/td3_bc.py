"""TD3+BC: TD3 whose actor is also pulled to the data's actions (Fujimoto and Gu 2021, "A Minimalist
Approach to Offline Reinforcement Learning").

One step, in the order of the authors' code (TD3_BC.py):

    a'   =   clip(pi'(s') + clip(noise·z, ±noise_clip), ±1),  z normal
    Q_i  <-  argmin  E (r + gamma (1 - d) min Q'(s', a') - Q_i(s, a))²

and at every second step, with A dimensions of an action,

    pi   <-  argmin  E ‖pi(s) - a‖²/A - alpha Q_1(s, pi(s)) / mean |Q_1(s, pi(s))|,  by the new Q
    Q', pi'  <-  polyak Q', pi' + (1 - polyak) Q, pi

where the mean is the batch's and constant. Networks, PyTorch's initial weights, states standardised
by (s - mean)/(std + 0.001) but on antmaze, and one setting for all groups are the authors'; the
fast ones of our own problems are ours. It is not the row td3+bc of Table 1 (baselines.penalised),
which has another actor, and no delay.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import Actions, Transitions
from arq_core.baselines.neighbours import (
    Batch,
    Settings,
    bellman,
    of_unit_size,
    smoothed,
    standardised,
    training_key,
)
from arq_core.baselines.networks import Critics, DeterministicActor, Standardised
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import Averaging

DELAY = 2  # the actor and the averages move at every second step
STD_ADDED = 1e-3  # to the standard deviation of states before it divides
STATES = ("standardised", "as recorded")
NEEDED = (
    "alpha",
    "noise",
    "noise_clip",
    "states",
    "lr",
    "batch",
    "polyak",
    "width",
    "reward",
)


def actor_loss(
    q: Float[Tensor, "E B"], chosen: Actions, actions: Actions, alpha: float
) -> Float[Tensor, " E"]:
    """Mean ‖pi(s) - a‖²/A - alpha·Q/mean |Q| (Fujimoto and Gu 2021, TD3_BC.py), for
    `chosen` actions pi(s) and their values q."""
    return (chosen - actions).square().mean((1, 2)) - alpha * of_unit_size(q).mean(-1)


def fit_td3_bc(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ExplicitPolicy:
    """The policy after `budget.td3_bc_steps` steps of the critics with the settings `hyper.td3_bc`;
    deterministic. DataError for a setting that is missing or of the wrong kind."""
    own = Settings("td3_bc", hyper.td3_bc, NEEDED)
    draws, sizes = rng.fork("td3+bc"), (data.states.shape[1], data.actions.shape[1])
    widths, recorded = [own.count("width")] * 2, own.one_of("states", STATES) == STATES[1]
    critic = Critics(*sizes, rng.fork("td3+bc", "critic", copies=2), widths).to(rng.device)
    actor = DeterministicActor(*sizes, rng.fork("td3+bc", "actor"), widths).to(rng.device)
    late_critic, late_actor = (copy.deepcopy(net).requires_grad_(False) for net in (critic, actor))
    seen, mean, scale = standardised(data, STD_ADDED)
    batch = Batch(data if recorded else seen, own.count("batch"), draws, edge=0.0)

    def of_critic() -> Float[Tensor, " EC"]:
        with torch.no_grad():
            noise = own["noise"] * draws.randn_like(batch.actions)
            after = smoothed(late_actor(batch.next_states), noise, own["noise_clip"])
            y = bellman(batch, hyper.gamma, late_critic.of(batch.next_states, after).amin(1))
        error = critic.of(batch.states, batch.actions) - y[:, None]
        return error.square().mean(-1).flatten()

    def of_actor() -> Float[Tensor, " E"]:
        chosen = actor(batch.states)
        q = critic.of(batch.states, chosen)[:, 0]
        return actor_loss(q, chosen, batch.actions, own["alpha"])

    lr, polyak = own["lr"], own["polyak"]
    steps, precision = budget.td3_bc_steps, budget.precision
    follow = [Averaging(late_critic, critic, polyak), Averaging(late_actor, actor, polyak)]
    curves = train(
        "td3+bc",
        training_key("td3+bc", hyper.td3_bc, data, rng, steps, hyper.gamma, precision),
        dict(critic=critic, actor=actor, late_critic=late_critic, late_actor=late_actor),
        [Update("critic", of_critic, lr), Update("actor", of_actor, lr, every=DELAY, after=follow)],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )
    actor = actor.requires_grad_(False)
    head = actor if recorded else Standardised(actor, mean, scale, len(rng))
    return ExplicitPolicy(head, curves["actor"])
