"""IQL, implicit Q-learning: no action outside of the data is ever valued (Kostrikov, Nair and
Levine 2022, "Offline Reinforcement Learning with Implicit Q-Learning").

One step, in the order of the authors' code (implicit_q_learning, learner.py):

    V    <-  argmin  E |expectile - 1(u < 0)| u²,        u = min Q'(s, a) - V(s)
    pi   <-  argmax  E min(e^(beta u), 100) log pi(a|s),  by the new V
    Q_i  <-  argmin  E (r + gamma (1 - d) V(s') - Q_i(s, a))²
    Q'   <-  polyak Q' + (1 - polyak) Q

Networks, their orthogonal weights, the learning rate of the actor (half a cosine over the whole
training, no warm-up) and the settings of each group are those of that code and of appendix B; the
fast ones of our own problems are ours.
"""

from __future__ import annotations

import copy
import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import Transitions
from arq_core.baselines.neighbours import Batch, Settings, bellman, training_key
from arq_core.baselines.networks import Critics, GaussianActor, Perceptron, orthogonal_
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import Averaging, cosine_from_the_start

WEIGHT_CLIP = 100.0
LOG_STD_RANGE = (-5.0, 2.0)
GAIN = math.sqrt(2)  # of the orthogonal weights of every layer
NEEDED = ("expectile", "beta", "dropout", "lr", "batch", "polyak", "width", "reward")


def expectile_loss(u: Float[Tensor, "*rows B"], expectile: float) -> Float[Tensor, "*rows"]:
    """Mean |expectile - 1(u < 0)| u² (Kostrikov et al. 2022, Eq. 5): least at the expectile of what
    u is measured against."""
    return (torch.where(u < 0, 1 - expectile, expectile) * u.square()).mean(-1)


def advantage_weights(u: Float[Tensor, "*rows B"], beta: float) -> Float[Tensor, "*rows B"]:
    """min(e^(beta u), 100) (Kostrikov et al. 2022, Eq. 7; the clip is the authors' code's)."""
    return (beta * u).exp().clamp(max=WEIGHT_CLIP)


def fit_iql(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ExplicitPolicy:
    """The policy after `budget.iql_steps` steps with the settings `hyper.iql`; acts by its mean.
    DataError for a setting that is missing or of the wrong kind."""
    own = Settings("iql", hyper.iql, NEEDED)
    draws, sizes = rng.fork("iql"), (data.states.shape[1], data.actions.shape[1])
    widths = [own.count("width")] * 2
    of = partial(rng.fork, "iql")
    value = Perceptron(sizes[0], 1, of("value"), widths)
    actor = GaussianActor(*sizes, of("actor"), widths, LOG_STD_RANGE, own["dropout"])
    critic = Critics(*sizes, of("critic", copies=2), widths)
    for name, net, copies in (("value", value, 1), ("actor", actor, 1), ("critic", critic, 2)):
        orthogonal_(net, GAIN, of(name, "orthogonal", copies=copies))
        net.to(rng.device)
    target = copy.deepcopy(critic).requires_grad_(False)
    batch = Batch(data, own.count("batch"), draws)

    def worth() -> Float[Tensor, "E B"]:
        """V(s)."""
        return value(batch.states).squeeze(-1).float()

    def of_value() -> Float[Tensor, " E"]:
        with torch.no_grad():
            batch.q = target.of(batch.states, batch.actions).amin(1)
        return expectile_loss(batch.q - worth(), own["expectile"])

    def of_actor() -> Float[Tensor, " E"]:
        with torch.no_grad():
            weights = advantage_weights(batch.q - worth(), own["beta"])
        return -(weights * actor.log_prob(batch.states, batch.actions, draws)).mean(-1)

    def of_critic() -> Float[Tensor, " EC"]:
        with torch.no_grad():
            after = value(batch.next_states).squeeze(-1).float()
        y = bellman(batch, hyper.gamma, after)
        error = critic.of(batch.states, batch.actions) - y[:, None]
        return error.square().mean(-1).flatten()

    lr = own["lr"]
    steps, precision = budget.iql_steps, budget.precision
    curves = train(
        "iql",
        training_key("iql", hyper.iql, data, rng, steps, hyper.gamma, precision),
        dict(value=value, actor=actor, critic=critic, target=target),
        [
            Update("value", of_value, lr),
            Update("actor", of_actor, lr, cosine_from_the_start),
            Update("critic", of_critic, lr, after=[Averaging(target, critic, own["polyak"])]),
        ],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )
    return ExplicitPolicy(actor.requires_grad_(False), curves["actor"])
