"""Direct Q-penalisation: one actor-critic into which any row of Table 1 is plugged as `penalty`
(soft policy iteration of Theorem 1).

With r in the data's unit, tau the temperature and p a penalty in the unit of Q:

    evaluation    Q(s, a)  <-  r + gamma E_{a' ~ pi}[min Q'(s', a') - p(s', a') - tau log pi(a'|s')]
    improvement   pi  <-  argmax  E_{a ~ pi}[min Q(s, a) - p(s, a)] + tau H(pi)

Theorem 1 has tau = 1, and is this with rewards and p divided by tau; so pi_p = softmax(-p/tau). The
constant Z(s) is left out, as the theorem lets one. BRAC-KL with alpha = tau is therefore
regularised towards beta itself, and towards beta's mode as alpha grows. The actor is a Gaussian
squashed by tanh (Haarnoja et al. 2018): it has one mode. Eq. 4 is not among the rows: its penalty
is infinite, and no gradient leads back from infinity. ARQ, which keeps sampled candidates where the
penalty is zero, is that row. Nor is CQL: mu/beta of two densities is not bounded, and CQL's own
loss is no penalty of pi.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from arq_core.algorithm.nets import MLP, Critic
from arq_core.algorithm.policies import ExplicitPolicy
from arq_core.algorithm.types import DataError, Transitions
from arq_core.baselines import proxies
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import train
from arq_core.engine.updates import Averaging, Update
from arq_core.theory import penalties

CRITICS = 2  # appendix A.2, as ARQ
LOG_STD_RANGE = (-5.0, 2.0)  # before the squashing
# of BRAC-MMD's kernel, action units: between the noise of our problems' actions and the distance of
# their modes
BANDWIDTH = 0.2
# actions a state of the policy and of the behaviour for MMD (BEAR draws 4 to 10); one is enough for
# the others
MMD_SAMPLES = 4
PLOFF_FADE = 10.0  # alpha_2 of PLOFF, per unit of reward

# (states [E B S], the policy's actions [E B n A], Q there [E B n], rng) -> p [E B n]
Penalty = Callable[[Tensor, Tensor, Tensor, Streams], Tensor]


class Actor(nn.Module):
    """a = tanh(u), u ~ N(mean(s), std(s)²); acts by tanh(mean)."""

    def __init__(self, state_dim: int, action_dim: int, rng: Streams, width: int):
        super().__init__()
        self.net = MLP(state_dim, 2 * action_dim, rng, width)

    def forward(self, states: Float[Tensor, "E B S"]) -> Float[Tensor, "E B A"]:
        if (expected := self.net.layers[0].weight.shape[1]) != states.shape[-1]:
            raise DataError(
                f"states: saw dimension {states.shape[-1]}, expected {expected}, that of "
                "the training data; use its environment."
            )
        return self.net(states).float().chunk(2, -1)[0].tanh()

    def sample(
        self, states: Float[Tensor, "E B S"], n: int, rng: Streams
    ) -> tuple[Float[Tensor, "E B n A"], Float[Tensor, "E B n"]]:
        """n reparameterised actions a state, and their log pi(a|s) in nats, of the raw action."""
        mean, log_std = self.net(states).float()[:, :, None].chunk(2, -1)
        log_std = log_std.clamp(*LOG_STD_RANGE)
        z = rng.randn(states.shape[1], n, mean.shape[-1])
        u = mean + log_std.exp() * z
        # log(1 - tanh(u)²), which does not underflow
        log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
        return u.tanh(), -(z.square() / 2 + log_std + math.log(2 * math.pi) / 2 + log_slope).sum(-1)


class ActorCritic(nn.Module):
    """One actor and CRITICS critics for each of E seeds; critics are held as one batch of E·CRITICS
    networks.

    Layers are as wide as s_psi's: 256, which is also what appendix A.2 gives critics, or 64 in our
    own problems, where ARQ's critics keep 256.
    """

    def __init__(
        self, state_dim: int, action_dim: int, actor: Streams, critics: Streams, width: int
    ):
        super().__init__()
        self.actor, self.critic = (
            Actor(state_dim, action_dim, actor, width),
            Critic(state_dim, action_dim, critics, width),
        )


def values(
    critic: Callable, states: Float[Tensor, "E B S"], actions: Float[Tensor, "E B n A"]
) -> Float[Tensor, "E C B n"]:
    """Q(s, a) of each critic of each seed."""
    return critic(*(x.repeat_interleave(CRITICS, 0) for x in (states, actions))).unflatten(
        0, (-1, CRITICS)
    )


def soft_value(
    actor: Actor,
    critic: Callable,
    penalty: Penalty,
    states: Float[Tensor, "E B S"],
    n: int,
    temperature: float,
    rng: Streams,
) -> Float[Tensor, "E B"]:
    """E_{a ~ pi}[min Q(s, a) - p(s, a)] + tau H(pi) by n actions of the policy: what is
    bootstrapped at s', and what the actor maximises at s.
    """
    actions, log_pi = actor.sample(states, n, rng)
    q = values(critic, states, actions).amin(1)
    return (q - penalty(states, actions, q, rng) - temperature * log_pi).mean(-1)


def fit_actor_critic(
    data: Transitions,
    penalty: Penalty,
    key: dict,
    hyper: Hyper,
    budget: Budget,
    rng: Streams,
    store: Store,
    samples: int = 1,
) -> ExplicitPolicy:
    """Train the actor-critic with `penalty`; `key` names everything that the penalty depends on.

    Each step takes one gradient for both: the critics' error against a target that holds no
    gradient, and the actor's value under critics whose weights are held. The sets of weights share
    no gradient, and Adam moves each weight by its own: as two optimisers of one learning rate,
    stepping together.
    """
    temperature, batches = strength("temperature", hyper), rng.fork("dqp")
    actor, critics = rng.fork("dqp", "actor"), rng.fork("dqp", "critic", copies=CRITICS)
    net = ActorCritic(data.states.shape[1], data.actions.shape[1], actor, critics, hyper.width).to(
        rng.device
    )
    target = copy.deepcopy(net.critic).requires_grad_(False)
    # the same memory, without gradients
    held = {k: v.detach() for k, v in net.critic.named_parameters()}

    def loss() -> Float[Tensor, " E"]:
        m = batches.randint(len(data.actions), hyper.batch)
        states, after = data.states[data.state[m]], data.states[data.next_state[m]]
        with torch.no_grad():
            y = data.rewards[m] + hyper.gamma * ~data.terminals[m] * soft_value(
                net.actor, target, penalty, after, samples, temperature, batches
            )
        error = values(net.critic, states, data.actions[m][:, :, None]).squeeze(-1) - y[:, None]
        gain = soft_value(
            net.actor,
            lambda *x: functional_call(net.critic, held, x),
            penalty,
            states,
            samples,
            temperature,
            batches,
        )
        return 0.5 * error.square().mean(-1).sum(1) - gain.mean(-1)

    key = dict(
        key,
        data=data.fingerprint(),
        seeds=rng.seeds,
        temperature=temperature,
        samples=samples,
        width=hyper.width,
        gamma=hyper.gamma,
        lr=hyper.q_lr,
        batch=hyper.batch,
        polyak=hyper.polyak,
        steps=budget.q_steps,
        precision=budget.precision,
    )
    curve = train(
        "dqp",
        key,
        dict(net=net, target=target),
        [Update("net", loss, hyper.q_lr, after=[Averaging(target, net.critic, hyper.polyak)])],
        steps=budget.q_steps,
        rng=batches,
        store=store,
        arithmetic=budget.precision,
    )["net"]
    return ExplicitPolicy(net.actor.requires_grad_(False), curve)


def strength(name: str, hyper: Hyper) -> float:
    """hyper.dqp[name], a number >= 0 that is given and not taken for granted."""
    if name not in hyper.dqp:
        raise DataError(
            f"dqp: saw no {name!r} among {', '.join(hyper.dqp)}, expected its strength; "
            "add it to hyperparameters.toml or to `changes`."
        )
    if not 0 <= hyper.dqp[name] < math.inf:
        raise DataError(
            f"dqp.{name}: saw {hyper.dqp[name]}, expected a finite number >= 0; an "
            "infinite penalty is a support constraint: use arq+s_psi."
        )
    return float(hyper.dqp[name])


def none(alpha, *problem) -> Penalty:
    return lambda states, actions, q, rng: torch.zeros_like(q)


def brac_kl(alpha, *problem) -> Penalty:
    log_beta = proxies.fit_gaussian_log_prob(*problem)
    return lambda states, actions, q, rng: penalties.brac_kl(log_beta(states, actions), alpha)


def brac_mmd(alpha, *problem) -> Penalty:
    """The per-action form, against samples of a conditional VAE as in BEAR (Kumar et al. 2019)."""
    draw = proxies.fit_sampler(*problem)

    def p(states, actions, q, rng):
        return penalties.mmd_witness(
            actions, actions.detach(), draw(states, MMD_SAMPLES, rng), BANDWIDTH, alpha
        )

    return p


def anti_exploration(alpha, *problem) -> Penalty:
    error = proxies.fit_reconstruction(*problem)
    return lambda states, actions, q, rng: penalties.anti_exploration(error(states, actions), alpha)


def ploff(alpha, *problem) -> Penalty:
    distance = proxies.fit_pseudometric(*problem)
    return lambda states, actions, q, rng: penalties.ploff(
        q, distance(states, actions), alpha, PLOFF_FADE, printed=False
    )


def mopo(alpha, *problem) -> Penalty:
    """The penalty alone: MOPO also trains on what its models predict, which is no penalty."""
    spread = proxies.fit_dynamics(*problem)
    return lambda states, actions, q, rng: penalties.mopo(spread(states, actions), alpha)


def td3_bc(alpha, *problem) -> Penalty:
    mean = proxies.fit_mean(*problem)
    return lambda states, actions, q, rng: penalties.td3_bc(
        actions, mean(states), alpha, printed=False
    )


@dataclass(frozen=True)
class Row:
    """A row of Table 1: `penalty(alpha, data, hyper, budget, rng, store)` trains what it measures;
    `samples` is the policy's actions a state.
    """

    penalty: Callable[..., Penalty]
    samples: int = 1


ROWS: dict[str, Row] = {
    "none": Row(none),
    "brac-kl": Row(brac_kl),
    "brac-mmd": Row(brac_mmd, MMD_SAMPLES),
    "td3+bc": Row(td3_bc),
    "anti-exploration": Row(anti_exploration),
    "ploff": Row(ploff),
    "mopo": Row(mopo),
}


def fit_row(
    name: str, data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ExplicitPolicy:
    """The actor-critic with a row of Table 1 at the strength hyper.dqp[name]."""
    if name not in ROWS:
        raise DataError(f"row: saw {name!r}, expected one of {', '.join(map(repr, ROWS))}.")
    row, alpha = ROWS[name], 0.0 if name == "none" else strength(name, hyper)
    penalty = row.penalty(alpha, data, hyper, budget, rng, store)
    # of the proxy
    key = dict(
        penalty=name, alpha=alpha, policy_lr=hyper.policy_lr, policy_steps=budget.policy_steps
    )
    return fit_actor_critic(data, penalty, key, hyper, budget, rng, store, row.samples)
