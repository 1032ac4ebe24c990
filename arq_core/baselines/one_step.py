"""One-step RL: the behaviour's own value, and one step of improvement on it (Brandfonbrener,
Whitney, Ranganath and Bruna 2021, "Offline RL Without Off-Policy Evaluation").

Three trainings, each on the frozen result of those before it, in the order of the authors' code
(onestep-rl, train.py):

    beta   <-  argmax  E log beta(a|s)
    Q      <-  argmin  E (r + gamma (1 - d) Q'(s', a') - Q(s, a))²,    a' the action in the data
    pi     <-  argmax  E min(e^(T (Q(s, a) - V(s))), 100) log pi(a|s),    starting as beta,
               V(s) a mean of Q over 10 actions of beta                              (exp_weight)
           or  argmax  E Q(s, a) - alpha KL(pi || beta),    a and the KL by draws of pi  (rev_kl)
           or  the best by Q of some draws of beta, nothing trained                    (easy_bcq)

The rows of Table A.4 are exp_weight's with a T chosen for each dataset by its score, out of .1, .3,
1, 3, 10 and 30; here T is one for each group. Where that code's configuration names a truncated
normal, pi is the plain one, as there, since it starts as a copy of beta's network. Q' moves at
every second step: there at the first, third, ..., here at the second, fourth, ... . A transition
that no other follows teaches Q nothing unless it ends in a terminal; there those at a time limit
are left out of all three trainings, here the reader drops them (datasets.readers.cuts).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import Actions, Candidates, DataError, Policy, States, Transitions
from arq_core.baselines.neighbours import (
    Batch,
    Drawing,
    FirstCritic,
    Settings,
    bellman,
    training_key,
)
from arq_core.baselines.networks import (
    Critics,
    Perceptron,
    normal_log_prob,
    refuse_other_states,
)
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import Averaging

WEIGHT_CLIP = 100.0
LOG_STD_RANGE = (-5.0, 0.0)
INSIDE = 1 - 1e-4  # where the regression of pi sees recorded actions at most
TARGET_EVERY = 2
IMPROVEMENTS = ("exp_weight", "rev_kl", "easy_bcq")
CLONE = ("lr", "batch", "width", "beta_share")  # what beta's training depends on
VALUE = ("lr", "batch", "width", "polyak", "q_share")  # and Q's
NEEDED = (
    *dict.fromkeys((*CLONE, *VALUE)),
    *("improvement", "temperature", "alpha", "samples", "candidates", "reward"),
)


def exponential_weights(
    q: Float[Tensor, "E B"], v: Float[Tensor, "E B"], temperature: float
) -> Float[Tensor, "E B"]:
    """min(e^(T (Q - V)), 100): the authors' code, `ExpWeightLearner`."""
    return (temperature * (q - v)).exp().clamp(max=WEIGHT_CLIP)


def soft_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """low + (high - low)(tanh(x) + 1)/2 (the authors' code, policy_network.py)."""
    return low + 0.5 * (high - low) * (x.tanh() + 1)


class SoftlyClampedGaussian(nn.Module):
    """N(mean(s), diag std(s)²) with a mean that is softly clamped to the box and a log std softly
    clamped to LOG_STD_RANGE; called, it gives the mean."""

    def __init__(self, state_dim: int, action_dim: int, rng: Streams, widths: Sequence[int]):
        super().__init__()
        self.net = Perceptron(state_dim, 2 * action_dim, rng, widths)
        self.state_dim = state_dim

    def parts(self, states: States) -> tuple[Actions, Actions]:
        """Mean and log standard deviation."""
        refuse_other_states(states, self.state_dim)
        mean, log_std = self.net(states).float().chunk(2, -1)
        return soft_clamp(mean, -1.0, 1.0), soft_clamp(log_std, *LOG_STD_RANGE)

    def forward(self, states: States) -> Actions:
        """The mean."""
        return self.parts(states)[0]

    def log_prob(self, states: States, actions: Actions) -> Float[Tensor, "E B"]:
        """log density of one action of each state, nats."""
        return normal_log_prob(actions, *self.parts(states))

    def draw(self, states: States, n: int, rng: Streams) -> Candidates:
        """n actions of each state, not clipped; gradients flow through them."""
        mean, log_std = (x[:, :, None] for x in self.parts(states))
        return mean + log_std.exp() * rng.randn(states.shape[1], n, mean.shape[-1])


def sampled_kl(
    pi: SoftlyClampedGaussian, beta: SoftlyClampedGaussian, states: States, n: int, rng: Streams
) -> Float[Tensor, "E B"]:
    """KL(pi || beta) at each state by n draws of pi, through which gradients flow, nats: the
    authors' code, `ReverseKLRegLearner`."""
    a = pi.draw(states, n, rng)
    of_pi, of_beta = (
        normal_log_prob(a, *(x[:, :, None].expand_as(a) for x in net.parts(states)))
        for net in (pi, beta)
    )
    return (of_pi - of_beta).mean(-1)


def rows_with_a_target(data: Transitions) -> Tensor:
    """Rows [R] that end in a terminal or have a next action. DataError where there is none."""
    rows = (data.terminals | (data.next_transition >= 0)).nonzero().squeeze(1)
    if len(rows) == 0:
        raise DataError(
            f"one_step: saw {len(data.actions)} transitions of which none ends in a terminal or is "
            "followed by another of its episode, expected next actions, which Q^beta is learned "
            "from; read whole episodes."
        )
    return rows


@dataclass(frozen=True)
class OneStep:
    """The three trainings of one set of data, with what they share."""

    data: Transitions
    own: Settings
    hyper: Hyper
    budget: Budget
    rng: Streams
    store: Store

    @property
    def of(self) -> partial[Streams]:
        """Streams by name."""
        return partial(self.rng.fork, "one_step")

    @property
    def sizes(self) -> tuple[int, int]:
        return self.data.states.shape[1], self.data.actions.shape[1]

    @property
    def widths(self) -> list[int]:
        return [self.own.count("width")] * 2

    def steps(self, share: str) -> int:
        """Of beta or Q: so many times those of pi."""
        return self.own.count(share) * self.budget.one_step_steps

    def key(self, name: str, steps: int, fields: Sequence[str], gamma: float) -> dict:
        chosen: Mapping[str, float | str] = {k: self.own.given[k] for k in fields}
        how = self.budget.precision
        return training_key(name, chosen, self.data, self.rng, steps, gamma, how)

    def clone(self) -> SoftlyClampedGaussian:
        """beta."""
        draws, steps = self.of("beta draws"), self.steps("beta_share")
        beta = SoftlyClampedGaussian(*self.sizes, self.of("beta"), self.widths).to(self.rng.device)
        batch = Batch(self.data, self.own.count("batch"), draws)
        train(
            "one_step_beta",
            self.key("one_step_beta", steps, CLONE, 0.0),
            dict(beta=beta),
            [
                Update(
                    "beta", lambda: -beta.log_prob(batch.states, batch.recorded).mean(-1), self.lr
                )
            ],
            steps=steps,
            rng=draws,
            store=self.store,
            begin=batch.draw,
            arithmetic=self.budget.precision,
        )
        return beta.requires_grad_(False)

    def value(self) -> Critics:
        """Q^beta, by SARSA."""
        data, draws, steps = self.data, self.of("q draws"), self.steps("q_share")
        rows = rows_with_a_target(data)
        q = Critics(*self.sizes, self.of("q"), self.widths, copies=1).to(self.rng.device)
        target = copy.deepcopy(q).requires_grad_(False)
        batch = Batch(data, self.own.count("batch"), draws, rows)
        follower = data.next_transition.clamp(min=0)  # behind a terminal any: it counts for nothing

        def loss() -> Float[Tensor, " E"]:
            with torch.no_grad():
                after = target.of(batch.next_states, data.actions[follower[batch.m]])[:, 0]
            y = bellman(batch, self.hyper.gamma, after)
            return (q.of(batch.states, batch.recorded)[:, 0] - y).square().mean(-1)

        average = Averaging(target, q, self.own["polyak"], every=TARGET_EVERY)
        train(
            "one_step_q",
            self.key("one_step_q", steps, VALUE, self.hyper.gamma),
            dict(q=q, target=target),
            [Update("q", loss, self.lr, after=[average])],
            steps=steps,
            rng=draws,
            store=self.store,
            begin=batch.draw,
            arithmetic=self.budget.precision,
        )
        return q.requires_grad_(False)

    def improve(self, beta: SoftlyClampedGaussian, q: Critics, name: str) -> ExplicitPolicy:
        """pi, from beta on, by one of IMPROVEMENTS that is trained."""
        draws, steps = self.of("pi draws"), self.budget.one_step_steps
        pi = copy.deepcopy(beta).requires_grad_(True)
        batch = Batch(self.data, self.own.count("batch"), draws)
        n = self.own.count("samples")

        def by_weights() -> Float[Tensor, " E"]:
            s = batch.states
            with torch.no_grad():
                v = q(s, beta.draw(s, n, draws))[:, 0].mean(-1)
                of_data = q.of(s, batch.recorded)[:, 0]
                weights = exponential_weights(of_data, v, self.own["temperature"])
            return -(weights * pi.log_prob(s, batch.recorded.clamp(-INSIDE, INSIDE))).mean(-1)

        def by_value() -> Float[Tensor, " E"]:
            s = batch.states
            values = q(s, pi.draw(s, 1, draws))[:, 0, :, 0]
            return (self.own["alpha"] * sampled_kl(pi, beta, s, n, draws) - values).mean(-1)

        fields = self.own.given.keys() - {"reward"}
        curve = train(
            "one_step",
            self.key("one_step", steps, sorted(fields), self.hyper.gamma),
            dict(pi=pi),
            [Update("pi", {"exp_weight": by_weights, "rev_kl": by_value}[name], self.lr)],
            steps=steps,
            rng=draws,
            store=self.store,
            begin=batch.draw,
            arithmetic=self.budget.precision,
        )["pi"]
        return ExplicitPolicy(pi.requires_grad_(False), curve)

    @property
    def lr(self) -> float:
        return self.own["lr"]


def fit_one_step(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Policy:
    """The policy after `budget.one_step_steps` steps of pi, and their multiples of beta and Q, with
    the settings `hyper.one_step`; pi acts by its mean. DataError for a setting that is missing or
    of the wrong kind, and for data without next actions."""
    own = Settings("one_step", hyper.one_step, NEEDED)
    improvement = own.one_of("improvement", IMPROVEMENTS)
    rows_with_a_target(data)
    one = OneStep(data, own, hyper, budget, rng, store)
    beta, q = one.clone(), one.value()
    if improvement == "easy_bcq":
        return Drawing(beta, own.count("candidates"), FirstCritic(q))
    return one.improve(beta, q, improvement)
