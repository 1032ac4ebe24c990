"""Fitted Q evaluation: what a policy is worth, from recorded transitions alone (Le, Voloshin and
Yue 2019, "Batch Policy Learning under Constraints").

    L(Q) = E (r + gamma (1 - d) Q'(s', a') - Q(s, a))²,    a' ~ pi(s'),
    the estimate is E Q(s0, a0) over states in which episodes begin,    a0 ~ pi(s0)

Several policies are evaluated at once, each by several heads (Kostrikov and Nachum 2020,
"Statistical Bootstrapping for Uncertainty Estimation in Off-Policy Evaluation"): a head sees
episodes that were drawn again with replacement, and begins at other weights. Head h sees the same
episodes, batches and initial weights for every policy, so that differences of policies are less
noisy than their values. Policies times heads are the members of one network.

What is ours: actions at the states of the data are drawn once, a few each, and a step takes one of
them; states are standardised; values are learned in units of the recorded returns; critics begin as
regressions on these (`returns.monte_carlo`), since a bootstrap from random weights walks for long.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arq_core.algorithm.nets import Critic, Normalizer
from arq_core.algorithm.types import DataError, Policy, Transitions
from arq_core.baselines.returns import monte_carlo
from arq_core.densities.conformal import recordings
from arq_core.engine.store import Store, fingerprint
from arq_core.engine.streams import Streams
from arq_core.engine.train import train
from arq_core.engine.updates import Averaging, Update

STATES_AT_ONCE = 1_024  # at which a policy is asked
VALUES_AT_ONCE = 65_536  # (member, state, action) rows of an estimate


@dataclass(frozen=True)
class Fitting:
    """How critics are fitted: Adam's steps on returns and then on the Bellman error, its learning
    rate, batch, units of both layers, averaging of Q', heads a policy, actions drawn a state."""

    warm_steps: int = 500
    steps: int = 1_000
    lr: float = 1e-3
    batch: int = 128
    width: int = 64
    polyak: float = 0.9
    heads: int = 6
    draws: int = 4


def bellman_error(
    q: Float[Tensor, "*members B"],
    rewards: Float[Tensor, "*members B"],
    going_on: Float[Tensor, "*members B"],
    after: Float[Tensor, "*members B"],
    gamma: float,
) -> Float[Tensor, "*members"]:
    """Mean of (r + gamma (1 - d) Q'(s', a') - Q(s, a))², where `after` is Q'(s', a') (Le et al.
    2019, algorithm 3)."""
    return (rewards + gamma * going_on * after - q).square().mean(-1)


@torch.no_grad()
def actions_of(
    policy: Policy, states: Float[Tensor, "U S"], draws: int, rng: Streams
) -> Float[Tensor, "E U n A"]:
    """`draws` actions of each of E seeds' policies at each state. DataError for a policy that
    remembers its episode, whose action is not one of the state."""
    if callable(getattr(policy, "observe", None)):
        raise DataError(
            f"{type(policy).__name__}: saw a policy that remembers its episode, expected one that "
            "acts by the state alone; fitted Q evaluation has no value for it: leave it out."
        )
    found = []
    for some in states.split(STATES_AT_ONCE):
        policy.reset(len(some))
        asked = some.expand(len(rng), -1, -1)
        found.append(torch.stack([policy.act(asked, rng) for _ in range(draws)], 2))
    return torch.cat(found, 1)


def first_rows(data: Transitions) -> Int[Tensor, " N"]:
    """The row of each episode's first transition."""
    begins = torch.ones_like(data.terminals)
    begins[1:] = data.episode[1:] != data.episode[:-1]
    return begins.nonzero().squeeze(1)


def drawn_again(count: int, rng: Streams) -> Int[Tensor, "H N"]:
    """For each head as many of `count` episodes, drawn with replacement (Efron 1979)."""
    return rng.fork("fqe", "episodes").randint(count, count)


@dataclass(frozen=True)
class Episodes:
    """Where episodes lie among transitions, and which of them each head sees."""

    first: Int[Tensor, " N"]
    length: Int[Tensor, " N"]
    of_head: Int[Tensor, "H N"]

    @classmethod
    def of(cls, data: Transitions, rng: Streams) -> Episodes:
        """Those of the data, drawn again for each of rng's heads."""
        first = recordings(data)
        end = torch.tensor([len(data.actions)], device=first.device)
        return cls(first, first.diff(append=end), drawn_again(len(first), rng))

    def rows(self, u: Float[Tensor, "H B"]) -> Int[Tensor, "H B"]:
        """Transitions for u uniform on [0, 1): each one of a head's episodes is as likely, as often
        as its episode was drawn."""
        ends = self.length[self.of_head].cumsum(1)
        at = (u.double() * ends[:, -1:]).long().clamp(max=ends[:, -1:] - 1)
        which = torch.searchsorted(ends, at, right=True)
        before = ends.gather(1, which) - self.length[self.of_head.gather(1, which)]
        return self.first[self.of_head.gather(1, which)] + at - before


@dataclass(frozen=True)
class FQE:
    """Critics of P policies, `heads` each, policy by policy; values in reward units."""

    net: Critic
    heads: int
    normal: Normalizer
    scale: float
    of_head: Int[Tensor, "H N"]  # the episodes that each head saw
    loss: Tensor | None = None

    @torch.no_grad()
    def values(
        self, states: Float[Tensor, "N S"], actions: Float[Tensor, "P N n A"]
    ) -> Float[Tensor, "P H N"]:
        """What each head says of each policy at states, mean over the n actions drawn there."""
        policies, _, draws, _ = actions.shape
        members, found = policies * self.heads, []
        for rows in torch.arange(len(states)).split(max(1, VALUES_AT_ONCE // (members * draws))):
            s = self.normal(states[rows]).expand(members, -1, -1)
            a = actions[:, rows].repeat_interleave(self.heads, 0)
            found.append(self.net(s, a).mean(-1))
        return self.scale * torch.cat(found, 1).unflatten(0, (policies, self.heads))

    def estimates(
        self, states: Float[Tensor, "N S"], actions: Float[Tensor, "P N n A"], recorded: bool = True
    ) -> Float[Tensor, "P H"]:
        """The value of each policy by each head: the mean over states in which episodes begin.
        Where these are the recorded ones, a head's are those of the episodes that it saw."""
        values = self.values(states, actions)
        if not recorded:
            return values.mean(-1)
        return values.gather(2, self.of_head.expand(len(values), -1, -1)).mean(-1)


def fit_fqe(
    data: Transitions,
    next_actions: Float[Tensor, "P U n A"],
    gamma: float,
    how: Fitting,
    rng: Streams,
    store: Store,
) -> FQE:
    """Critics of P policies that draw `next_actions` at the states of the data; rng has one stream
    a head. DataError where nothing was paid, so that every policy would be worth nothing."""
    policies, heads = len(next_actions), len(rng)
    returns = monte_carlo(data, gamma)
    scale = float(returns.square().mean().sqrt())
    if scale == 0:
        raise DataError(
            f"rewards: saw 0 in all {len(data.rewards):,} transitions that policies are evaluated "
            "on, expected some others; without rewards all policies are worth the same: record "
            "them, or evaluate on more episodes."
        )
    normal = Normalizer.of(data.states)
    states, rewards = normal(data.states), data.rewards / scale
    going_on = (~data.terminals).float()
    episodes = Episodes.of(data, rng)
    draws, sizes = rng.fork("fqe"), (data.states.shape[1], data.actions.shape[1])
    warm = Critic(*sizes, rng.fork("fqe", "weights"), how.width).to(rng.device)
    key = dict(data=data.fingerprint(), seeds=rng.seeds, gamma=gamma, **vars(how))
    targets = returns / scale

    def of_returns() -> Float[Tensor, " H"]:
        m = episodes.rows(draws.rand(how.batch))
        q = warm(states[data.state[m]], data.actions[m][:, :, None]).squeeze(-1)
        return (targets[m] - q).square().mean(-1)

    update = Update("q", of_returns, how.lr)
    train("fqe_returns", key, dict(q=warm), [update], steps=how.warm_steps, rng=draws, store=store)

    net = Critic(*sizes, Streams(rng.seeds * policies, rng.device), how.width).to(rng.device)
    net.load_state_dict({k: torch.cat([v] * policies) for k, v in warm.state_dict().items()})
    target = copy.deepcopy(net).requires_grad_(False)
    draws, policy = rng.fork("fqe", "steps"), torch.arange(policies, device=rng.device)[:, None]

    def of_bellman() -> Float[Tensor, " PH"]:
        m = episodes.rows(draws.rand(how.batch))  # of a head, the same for every policy
        which = draws.randint(next_actions.shape[2], how.batch)
        m, which = m.repeat(policies, 1), which.repeat(policies, 1)
        u, p = data.next_state[m], policy.repeat_interleave(heads, 0)
        a = next_actions[p, u, which]
        with torch.no_grad():
            after = target(states[u], a[:, :, None]).squeeze(-1)
        q = net(states[data.state[m]], data.actions[m][:, :, None]).squeeze(-1)
        return bellman_error(q, rewards[m], going_on[m], after, gamma)

    key = key | dict(actions=fingerprint(dict(actions=next_actions)))
    update = Update("q", of_bellman, how.lr, after=[Averaging(target, net, how.polyak)])
    modules = dict(q=net, target=target)
    curve = train("fqe", key, modules, [update], steps=how.steps, rng=draws, store=store)["q"]
    return FQE(target, heads, normal, scale, episodes.of_head, curve)
