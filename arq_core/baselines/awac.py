"""AWAC, advantage-weighted actor-critic (Nair et al. 2020, "Accelerating Online Reinforcement
Learning with Offline Datasets"), here trained on the data alone.

One step, in the order of the code that this column follows (jaxrl, awac_learner.py; its settings
are the official ones):

    Q_i  <-  argmin  E (r + gamma (1 - d) min Q'(s', a') - Q_i(s, a))²,  a' ~ pi(s')
    Q'   <-  polyak Q' + (1 - polyak) Q
    pi   <-  argmax  E w log pi(a|s),  A = min Q(s, a) - min Q(s, a~),  a~ ~ pi(s),  by the new Q

with w = B softmax(A/beta) over the batch of B, or with `weights = "exp"` min(e^(A/beta), 100) as in
CORL. Draws of pi are not clipped to the box, as in jaxrl, and its entropy is not rewarded. The
official code has the same weights, but the decay of the actor's weights in the gradient (here:
AdamW, jaxrl's) and other bounds of log std.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import Transitions
from arq_core.baselines.expectiles import GAIN
from arq_core.baselines.neighbours import Batch, Settings, bellman, training_key
from arq_core.baselines.networks import Critics, GaussianActor, orthogonal_
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import Averaging

LOG_STD_RANGE = (-10.0, 2.0)
WEIGHT_CLIP = 100.0
NEEDED = (
    "beta",
    "weights",
    "actor_layers",
    "weight_decay",
    "lr",
    "batch",
    "polyak",
    "width",
    "reward",
)


def softmax_weights(u: Float[Tensor, "*rows B"], beta: float) -> Float[Tensor, "*rows B"]:
    """B·softmax(u/beta) over the batch, of mean 1 (jaxrl's awac/actor.py, whose sum over the batch
    is B times the mean)."""
    return u.shape[-1] * (u / beta).softmax(-1)


def exp_weights(u: Float[Tensor, "*rows B"], beta: float) -> Float[Tensor, "*rows B"]:
    """min(e^(u/beta), 100), as in CORL's awac.py."""
    return (u / beta).exp().clamp(max=WEIGHT_CLIP)


WEIGHTS: dict[str, Callable[[Tensor, float], Tensor]] = dict(
    softmax=softmax_weights, exp=exp_weights
)


def fit_awac(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ExplicitPolicy:
    """The policy after `budget.awac_steps` steps with the settings `hyper.awac`; acts by its mean.
    DataError for a setting that is missing or of the wrong kind."""
    own = Settings("awac", hyper.awac, NEEDED)
    weigh = WEIGHTS[own.one_of("weights", WEIGHTS)]
    draws, sizes = rng.fork("awac"), (data.states.shape[1], data.actions.shape[1])
    width = own.count("width")
    critic = Critics(*sizes, rng.fork("awac", "critic", copies=2), [width] * 2)
    layers = [width] * own.count("actor_layers")
    actor = GaussianActor(*sizes, rng.fork("awac", "actor"), layers, LOG_STD_RANGE)
    for name, net, copies in (("critic", critic, 2), ("actor", actor, 1)):
        orthogonal_(net, GAIN, rng.fork("awac", name, "orthogonal", copies=copies))
        net.to(rng.device)
    target = copy.deepcopy(critic).requires_grad_(False)
    batch = Batch(data, own.count("batch"), draws)

    def of_critic() -> Float[Tensor, " EC"]:
        with torch.no_grad():
            after = actor.sample(batch.next_states, draws)
            y = bellman(batch, hyper.gamma, target.of(batch.next_states, after).amin(1))
        error = critic.of(batch.states, batch.actions) - y[:, None]
        return error.square().mean(-1).flatten()

    def of_actor() -> Float[Tensor, " E"]:
        with torch.no_grad():
            both = torch.stack([batch.actions, actor.sample(batch.states, draws)], 2)
            q, v = critic(batch.states, both).amin(1).unbind(-1)
            weights = weigh(q - v, own["beta"])
        return -(weights * actor.log_prob(batch.states, batch.actions)).mean(-1)

    lr, decay = own["lr"], own["weight_decay"]
    steps, precision = budget.awac_steps, budget.precision
    curves = train(
        "awac",
        training_key("awac", hyper.awac, data, rng, steps, hyper.gamma, precision),
        dict(critic=critic, actor=actor, target=target),
        [
            Update("critic", of_critic, lr, after=[Averaging(target, critic, own["polyak"])]),
            Update("actor", of_actor, lr, weight_decay=decay),
        ],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )
    return ExplicitPolicy(actor.requires_grad_(False), curves["actor"])
