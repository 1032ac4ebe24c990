"""Critics of the behaviour policy by returns: Monte-Carlo, n steps, and lambda-returns.

SARSA (`qlearning.fit_q_beta`) bootstraps every step from the critic itself and takes many horizons
of its target's lag to arrive. A return needs no critic: it is what followed in the data, and
noisier for it. lambda-returns (Sutton and Barto 2018, 12.1) lie between: lambda = 0 is SARSA's
target, 1 the Monte-Carlo return. None of them is the paper's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.qlearning import QEnsemble, fit_critics, sarsa_values
from arq_core.algorithm.types import Transitions
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams

TAIL = 10  # rewards before a cut, whose mean is taken to go on behind it


def beyond(data: Transitions, gamma: float) -> Float[Tensor, " M"]:
    """What is taken to follow after the last transition of an episode, reward units: nothing after
    a terminal; after a cut, the mean of the last TAIL rewards for ever, since nothing else is known
    of it. 0 at other transitions.
    """
    value = torch.zeros_like(data.rewards, dtype=torch.float64)
    for last in ((data.next_transition < 0) & ~data.terminals).nonzero().squeeze(1).tolist():
        some = data.rewards[max(0, last - TAIL + 1) : last + 1]
        own = data.episode[max(0, last - TAIL + 1) : last + 1] == data.episode[last]
        value[last] = some[own].double().mean() / (1 - gamma)
    return value


def lambda_returns(
    data: Transitions,
    gamma: float,
    lambda_: float,
    values: Float[Tensor, "E M"],
    cut: Float[Tensor, " M"],
) -> Float[Tensor, "E M"]:
    """G = r + gamma·((1 - lambda)·V(s') + lambda·G(s')), from each episode's end backwards, reward
    units. `values` are V(s') = Q(s', a') of each transition that has a next one, and `cut` what
    `beyond` says of the others.
    """
    follows = data.next_transition >= 0
    first = torch.ones_like(follows)
    first[1:] = data.episode[1:] != data.episode[:-1]
    start = torch.arange(len(first), device=first.device)[first]
    length = torch.diff(start, append=torch.tensor([len(first)], device=start.device))
    returns = data.rewards + gamma * torch.where(follows, 0.0, cut.to(values.dtype)).expand_as(
        values
    )
    for back in range(2, int(length.max()) + 1):
        m = (start + length - back)[length >= back]
        g = (1 - lambda_) * values[:, m] + lambda_ * returns[:, m + 1]
        returns[:, m] = data.rewards[m] + gamma * g
    return returns


def monte_carlo(data: Transitions, gamma: float) -> Float[Tensor, " M"]:
    """The discounted return from each transition on, with `beyond` behind its episode's end."""
    nothing = torch.zeros(1, len(data.rewards), dtype=torch.float64, device=data.rewards.device)
    return lambda_returns(data, gamma, 1.0, nothing, beyond(data, gamma))[0].float()


def warm_start(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store, copies: int = 1
) -> QEnsemble | None:
    """Critics regressed on returns, for Q_beta or (with `copies`) ARQ's Q to go on from: where a
    one-step bootstrap would have to walk for hundreds of thousands of steps. None where the
    hyperparameters want random weights.
    """
    if not hyper.warm_start:
        return None
    how = dict(steps=hyper.warm_start, lr=hyper.warm_start_lr, copies=copies)
    return fit_returns(data, hyper, budget, rng, store, **how)


def fit_returns(
    data: Transitions,
    hyper: Hyper,
    budget: Budget,
    rng: Streams,
    store: Store,
    *,
    lambda_: float = 1.0,
    steps: int,
    lr: float,
    every: int = 100,
    copies: int = 1,
) -> QEnsemble:
    """Critics regressed on `lambda_returns`, which are computed anew every so many steps; at
    lambda = 1 they never change, and every transition is learned from.

    `copies` a seed, each from weights of its own: 2 is what ARQ starts from.
    """
    rows, cut = torch.arange(len(data.rewards), device=rng.device), beyond(data, hyper.gamma)
    v = torch.zeros(len(rng), len(rows), device=rng.device)
    going_on = (data.next_transition >= 0).nonzero().squeeze(1)

    def refresh(q_target: QEnsemble, taken: int) -> None:
        if taken % every or (lambda_ == 1 and taken):
            return
        values = torch.zeros(len(rng), len(rows), device=rng.device)
        if lambda_ < 1:
            some = going_on.expand(len(rng), -1)
            values[:, going_on] = sarsa_values(q_target, data, some)
        g = lambda_returns(data, hyper.gamma, lambda_, values.double(), cut)
        v.copy_((g - data.rewards) / hyper.gamma)

    key = dict(lambda_=lambda_, every=every, lr=lr, steps=steps)
    return fit_critics(
        f"returns-{copies}",
        copies,
        rows,
        data,
        hyper,
        budget,
        rng,
        store,
        key,
        v,
        lambda q_target, m: v.gather(1, m),
        refresh,
    )
