"""CQL, conservative Q-learning: the critics are pushed down at actions of the policy and of the
whole box, and up at the recorded ones (Kumar, Zhou, Tucker and Levine 2020, "Conservative
Q-Learning for Offline Reinforcement Learning"; Eq. 4, the variant CQL(H)).

One step, in the order of the authors' code (aviralkumar2907/CQL, rlkit/torch/sac/cql.py). The
temperature alpha moves first; everything after it sees the weights from before:

    alpha    <-  argmin  -log alpha · E (log pi(a~|s) - A),               a~ ~ pi(s)
    pi       <-  argmin  E [alpha log pi(a~|s) - min Q(s, a~)]
    Q_i      <-  argmin  E (r + gamma (1 - d) min Q'(s', a') - Q_i(s, a))² + w gap_i,  a' ~ pi(s')
    gap_i    =   E_s [ log sum_j e^(Q_i(s, a_j) - log mu_j) - Q_i(s, a) ]
    Q'       <-  polyak Q' + (1 - polyak) Q

where alpha starts at `alpha`, and a_j are `actions` uniform ones, as many of pi(s) and as many of
pi(s'), all valued at s, and mu_j their densities. The target has no entropy. In the first `cloning`
of all steps pi maximises log pi(a|s) of the recorded action in the place of min Q.

The weight w is `weight`, or, with a `threshold` of 0 or more, a Lagrange multiplier alpha' that
grows as long as weight·gap_i is above it (the penalty is then alpha'·(weight·gap_i - threshold)).
`max_backup` = 1 takes the largest of `actions` a' for each target critic, then the lower critic
(the authors' option `max_q_backup`).

What differs: recorded actions are kept 1e-5 inside the box; the density is the exact one of the
squashed normal, without the 1e-6 that keeps the authors' logarithm finite, and the mean is not
clipped as they clip it while cloning; biases of hidden layers start uniform instead of at 0. The
warm start is a share of the training, 40,000 of their 1,000,000 steps, so that a short training
does not clone only. robomimic's version moves the actor before the critics; ours does not.
"""

from __future__ import annotations

import copy
import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arq_core.algorithm.nets import Linear
from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import DataError, Transitions
from arq_core.baselines.neighbours import Batch, Settings, bellman, training_key
from arq_core.baselines.networks import (
    Critics,
    SquashedActor,
    squashed_log_prob,
    squashed_sample,
    uniform_,
)
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import train
from arq_core.engine.updates import Averaging, Update

LOG_STD_RANGE = (-5.0, 2.0)
MULTIPLIER_MAX = 1e6
LAST_OF_ACTOR, LAST_OF_CRITIC = 1e-3, 3e-3  # bounds of the last layers' first weights; rlkit
NEEDED = (
    *("weight", "threshold", "actions", "max_backup", "cloning", "alpha", "std", "widths"),
    *("policy_lr", "q_lr", "batch", "polyak", "reward"),
)


def conservative_gap(
    q: Float[Tensor, "E C B n"],
    log_density: Float[Tensor, "E B n"],
    recorded: Float[Tensor, "E C B"],
) -> Float[Tensor, "E C"]:
    """E_s [log sum_j e^(Q(s, a_j) - log mu(a_j)) - Q(s, a)], in units of Q: how much higher than at
    the recorded action the values of all actions are (Kumar et al. 2020, Eq. 4 and appendix F)."""
    return ((q - log_density[:, None]).logsumexp(-1) - recorded).mean(-1)


def temperature_loss(
    log_alpha: Float[Tensor, " E"], log_pi: Float[Tensor, "E B"], action_dim: int
) -> Float[Tensor, " E"]:
    """-log alpha · E (log pi - A): alpha grows while the policy's entropy is below -A nats
    (Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", section 5; log alpha in
    the place of alpha is the authors' code's)."""
    return -log_alpha * (log_pi - action_dim).mean(-1)


def policy_loss(
    alpha: Float[Tensor, " E"], log_pi: Float[Tensor, "E B"], gain: Float[Tensor, "E B"]
) -> Float[Tensor, " E"]:
    """E [alpha log pi(a~|s) - gain], where the gain is min Q(s, a~), or log pi(a|s) while the
    policy clones (authors' code)."""
    return (alpha[:, None] * log_pi - gain).mean(-1)


def multiplier_of(log_multiplier: Float[Tensor, " E"]) -> Float[Tensor, " E"]:
    """alpha', at most 1e6 (authors' code)."""
    return log_multiplier.exp().clamp(max=MULTIPLIER_MAX)


def multiplier_loss(
    multiplier: Float[Tensor, " E"], excess: Float[Tensor, "E C"]
) -> Float[Tensor, " E"]:
    """-alpha' times the mean over the critics of weight·gap - threshold (Kumar et al. 2020,
    appendix F, for both critics as in the authors' code)."""
    return -multiplier * excess.mean(1)


def backed_up(q: Float[Tensor, "E C B n"]) -> Float[Tensor, "E B"]:
    """What is bootstrapped: the largest of n actions of each target critic, then the lower."""
    return q.amax(-1).amin(1)


class Logarithm(nn.Module):
    """The logarithm of one positive number a member, trained from `start`."""

    def __init__(self, members: int, start: float = 0.0):
        super().__init__()
        self.log = nn.Parameter(torch.full((members,), start))


def widths_of(own: Settings) -> list[int]:
    """The widths of the hidden layers of all networks, such as "256 256 256"."""
    words = str(own.given["widths"]).split()
    if not words or not all(w.isdecimal() and int(w) for w in words):
        raise DataError(
            f"{own.method}.widths: saw {own.given['widths']!r}, expected a number of units for "
            "each hidden layer, such as '256 256 256'; change it in data/neighbours.toml."
        )
    return [int(w) for w in words]


def log_of(own: Settings, name: str) -> float:
    """The logarithm of a setting, which has to be above 0."""
    if not own[name] > 0:
        raise DataError(
            f"{own.method}.{name}: saw {own[name]}, expected a number above 0; change it in "
            "data/neighbours.toml."
        )
    return math.log(own[name])


@torch.no_grad()
def networks(
    own: Settings, state_dim: int, action_dim: int, rng: Streams
) -> tuple[SquashedActor, Critics]:
    """The actor, whose standard deviation starts at `std`, and the two critics."""
    of, widths = partial(rng.fork, "cql"), widths_of(own)
    actor = SquashedActor(state_dim, action_dim, of("actor"), widths, LOG_STD_RANGE)
    critic = Critics(state_dim, action_dim, of("critic", copies=2), widths)
    for net, bound, name, copies in (
        (actor.net, LAST_OF_ACTOR, "actor", 1),
        (critic.net, LAST_OF_CRITIC, "critic", 2),
    ):
        last = net.layers[-1]
        assert isinstance(last, Linear)
        uniform_(last, bound, of(name, "last", copies=copies))
    actor.net.layers[-1].bias[..., action_dim:] += log_of(own, "std")
    return actor.to(rng.device), critic.to(rng.device)


def fit_cql(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ExplicitPolicy:
    """The policy after `budget.cql_steps` steps with the settings `hyper.cql`; acts by tanh of its
    mean. DataError for a setting that is missing or of the wrong kind."""
    own = Settings("cql", hyper.cql, NEEDED)
    draws, action_dim = rng.fork("cql"), data.actions.shape[1]
    n, weight, threshold = own.count("actions"), own["weight"], own["threshold"]
    lagrange, backups = threshold >= 0, n if own["max_backup"] else 1
    actor, critic = networks(own, data.states.shape[1], action_dim, rng)
    target = copy.deepcopy(critic).requires_grad_(False)
    alpha = Logarithm(len(rng), log_of(own, "alpha")).to(rng.device)
    multiplier = Logarithm(len(rng)).to(rng.device)
    batch = Batch(data, own.count("batch"), draws)
    cloning = torch.zeros((), device=rng.device)  # 1 while the policy clones
    steps, cloned = budget.cql_steps, own["cloning"] * budget.cql_steps

    def of_alpha() -> Float[Tensor, " E"]:
        batch.now = actor.parts(batch.states)
        batch.chosen, log_pi = squashed_sample(batch.now, 1, draws)
        batch.log_pi = log_pi.squeeze(-1)
        return temperature_loss(alpha.log, batch.log_pi.detach(), action_dim)

    def of_actor() -> Float[Tensor, " E"]:
        gain = critic(batch.states, batch.chosen).squeeze(-1).amin(1)
        if cloned > 0:
            likely = squashed_log_prob(batch.now, batch.actions)
            gain = torch.where(cloning > 0, likely, gain)
        return policy_loss(alpha.log.exp().detach(), batch.log_pi, gain)

    @torch.no_grad()
    def elsewhere() -> tuple[Float[Tensor, "E B n A"], Float[Tensor, "E B n"]]:
        """Actions of the box, of pi(s) and of pi(s'), and their log-densities."""
        box = 2 * draws.rand(own.count("batch"), n, action_dim) - 1
        now, log_now = squashed_sample(batch.now, n, draws)
        after, log_after = squashed_sample(batch.after, n, draws)
        log_box = torch.full_like(log_now, -action_dim * math.log(2))
        return torch.cat([box, now, after], 2), torch.cat([log_box, log_now, log_after], 2)

    def of_critic() -> Float[Tensor, " EC"]:
        with torch.no_grad():
            batch.after = actor.parts(batch.next_states)
            follow, _ = squashed_sample(batch.after, backups, draws)
            y = bellman(batch, hyper.gamma, backed_up(target(batch.next_states, follow)))
        actions, log_density = elsewhere()
        every = critic(batch.states, torch.cat([batch.actions[:, :, None], actions], 2))
        recorded, q = every[..., 0], every[..., 1:]
        error = (recorded - y[:, None]).square().mean(-1)
        gap = weight * conservative_gap(q, log_density, recorded)
        if not lagrange:
            return (error + gap).flatten()
        batch.excess = (gap - threshold).detach()
        held = multiplier_of(multiplier.log).detach()
        return (error + held[:, None] * (gap - threshold)).flatten()

    def of_multiplier() -> Float[Tensor, " E"]:
        return multiplier_loss(multiplier_of(multiplier.log), batch.excess)

    def before_step(taken: int) -> None:
        cloning.fill_(float(taken < cloned))

    policy_lr, q_lr = own["policy_lr"], own["q_lr"]
    average = Averaging(target, critic, own["polyak"])
    together = [Update("actor", of_actor, policy_lr)]
    together += [Update("critic", of_critic, q_lr, after=[average])]
    together += [Update("multiplier", of_multiplier, q_lr)] if lagrange else []
    precision = budget.precision
    curves = train(
        "cql",
        training_key("cql", hyper.cql, data, rng, steps, hyper.gamma, precision),
        dict(alpha=alpha, multiplier=multiplier, actor=actor, critic=critic, target=target),
        [Update("alpha", of_alpha, policy_lr), tuple(together)],
        steps=steps,
        rng=draws,
        store=store,
        before_step=before_step,
        begin=batch.draw,
        arithmetic=precision,
    )
    return ExplicitPolicy(actor.requires_grad_(False), curves["actor"])
