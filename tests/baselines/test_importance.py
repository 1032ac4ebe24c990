"""Ratios of an implicit policy to its clone, against the sum over everything that can be drawn."""

import math
from itertools import product

import pytest
import torch
from problems import chain, streams

from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.types import DataError, SupportSet, Transitions
from arq_core.baselines.importance import chances, drawn_by, ratios, weighted_return

PLACES, BETA = [-0.5, 0.0, 0.5], [0.6, 0.3, 0.1]  # actions, and how likely the clone does them
WORTH, N = [1.0, 3.0, 2.0], 3


class Three:
    """A clone of three actions, whose draws the tests give."""

    def sample(self, states, n, rng):
        raise NotImplementedError

    def sample_with_log_prob(self, states, n, rng, clip=False):
        raise NotImplementedError

    def log_prob(self, actions, states, rng):
        return torch.tensor(BETA).log()[self.which(actions)]

    @staticmethod
    def which(actions):
        return (actions[..., 0] / 0.5 + 1).round().long()


class Worth:
    """What each of them is worth."""

    def __call__(self, states, actions):
        return torch.tensor(WORTH)[Three.which(actions)]


def _policy(alpha, log_epsilon):
    return ImplicitPolicy(Three(), Worth(), alpha, N, log_epsilon)


def _exact(policy) -> list[float]:
    """The policy's probability of each action: over all draws of n candidates."""
    total = [0.0] * 3
    for drawn in product(range(3), repeat=N):
        actions = torch.tensor([PLACES[i] for i in drawn])[None, None, :, None]
        log_prob = torch.tensor([BETA[i] for i in drawn]).log()[None, None]
        p = chances(policy, torch.zeros(1, 1, 1), actions, log_prob)[0, 0]
        chance = math.prod(BETA[i] for i in drawn)
        for i, share in zip(drawn, p.tolist(), strict=True):
            total[i] += chance * share
    return total


@pytest.mark.parametrize("log_epsilon", [None, math.log(0.2), math.log(0.5), math.log(0.9)])
@pytest.mark.parametrize("alpha", [0.7, math.inf])
def test_the_mean_ratio_is_the_policys_density_over_the_clones(alpha, log_epsilon):
    policy, exact = _policy(alpha, log_epsilon), _exact(_policy(alpha, log_epsilon))
    assert sum(exact) == pytest.approx(1, abs=1e-5)
    others = list(product(range(3), repeat=N))  # the first is replaced by the recorded action
    drawn = torch.tensor([[PLACES[i] for i in o] for o in others])[None, ..., None]
    log_prob = torch.tensor([[BETA[i] for i in o] for o in others]).log()[None]
    weight = torch.tensor([math.prod(BETA[i] for i in o[1:]) * BETA[o[0]] for o in others])
    for own in range(3):
        count = len(others)
        data = Transitions(
            torch.arange(count)[:, None].float(),
            torch.arange(count),
            torch.arange(count),
            torch.full((count, 1), PLACES[own]),
            torch.zeros(count),
            torch.ones(count).bool(),
            torch.arange(count),
        )
        found = ratios(policy, data, SupportSet(drawn, log_prob), streams(0))[0]
        assert float((weight * found).sum()) == pytest.approx(exact[own] / BETA[own], rel=1e-4)


def test_draws_are_as_frequent_as_the_policy_chooses():
    states, count = torch.zeros(2_000, 1), 2_000
    actions = torch.tensor(PLACES)[None, None, :, None].expand(1, count, 3, 1)
    log_prob = torch.tensor(BETA).log().expand(1, count, 3)
    policy = _policy(0.7, math.log(0.2))  # the third is outside
    drawn = drawn_by(policy, states, SupportSet(actions, log_prob), 4, streams(0))
    assert drawn.shape == (1, count, 4, 1)
    share = (Three.which(drawn) == 1).double().mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(0.7 * (1 - 3))), abs=0.02)
    assert not (Three.which(drawn) == 2).any()


def test_a_clone_that_chooses_nothing_has_a_ratio_of_one_and_no_chances():
    plain, data = ImplicitPolicy(Three(), None, 0.0, 1, None), chain(4, 3)
    assert torch.equal(ratios(plain, data, None, streams()), torch.ones(2, 12))
    with pytest.raises(DataError, match="without a Q"):
        chances(plain, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))


def test_weighted_return_is_the_sum_written_out():
    data = chain(episodes=3, length=2)
    ratio = torch.tensor([[2.0, 0.5, 1.0, 3.0, 0.5, 0.5], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]])
    g = [data.rewards[2 * i].item() + 0.9 * data.rewards[2 * i + 1].item() for i in range(3)]
    weights = [1.0, 3.0, 0.25]
    expected = sum(w * x for w, x in zip(weights, g, strict=True)) / 4.25
    found, episodes = weighted_return(data, ratio, 0.9)
    assert found[0].item() == pytest.approx(expected, rel=1e-6)
    assert episodes[0].item() == pytest.approx(4.25**2 / (1 + 9 + 0.0625))
    assert math.isnan(found[1]) and episodes[1] == 0
