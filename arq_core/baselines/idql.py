"""IDQL: IQL's critic chooses among samples of a diffusion clone (Hansen-Estruch et al. 2023, "IDQL:
Implicit Q-Learning as an Actor-Critic Method with Diffusion Policies").

The clone is s_psi, the same that ARQ stands on; V, Q and Q' are IQL's (baselines.expectiles). To
act, N samples a of s_psi are drawn afresh, and one of them is taken

    acting = "argmax":     by the largest min Q'(s, a), as their evaluation does (eval_actions)
    acting = "expectile":  with probability in proportion to |expectile - 1(min Q'(s, a) < V(s))|,
                           the implicit actor of IQL's loss (sample_implicit_policy)

It is Eq. 6 without epsilon, with another critic. What differs from the authors': their clone is a
residual network with LayerNorm and dropout that is sampled in 5 steps; their V and Q start from
Glorot's weights; their N is chosen for a dataset among 16 to 256, ours is ARQ's N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.types import Candidates, States, Transitions, Values
from arq_core.baselines.expectiles import NEEDED as OF_VALUES
from arq_core.baselines.expectiles import ExpectileValues
from arq_core.baselines.neighbours import Batch, Settings, expectile_weights, training_key
from arq_core.baselines.networks import Critics, Perceptron
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import train

NEEDED = (*OF_VALUES, "acting", "reward")
ACTING = ("argmax", "expectile")


@dataclass(frozen=True)
class LeastOfTwo:
    """min Q'(s, a), reward units."""

    target: Critics

    def __call__(self, states: States, actions: Candidates) -> Values:
        return self.target(states, actions).amin(1)


@dataclass(frozen=True)
class LogExpectileWeights:
    """log |expectile - 1(min Q'(s, a) < V(s))| (Hansen-Estruch et al. 2023, ddpm_iql_learner.py):
    the softmax over candidates weighs them by the weight itself."""

    q: LeastOfTwo
    value: Perceptron
    expectile: float

    def __call__(self, states: States, actions: Candidates) -> Values:
        u = self.q(states, actions) - self.value(states).float()
        return expectile_weights(u, self.expectile).log()


def fit_idql(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ImplicitPolicy:
    """s_psi, and its critic after `budget.idql_steps` steps with the settings `hyper.idql`; acts by
    `hyper.acting_n` samples. DataError for a setting that is missing or of the wrong kind."""
    own = Settings("idql", hyper.idql, NEEDED)
    acting, draws = own.one_of("acting", ACTING), rng.fork("idql")
    batch = Batch(data, own.count("batch"), draws)
    values = ExpectileValues(own, batch, hyper.gamma, rng)
    behavior = fit_behavior(data, hyper, budget, rng, store)
    steps, precision = budget.idql_steps, budget.precision
    train(
        "idql",
        training_key("idql", hyper.idql, data, rng, steps, hyper.gamma, precision),
        values.modules(),
        [values.update_of_value(), values.update_of_critic()],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )
    q, n = LeastOfTwo(values.target), hyper.acting_n
    if acting == "argmax":
        return ImplicitPolicy(behavior, q, math.inf, n, None)
    weights = LogExpectileWeights(q, values.value.requires_grad_(False), own["expectile"])
    return ImplicitPolicy(behavior, weights, 1.0, n, None, logits="q")
