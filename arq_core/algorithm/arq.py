"""Algorithm 1, action-restricted Q-learning, on one screen."""
from __future__ import annotations

from dataclasses import dataclass

from arq_core.algorithm.behavior import ScoreBehavior, fit_behavior
from arq_core.algorithm.policies import ExplicitPolicy, ImplicitPolicy, data_advantage, fit_awr
from arq_core.algorithm.qlearning import QEnsemble, fit_q
from arq_core.algorithm.support import sample_support
from arq_core.algorithm.types import SupportSet, Transitions
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import NoStore, Store, fingerprint
from arq_core.engine.streams import Streams


@dataclass(frozen=True)
class ARQ:
    """What Algorithm 1 returns: s_psi, Q_theta and pi_phi (if wanted), with the candidates that Q was learned on."""

    behavior: ScoreBehavior
    support: SupportSet
    q: QEnsemble
    policy: ExplicitPolicy | None

    def implicit(self, hyper: Hyper, log_epsilon: float | None) -> ImplicitPolicy:
        """ARQ + s_psi: Eq. 6 over fresh samples, filtered at `log_epsilon` (None: not filtered)."""
        return ImplicitPolicy(self.behavior, self.q, hyper.alpha_arq, hyper.n, log_epsilon)


def behavior_support(data: Transitions, behavior: ScoreBehavior, hyper: Hyper, rng: Streams, store: Store) -> SupportSet:
    """N candidates for every distinct state of the data, by the budget's sampler, with their log-density."""
    b = behavior.budget
    key = dict(model=fingerprint(behavior.net.state_dict()), data=data.fingerprint(), sampler=b.sampler, evaluations=b.sampler_steps,
               density=b.density, probes=b.probes, precision=b.precision)
    return sample_support(behavior, data.states, hyper.n, rng, store, key)


def arq(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store = NoStore(), explicit: bool = True) -> ARQ:
    """Algorithm 1. One member of `rng` is one seed; all seeds are trained at once. `store` keeps every step that is finished."""
    behavior = fit_behavior(data, hyper, budget, rng, store)                       # train s_psi by score matching
    support = behavior_support(data, behavior, hyper, rng, store)                  # N actions for each s in D, with log beta(a|s)
    q = fit_q(data, support, hyper, budget, rng, store, dict(support=fingerprint(vars(support))))                      # Eq. 5
    if not explicit:
        return ARQ(behavior, support, q, None)
    advantages = data_advantage(data, support, q, hyper.log_epsilon)
    key = dict(advantages=fingerprint(dict(a=advantages)))
    policy = fit_awr(data, advantages, hyper.alpha_pi, hyper, budget, rng, store, key)                                  # AWR
    return ARQ(behavior, support, q, policy)
