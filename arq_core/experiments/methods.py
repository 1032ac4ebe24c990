"""Every policy that a table compares, by its name in the tables: one line a method in METHODS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.arq import ARQ, arq, behavior_support
from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.policies import ImplicitPolicy, fit_awr
from arq_core.algorithm.qlearning import CRITICS, fit_q, fit_q_beta
from arq_core.algorithm.support import in_support_share, sample_support
from arq_core.algorithm.types import Policy, Transitions
from arq_core.baselines.awac import fit_awac
from arq_core.baselines.bc_gmm import fit_bc_gmm
from arq_core.baselines.bc_mse import fit_bc_mse
from arq_core.baselines.bcq import fit_bcq
from arq_core.baselines.cql import fit_cql
from arq_core.baselines.dt import fit_dt
from arq_core.baselines.ibc import fit_ibc, fit_ibc_small
from arq_core.baselines.idql import fit_idql
from arq_core.baselines.iql import fit_iql
from arq_core.baselines.neighbours import Settings
from arq_core.baselines.one_step import fit_one_step
from arq_core.baselines.penalised import ROWS, fit_row
from arq_core.baselines.rebrac import fit_rebrac
from arq_core.baselines.returns import warm_start
from arq_core.baselines.td3_bc import fit_td3_bc
from arq_core.baselines.uniform import UniformBehavior
from arq_core.config import own_methods
from arq_core.config.hyper import NEIGHBOURS, Budget, Hyper
from arq_core.engine.store import Store, fingerprint
from arq_core.engine.streams import Streams
from arq_core.experiments.critics import of_candidates


@dataclass(frozen=True)
class Trained:
    """A policy, and the share of its N candidates per state that passed epsilon, one number per
    seed (None: it uses no support).

    `q_data` and `q_candidates` are what its critic says on average of recorded actions and of the
    candidates in their place (`critics.of_candidates`; None: it has no critic or no candidates).
    """

    policy: Policy
    in_support: Float[Tensor, " E"] | None = None
    q_data: Float[Tensor, " E"] | None = None
    q_candidates: Float[Tensor, " E"] | None = None


def random(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store) -> Trained:
    """Uniform actions."""
    return Trained(ImplicitPolicy(UniformBehavior(data.actions.shape[1]), None, 0.0, 1, None))


def bc(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store) -> Trained:
    """Behaviour cloning with pi_phi's own head: AWR at alpha = 0."""
    none = torch.zeros(len(rng), len(data.actions), device=rng.device)
    return Trained(fit_awr(data, none, 0.0, hyper, budget, rng, store, {}, name="bc"))


def unconstrained(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """Q-learning without a restriction: the maximum, and the greedy policy, range over uniform
    actions of the whole box.
    """
    anything = UniformBehavior(data.actions.shape[1])
    everywhere = replace(hyper, log_epsilon=-math.inf, k=1)
    support = sample_support(
        anything,
        data.states,
        hyper.n,
        rng.fork("unconstrained"),
        store,
        dict(uniform=data.fingerprint()),
    )
    q = fit_q(
        data,
        support,
        everywhere,
        budget,
        rng.fork("unconstrained"),
        store,
        dict(support=fingerprint(vars(support))),
    )
    said = of_candidates(data, q, support, -math.inf)
    return Trained(ImplicitPolicy(anything, q, math.inf, hyper.acting_n, None), None, *said)


def s_psi(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store) -> Trained:
    """The cloned behaviour policy alone: Eq. 6 at alpha = 0, one unfiltered sample."""
    behavior = fit_behavior(data, hyper, budget, rng, store)
    return Trained(ImplicitPolicy(behavior, None, 0.0, 1, None))


def q_beta_s_psi(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """The ablation: the behaviour's own value in the place of ARQ's, over in-support samples."""
    behavior = fit_behavior(data, hyper, budget, rng, store)
    support = behavior_support(data, behavior, hyper, rng, store)
    q = fit_q_beta(data, hyper, budget, rng, store, warm_start(data, hyper, budget, rng, store))
    return Trained(
        ImplicitPolicy(behavior, q, hyper.alpha_q_beta, hyper.acting_n, hyper.log_epsilon),
        in_support_share(support, hyper.log_epsilon),
        *of_candidates(data, q, support, hyper.log_epsilon),
    )


def arq_pi(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store) -> Trained:
    """ARQ with the explicit policy."""
    start = warm_start(data, hyper, budget, rng, store, CRITICS)
    result = arq(data, hyper, budget, rng, store, start=start)
    return _trained(result.policy, result, data, hyper.log_epsilon)


def arq_s_psi(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """ARQ with the implicit policy, filtered."""
    start = warm_start(data, hyper, budget, rng, store, CRITICS)
    result = arq(data, hyper, budget, rng, store, explicit=False, start=start)
    return _trained(result.implicit(hyper, hyper.log_epsilon), result, data, hyper.log_epsilon)


def arq_s_psi_unfiltered(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """ARQ + s_psi with the filter off, in Eq. 5 as in Eq. 6: what epsilon is for."""
    open_ = replace(hyper, log_epsilon=-math.inf)
    start = warm_start(data, hyper, budget, rng, store, CRITICS)
    result = arq(data, open_, budget, rng, store, explicit=False, start=start)
    return _trained(result.implicit(open_, None), result, data, hyper.log_epsilon)


def _trained(policy: Policy, result: ARQ, data: Transitions, log_epsilon: float) -> Trained:
    share = in_support_share(result.support, log_epsilon)
    return Trained(policy, share, *of_candidates(data, result.q, result.support, log_epsilon))


def dqp(
    row: str, data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """Direct Q-penalisation: an actor-critic with a row of Table 1."""
    return Trained(fit_row(row, data, hyper, budget, rng, store))


# the other columns of Table A.4, and two of today: name -> training of a policy
FITS: dict[str, Callable[[Transitions, Hyper, Budget, Streams, Store], Policy]] = {
    "bc-mse": fit_bc_mse,
    "bc-gmm": fit_bc_gmm,
    "ibc": fit_ibc,
    "ibc-small": fit_ibc_small,
    "one_step": fit_one_step,
    "dt": fit_dt,
    "awac": fit_awac,
    "td3+bc": fit_td3_bc,
    "bcq": fit_bcq,
    "cql": fit_cql,
    "iql": fit_iql,
    "idql": fit_idql,
    "rebrac": fit_rebrac,
}


def neighbour(
    name: str, data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """A neighbour of ARQ, with its authors' settings; `data` have its own rewards (`reward_of`)."""
    return Trained(FITS[name](data, hyper, budget, rng, store))


def reward_of(method: str, hyper: Hyper) -> str:
    """What a method makes of the recorded rewards (datasets.rewards.REWARDS): the paper's, or a
    neighbour's own."""
    if method not in FITS:
        return hyper.reward
    own = Settings(method, getattr(hyper, NEIGHBOURS[method]), ["reward"])
    return str(own.given["reward"])


def installed(
    name: str, data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """A method that another package registers (own_methods.GROUP), imported when it is trained."""
    from arq_core.experiments.own_method import adapted  # late: it imports this module

    fit = adapted(name, own_methods.installed()[name].load())
    return fit(data, hyper, budget, rng, store)


METHODS: dict[str, Callable[[Transitions, Hyper, Budget, Streams, Store], Trained]] = {
    "random": random,
    "bc": bc,
    "unconstrained": unconstrained,
    "s_psi": s_psi,
    "q_beta+s_psi": q_beta_s_psi,
    "arq+pi": arq_pi,
    "arq+s_psi": arq_s_psi,
    "arq+s_psi unfiltered": arq_s_psi_unfiltered,
    **{name: partial(neighbour, name) for name in FITS},
    **{f"dqp {row}": partial(dqp, row) for row in ROWS},
    **{name: partial(installed, name) for name in own_methods.installed()},
}
