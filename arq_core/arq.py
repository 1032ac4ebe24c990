"""Algorithm 1, action-restricted Q-learning, on one screen."""
from __future__ import annotations

from dataclasses import dataclass

from arq_core.behavior import ScoreBehavior, fit_behavior
from arq_core.policies import ExplicitPolicy, ImplicitPolicy, data_advantage, fit_awr
from arq_core.qlearning import QEnsemble, fit_q
from arq_core.streams import Streams
from arq_core.support import sample_support
from arq_core.types import Budget, Hyper, NoStore, Store, SupportSet, Transitions, fingerprint


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
