"""Importance sampling: what a policy is worth, by recorded episodes weighted by how much likelier
the policy makes their actions (Precup, Sutton and Singh 2000, "Eligibility Traces for Off-Policy
Policy Evaluation").

An implicit policy (Eq. 6) chooses among n draws of the clone beta. Its ratio to beta needs no
density: of a draw a, put among n - 1 others,

    pi(a|s)/beta(a|s) = n E[p(a | a, a_2, ..., a_n)],    a_j ~ beta,

with p as in Eq. 6, and one draw of the others is an unbiased estimate of it. The data are taken to
be drawn by beta, the clone: what the clone gets wrong, the estimate gets wrong. A policy that acts
by one action a state has no density, and no such estimate.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.policies import ImplicitPolicy, implicit_probabilities
from arq_core.algorithm.types import (
    Candidates,
    DataError,
    States,
    SupportSet,
    Transitions,
    Values,
    in_support,
)
from arq_core.baselines.fqe import first_rows
from arq_core.engine.streams import Streams

ROWS = 256  # states at once


def chances(
    policy: ImplicitPolicy, states: States, candidates: Candidates, log_prob: Values
) -> Values:
    """With which probability the policy takes each of its candidates (Eq. 6); where none is in the
    support, the first."""
    if policy.q is None:
        raise DataError("policy: saw one without a Q, expected one that chooses among candidates.")
    mask = torch.ones_like(log_prob, dtype=torch.bool)
    if policy.log_epsilon is not None:
        mask = in_support(log_prob, policy.log_epsilon)
        first = torch.arange(mask.shape[-1], device=mask.device) == 0
        mask = torch.where(mask.any(-1, keepdim=True), mask, first)
    return implicit_probabilities(policy.q(states, candidates), mask, policy.alpha, policy.logits)


@torch.no_grad()
def drawn_by(
    policy: ImplicitPolicy,
    states: Float[Tensor, "U S"],
    support: SupportSet,
    draws: int,
    rng: Streams,
) -> Float[Tensor, "E U d A"]:
    """`draws` actions of the policy at each state, all out of the same candidates, of which
    `support` has its n: the dear part, the clone's draws, is shared by policies that differ in Q,
    alpha or epsilon alone."""
    found, members = [], len(support.actions)
    for u in torch.arange(len(states), device=states.device).split(ROWS):
        candidates, log_prob = support.actions[:, u].clamp(-1, 1), support.log_prob[:, u]
        p = chances(policy, states[u].expand(members, -1, -1), candidates, log_prob)
        cumulative = p.cumsum(-1).contiguous()
        x = (1 - rng.rand(len(u), draws)) * cumulative[..., -1:]  # in (0, 1]: never where p = 0
        chosen = torch.searchsorted(cumulative, x).clamp(max=p.shape[-1] - 1)
        of_action = chosen[..., None].expand(*chosen.shape, candidates.shape[-1])
        found.append(candidates.gather(2, of_action))
    return torch.cat(found, 1)


@torch.no_grad()
def ratios(
    policy: ImplicitPolicy, data: Transitions, support: SupportSet | None, rng: Streams
) -> Float[Tensor, "E M"]:
    """pi(a|s)/beta(a|s) of each recorded action, estimated without bias from one draw of the other
    candidates. Where neither it nor another is in the support it is 1: the policy is beta there,
    and one without a Q is beta everywhere."""
    if policy.q is None:
        return torch.ones(len(rng), len(data.actions), device=data.actions.device)
    if support is None:
        raise DataError("support: saw none, expected the candidates at the states of the data.")
    members, n, found = len(support.actions), policy.n, []
    for m in torch.arange(len(data.actions), device=data.actions.device).split(ROWS):
        u, own = data.state[m], data.actions[m].expand(members, -1, -1)[:, :, None]
        states = data.states[u].expand(members, -1, -1)
        of_own = torch.zeros(members, len(m), 1, device=own.device)
        if policy.log_epsilon is not None:
            of_own = policy.behavior.log_prob(own, states, rng)
        candidates = torch.cat([own, support.actions[:, u, 1:n].clamp(-1, 1)], 2)
        log_prob = torch.cat([of_own, support.log_prob[:, u, 1:n]], 2)
        share = n * chances(policy, states, candidates, log_prob)[..., 0]
        if policy.log_epsilon is not None:
            share = torch.where(in_support(log_prob, policy.log_epsilon).any(-1), share, 1.0)
        found.append(share)
    return torch.cat(found, 1)


def weighted_return(
    data: Transitions, ratio: Float[Tensor, "E M"], gamma: float
) -> tuple[Float[Tensor, " E"], Float[Tensor, " E"]]:
    """The sum over episodes of w G over that of w, where w is the product of an episode's ratios
    and G its discounted return, reward units; and (sum of w)² over the sum of w², the number of
    episodes that this speaks of. NaN and 0 where every w is 0."""
    first = first_rows(data)
    which = torch.zeros_like(data.episode)
    which[first] = 1
    which = which.cumsum(0) - 1
    step = torch.arange(len(which), device=which.device) - first[which]
    discounted = data.rewards.double() * gamma ** step.double()
    returns = torch.zeros(len(first), dtype=torch.float64, device=first.device)
    returns.index_add_(0, which, discounted)
    log_w = torch.zeros(len(ratio), len(first), dtype=torch.float64, device=first.device)
    log_w.index_add_(1, which, ratio.double().log())
    top = log_w.amax(1, keepdim=True)
    w = torch.where(top.isinf(), 0.0, (log_w - top).exp())
    total = w.sum(1)
    effective = torch.where(total > 0, total.square() / w.square().sum(1).clamp(min=1e-300), 0.0)
    return (w * returns).sum(1) / total, effective
