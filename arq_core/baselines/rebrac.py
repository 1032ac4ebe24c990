"""ReBRAC: TD3+BC with a penalty in the critic's target too, LayerNorm and deeper networks (Tarasov
et al. 2023, "Revisiting the Minimalist Approach to Offline Reinforcement Learning").

One step, in the order of the authors' code (rebrac.py; the copy in CORL was read):

    a'   =   clip(pi'(s') + clip(noise·z, ±noise_clip), ±1),  z normal
    y    =   r + gamma (1 - d) (min Q'(s', a') - critic_bc ‖a' - a'_data‖²)
    Q_i  <-  argmin  E (y - Q_i(s, a))²

and at every second step

    Q', pi'  <-  polyak Q', pi' + (1 - polyak) Q, pi
    pi   <-  argmin  E actor_bc ‖pi(s) - a‖² - min Q(s, pi(s)) / mean |min Q(s, pi(s))|

where the mean is the batch's and constant; pi' follows the actor of before its step, as theirs
does. Where an episode was cut, its last transition has no a'_data and is not learned from; theirs
has one. Their actor moves at steps 1, 3, ..., ours at 2, 4, ...; they chose a pair of penalties for
each dataset, by its score, and ours is one a group (data/neighbours.toml).
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import Actions, DataError, Transitions
from arq_core.baselines.neighbours import (
    Batch,
    Settings,
    bellman,
    of_unit_size,
    smoothed,
    training_key,
)
from arq_core.baselines.networks import Critics, DeterministicActor, Perceptron
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import Averaging

DELAY = 2  # the actor and the averages move at every second step
HIDDEN_BIAS = 0.1
LAST_OF_ACTOR, LAST_OF_CRITIC = 1e-3, 3e-3  # its weights and biases are uniform within
NEEDED = (
    "actor_bc",
    "critic_bc",
    "noise",
    "noise_clip",
    "gamma",
    "actor_lr",
    "critic_lr",
    "batch",
    "polyak",
    "width",
    "layers",
    "reward",
)


def distance(actions: Actions, others: Actions) -> Float[Tensor, "E B"]:
    """‖a - b‖², action units squared: the penalty of actor and critic."""
    return (actions - others).square().sum(-1)


def actor_loss(
    q: Float[Tensor, "E B"], chosen: Actions, actions: Actions, actor_bc: float
) -> Float[Tensor, " E"]:
    """Mean actor_bc·‖pi(s) - a‖² - Q/mean |Q| (their code, `update_actor`), for `chosen` actions
    pi(s) and their values q."""
    return (actor_bc * distance(chosen, actions) - of_unit_size(q)).mean(-1)


def rows_with_next_action(data: Transitions) -> Int[Tensor, " R"]:
    """Transitions whose a' is recorded, or not asked for since they end in a terminal. DataError
    where there is none."""
    rows = ((data.next_transition >= 0) | data.terminals).nonzero().squeeze(1)
    if len(rows) == 0:
        raise DataError(
            f"rebrac: saw {len(data.actions)} transitions of which none is followed by another of "
            "its episode or ends in a terminal, expected some: its critic's target needs the next "
            "action of the data; give whole episodes, in order, with their number in `episode`."
        )
    return rows


@torch.no_grad()
def initialise_(net: Perceptron, last: float, rng: Streams) -> None:
    """Biases of hidden layers to HIDDEN_BIAS, and the last layer uniform within ±last (their code,
    after An et al. 2021, EDAC)."""
    *hidden, output = net.layers
    for layer in hidden:
        layer.bias.fill_(HIDDEN_BIAS)
    for p in (output.weight, output.bias):
        p.copy_(last * (2 * rng.rand(*p.shape[1:]) - 1))


def fit_rebrac(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ExplicitPolicy:
    """The policy after `budget.rebrac_steps` steps of the critics with the settings `hyper.rebrac`,
    whose discount it takes; deterministic. DataError for a setting that is missing or of the wrong
    kind, and for data without next actions."""
    own = Settings("rebrac", hyper.rebrac, NEEDED)
    rows = rows_with_next_action(data)
    draws, sizes = rng.fork("rebrac"), (data.states.shape[1], data.actions.shape[1])
    widths = [own.count("width")] * own.count("layers")
    critics, actors = rng.fork("rebrac", "critic", copies=2), rng.fork("rebrac", "actor")
    critic = Critics(*sizes, critics, widths, layer_norm=True)
    actor = DeterministicActor(*sizes, actors, widths)
    initialise_(critic.net, LAST_OF_CRITIC, critics)
    initialise_(actor.net, LAST_OF_ACTOR, actors)
    critic.to(rng.device), actor.to(rng.device)
    late_critic, late_actor = (copy.deepcopy(net).requires_grad_(False) for net in (critic, actor))
    batch = Batch(data, own.count("batch"), draws, rows, edge=0.0)
    next_row = data.next_transition.clamp(min=0)  # behind a terminal any: `going_on` is 0 there

    def of_critic() -> Float[Tensor, " EC"]:
        with torch.no_grad():
            noise = own["noise"] * draws.randn_like(batch.actions)
            after = smoothed(late_actor(batch.next_states), noise, own["noise_clip"])
            penalty = distance(after, data.actions[next_row[batch.m]])
            values = late_critic.of(batch.next_states, after).amin(1)
            y = bellman(batch, own["gamma"], values - own["critic_bc"] * penalty)
        error = critic.of(batch.states, batch.actions) - y[:, None]
        return error.square().mean(-1).flatten()

    def of_actor() -> Float[Tensor, " E"]:
        chosen = actor(batch.states)
        q = critic.of(batch.states, chosen).amin(1)
        return actor_loss(q, chosen, batch.actions, own["actor_bc"])

    steps, precision, polyak = budget.rebrac_steps, budget.precision, own["polyak"]
    follow = [
        Averaging(late_critic, critic, polyak, DELAY),
        Averaging(late_actor, actor, polyak, DELAY),
    ]
    curves = train(
        "rebrac",
        training_key("rebrac", hyper.rebrac, data, rng, steps, own["gamma"], precision),
        dict(critic=critic, actor=actor, late_critic=late_critic, late_actor=late_actor),
        [
            Update("critic", of_critic, own["critic_lr"], after=follow),
            Update("actor", of_actor, own["actor_lr"], every=DELAY),
        ],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )
    return ExplicitPolicy(actor.requires_grad_(False), curves["actor"])
