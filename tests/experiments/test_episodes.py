"""Episodes: what is counted, and what comes after the end is not."""

import numpy as np
import pytest
import torch
from problems import streams

from arq_core.algorithm.types import DataError
from arq_core.experiments.episodes import check_dimensions, evaluate


class Countdown:
    """State (steps left, seed); reward 1 a step; ends when no step is left; success on a large
    action.
    """

    state_dim, action_dim = 2, 1

    def reset(self, seeds):
        self.left, self.seeds = np.array([1 + s % 5 for s in seeds]), np.array(seeds)
        return self._states()

    def _states(self):
        return np.stack([self.left, self.seeds], 1).astype(np.float32)

    def step(self, actions):
        self.left = self.left - 1
        return self._states(), np.ones(len(self.left)), self.left <= 0, actions[:, 0] > 0.5


class Constant:
    def __init__(self, value):
        self.value, self.seen = value, []

    def reset(self, n):
        self.n = n

    def act(self, states, rng):
        self.seen.append(states)
        return torch.full((*states.shape[:2], 1), self.value)


def test_rewards_after_the_end_do_not_count_and_the_horizon_cuts():
    policy = Constant(0.0)
    got = evaluate(policy, Countdown(), 20, streams(3, 4), horizon=3)
    left = policy.seen[0][..., 0].numpy()
    assert np.array_equal(got["return"], np.minimum(left, 3)) and np.array_equal(
        got["length"], np.minimum(left, 3)
    )
    assert policy.n == 20 and not got["success"].any()


def test_success_at_any_step_counts():
    assert evaluate(Constant(1.0), Countdown(), 4, streams(), horizon=3)["success"].all()


def test_a_members_episodes_are_the_same_whoever_is_evaluated_beside_it():
    together, alone = Constant(0.0), Constant(0.0)
    evaluate(together, Countdown(), 6, streams(3, 4), horizon=2)
    evaluate(alone, Countdown(), 6, streams(4), horizon=2)
    assert torch.equal(together.seen[0][1:], alone.seen[0])


def test_an_environment_of_another_dimension_is_refused():
    with pytest.raises(DataError, match="environment: saw states of dimension 2, expected 7"):
        check_dimensions(Countdown(), 7, 1)
    with pytest.raises(DataError, match="environment: saw actions of dimension 1, expected 6"):
        check_dimensions(Countdown(), 2, 6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_policy_that_diverged_is_refused_and_not_scored(value):
    """The bridge takes NaN sideways for a step that never falls: its return would be perfect."""
    with pytest.raises(DataError, match="not finite in 8 of 8 episodes at step 0"):
        evaluate(Constant(value), Countdown(), 4, streams(3, 4), horizon=3)
    waits = Constant(0.0)
    waits.act = lambda states, rng: torch.where(states[..., :1] > 0, 0.0, float("nan"))
    evaluate(
        waits, Countdown(), 4, streams(), horizon=9
    )  # what comes after an end is not looked at


def test_a_policy_that_observes_is_told_what_each_step_earned_and_nothing_behind_the_end():
    policy, told = Constant(0.0), []
    policy.observe = told.append
    got = evaluate(policy, Countdown(), 20, streams(3, 4), horizon=3)
    left = policy.seen[0][..., 0]
    for t, rewards in enumerate(told):
        assert rewards.dtype == torch.float32 and torch.equal(rewards, (left > t).float())
    assert len(told) == len(policy.seen) == 3
    assert np.array_equal(torch.stack(told).sum(0).numpy(), got["return"])
