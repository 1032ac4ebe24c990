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
    """What Algorithm 1 returns: s_psi, what Q was learned on, Q_theta, pi_phi (None: unwanted)."""

    behavior: ScoreBehavior
    support: SupportSet
    q: QEnsemble
    policy: ExplicitPolicy | None

    def implicit(self, hyper: Hyper, log_epsilon: float | None) -> ImplicitPolicy:
        """ARQ + s_psi: Eq. 6 over fresh samples, filtered at `log_epsilon` (None: not filtered)."""
        return ImplicitPolicy(self.behavior, self.q, hyper.alpha_arq, hyper.acting_n, log_epsilon)


def arq(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store | None = None,
        explicit: bool = True, start: QEnsemble | None = None) -> ARQ:
    """Algorithm 1. One member of `rng` is one seed; all seeds are trained at once.

    `store` keeps finished steps (None: none), `explicit` asks for pi_phi, Q goes on from `start`.
    """
    store = store or NoStore()
    behavior = fit_behavior(data, hyper, budget, rng, store)          # s_psi, by score matching
    support = behavior_support(data, behavior, hyper, rng, store)     # N actions for each s in D
    learned_on = dict(support=fingerprint(vars(support)))
    q = fit_q(data, support, hyper, budget, rng, store, learned_on, start)      # Q_theta, Eq. 5
    if not explicit:
        return ARQ(behavior, support, q, None)
    advantages = data_advantage(data, support, q, hyper.log_epsilon)
    learned_on = dict(advantages=fingerprint(dict(a=advantages)))
    policy = fit_awr(data, advantages, hyper.alpha_pi, hyper, budget, rng, store, learned_on)
    return ARQ(behavior, support, q, policy)


def behavior_support(data: Transitions, behavior: ScoreBehavior, hyper: Hyper, rng: Streams,
                     store: Store) -> SupportSet:
    """N candidates, with log-density, for every distinct state, by the budget's sampler."""
    b = behavior.budget
    key = dict(model=fingerprint(behavior.net.state_dict()), data=data.fingerprint(),
               sampler=b.sampler, evaluations=b.sampler_steps, density=b.density, probes=b.probes,
               precision=b.precision)
    support = sample_support(behavior, data.states, hyper.n, rng, store, key)
    assert support is not None                                        # of one part, so it is whole
    return support
