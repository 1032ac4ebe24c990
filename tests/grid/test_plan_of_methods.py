"""What the plan says of a method is what its policy does."""

import pytest
from problems import chain, streams, tiny

from arq_core.algorithm.behavior import ScoreBehavior
from arq_core.engine.store import NoStore
from arq_core.experiments import methods
from arq_core.grid import plan


@pytest.mark.parametrize("method", plan.METHODS)
def test_what_is_drawn_at_a_step_of_an_episode_is_declared(method, monkeypatch):
    """By watching the score model while the policy acts."""
    # what a policy draws does not depend on how long it was trained
    data, (hyper, budget) = chain(), tiny(score_steps=1, q_steps=1, q_beta_steps=1, policy_steps=1)
    policy = methods.METHODS[method](data, hyper, budget, streams(), NoStore()).policy
    drawn = set()

    def watched(draw):
        def call(self, states, n, rng, *clip):
            drawn.add(n)
            return draw(self, states, n, rng, *clip)

        return call

    for name in ("sample", "sample_with_log_prob"):
        monkeypatch.setattr(ScoreBehavior, name, watched(getattr(ScoreBehavior, name)))
    policy.reset(3)
    policy.act(data.states.expand(2, -1, -1)[:, :3], streams())
    assert (
        drawn == {"nothing": set(), "one": {1}, "n": {hyper.acting_n}}[plan.METHODS[method].draws]
    )
