"""Eq. 4, the K-th largest, and the candidates of every state."""
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import chain, streams, tiny

from arq_core.artifacts import FileStore
from arq_core.behavior import fit_behavior
from arq_core.support import STATES_PER_BLOCK, in_support_share, kth_largest, sample_support
from arq_core.types import NoStore, SupportSet


def test_eq4_mask_keeps_what_is_at_least_epsilon_and_moves_with_it():
    support = SupportSet(torch.zeros(1, 1, 4, 1), torch.tensor([[[-6.0, -5.0, -4.9, 2.0]]]))
    assert support.mask(-5.0).tolist() == [[[False, True, True, True]]]
    assert support.mask(-4.95).tolist() == [[[False, False, True, True]]]
    assert in_support_share(support, -5.0).tolist() == [0.75]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=12), st.data())
def test_kth_largest_is_the_kth_of_the_sorted_support(values, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    k = data.draw(st.integers(1, len(values)))
    inside = sorted((v for v, m in zip(values, mask, strict=True) if m), reverse=True)
    expected = inside[k - 1] if len(inside) >= k else -float("inf")
    assert kth_largest(torch.tensor(values), torch.tensor(mask), k).item() == expected


def test_kth_largest_refuses_a_k_beyond_the_candidates():
    with pytest.raises(ValueError, match="k: saw 6, expected 1 to 5"):
        kth_largest(torch.zeros(5), torch.ones(5, dtype=torch.bool), 6)


@pytest.fixture(scope="module")
def behavior():
    h, b = tiny()
    return fit_behavior(chain(), h, b, streams(), NoStore())


def test_a_states_candidates_ignore_the_states_of_other_blocks(behavior):
    states = torch.randn(STATES_PER_BLOCK + 40, 3)
    both = sample_support(behavior, states, 4, streams(), NoStore(), {})
    other = sample_support(behavior, torch.cat([torch.randn(STATES_PER_BLOCK, 3), states[STATES_PER_BLOCK:]]), 4, streams(), NoStore(), {})
    assert torch.equal(both.actions[:, STATES_PER_BLOCK:], other.actions[:, STATES_PER_BLOCK:])
    assert both.actions.shape == (2, len(states), 4, 2) and both.log_prob.shape == (2, len(states), 4)


def test_interrupted_sampling_goes_on_and_gives_the_same_candidates(behavior, tmp_path, monkeypatch):
    states, store, calls = torch.randn(3 * STATES_PER_BLOCK, 3), FileStore(tmp_path), []
    whole = sample_support(behavior, states, 4, streams(), NoStore(), {})
    monkeypatch.setattr("arq_core.support.CHECKPOINT_SECONDS", 0.0)

    class Stops:
        def sample_with_log_prob(self, block, n, rng):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return behavior.sample_with_log_prob(block, n, rng)

    with pytest.raises(KeyboardInterrupt):
        sample_support(Stops(), states, 4, streams(), store, {})
    resumed = sample_support(Stops(), states, 4, streams(), store, {})
    assert len(calls) == 4
    assert torch.equal(resumed.actions, whole.actions) and torch.equal(resumed.log_prob, whole.log_prob)
