"""ARQ with the split-conformal epsilon (densities.conformal) in the place of e^-5: a method that
rows and kept policies name by its function.

    arq row bridge --method arq_core.experiments.calibrated:one_percent

Another delta is a function of three lines of yours that calls `arq_calibrated`.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.arq import behavior_support
from arq_core.algorithm.behavior import ScoreBehavior, fit_behavior
from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.qlearning import CRITICS, fit_q
from arq_core.algorithm.support import in_support_share
from arq_core.algorithm.types import SupportSet, Transitions
from arq_core.baselines.returns import warm_start
from arq_core.config.hyper import Budget, Hyper
from arq_core.densities.conformal import Relative, conformal_line, hold_out, recorded_log_prob
from arq_core.engine.store import Store, fingerprint
from arq_core.engine.streams import Streams
from arq_core.experiments.critics import of_candidates
from arq_core.experiments.methods import Trained

SHARE = 0.1  # of the episodes, held out from the clone; ours


def one_percent(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """ARQ + s_psi with the line that one in a hundred held-out actions falls below."""
    return arq_calibrated(data, hyper, budget, rng, store, 0.01)


def five_percent(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Trained:
    """ARQ + s_psi with the line that five in a hundred held-out actions fall below."""
    return arq_calibrated(data, hyper, budget, rng, store, 0.05)


def arq_calibrated(
    data: Transitions,
    hyper: Hyper,
    budget: Budget,
    rng: Streams,
    store: Store,
    delta: float,
    share: float = SHARE,
) -> Trained:
    """ARQ + s_psi, with a clone that a share of the episodes is held out from and a line of each
    seed that a share delta of their actions falls below; the critic learns from all of the data.

    DataError where too few actions can be held out for delta (conformal.order_of_line).
    """
    seen, held = hold_out(data, share)
    behavior = fit_behavior(seen, hyper, budget, rng, store)
    line = conformal_line(recorded_log_prob(behavior, held, rng.fork("held out")), delta)
    return arq_at(line, behavior, data, hyper, budget, rng, store)


def arq_at(
    line: Float[Tensor, " E"],
    behavior: ScoreBehavior,
    data: Transitions,
    hyper: Hyper,
    budget: Budget,
    rng: Streams,
    store: Store,
) -> Trained:
    """ARQ + s_psi with a clone that is there and a log epsilon (nats) of each seed."""
    relative = Relative(behavior, line[:, None, None])
    support = behavior_support(data, behavior, hyper, rng, store)
    support = SupportSet(support.actions, support.log_prob - relative.line)
    zero = replace(hyper, log_epsilon=0.0)
    start = warm_start(data, hyper, budget, rng, store, CRITICS)
    learned_on = dict(support=fingerprint(vars(support)))
    q = fit_q(data, support, zero, budget, rng, store, learned_on, start)
    policy = ImplicitPolicy(relative, q, hyper.alpha_arq, hyper.acting_n, 0.0)
    return Trained(policy, in_support_share(support, 0.0), *of_candidates(data, q, support, 0.0))
