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

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import Transitions
from arq_core.baselines.expectiles import GAIN, ExpectileValues
from arq_core.baselines.neighbours import Batch, Settings, training_key
from arq_core.baselines.networks import GaussianActor, orthogonal_
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import cosine_from_the_start

WEIGHT_CLIP = 100.0
LOG_STD_RANGE = (-5.0, 2.0)
NEEDED = ("expectile", "beta", "dropout", "lr", "batch", "polyak", "width", "reward")


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
    batch = Batch(data, own.count("batch"), draws)
    values = ExpectileValues(own, batch, hyper.gamma, rng)
    widths = [own.count("width")] * 2
    actor = GaussianActor(*sizes, rng.fork("iql", "actor"), widths, LOG_STD_RANGE, own["dropout"])
    orthogonal_(actor, GAIN, rng.fork("iql", "actor", "orthogonal"))
    actor.to(rng.device)

    def of_actor() -> Float[Tensor, " E"]:
        with torch.no_grad():
            weights = advantage_weights(values.advantage(), own["beta"])
        return -(weights * actor.log_prob(batch.states, batch.actions, draws)).mean(-1)

    steps, precision = budget.iql_steps, budget.precision
    curves = train(
        "iql",
        training_key("iql", hyper.iql, data, rng, steps, hyper.gamma, precision),
        dict(actor=actor, **values.modules()),
        [
            values.update_of_value(),
            Update("actor", of_actor, own["lr"], cosine_from_the_start),
            values.update_of_critic(),
        ],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )
    return ExplicitPolicy(actor.requires_grad_(False), curves["actor"])
