"""A profile that cannot afford all transitions learns from whole episodes, spread over the dataset,
and says so.
"""

import pytest
import torch

from arq_core.algorithm.types import Transitions
from arq_core.datasets.dataset import Dataset, thin


def dataset(lengths):
    m, e = sum(lengths), len(lengths)
    episode = torch.repeat_interleave(torch.arange(e), torch.tensor(lengths))
    # each episode has one state more than transitions
    state = torch.arange(m) + episode
    return Dataset(
        Transitions(
            states=torch.arange(m + e).float()[:, None],
            state=state,
            next_state=state + 1,
            rewards=torch.arange(m).float(),
            actions=torch.zeros(m, 1),
            terminals=torch.zeros(m, dtype=torch.bool),
            episode=episode,
        ),
        "0" * 64,
        "own",
        "here",
    )


@pytest.mark.parametrize("most", [10, 37, 99])
def test_thinning_keeps_whole_episodes_of_every_part(most):
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3] * 10
    whole, thinned = dataset(lengths).transitions, thin(dataset(lengths), most).transitions
    kept, counts = thinned.episode.unique(return_counts=True)
    assert len(thinned.actions) <= most and counts.tolist() == [lengths[e] for e in kept]
    assert kept[0] == 0 and kept.diff().max() - kept.diff().min() <= 1  # evenly spread
    for name in ("state", "next_state"):
        assert torch.equal(
            thinned.states[getattr(thinned, name)],
            whole.states[getattr(whole, name)[thinned.rewards.long()]],
        )
    # no state of a dropped episode is left
    assert len(thinned.states) == len(thinned.actions) + len(kept)


def test_thinning_says_what_it_did_and_keeps_the_hash():
    few = thin(dataset([5] * 20), 50)
    assert few.sha256 == "0" * 64 and few.notes[-1].startswith(
        "learned from 50 of 100 transitions: 10 of 20 episodes"
    )


@pytest.mark.parametrize("most", [0, 100, 1000])
def test_what_fits_is_left_as_it_is(most):
    data = dataset([5] * 20)
    assert thin(data, most) is data


def test_an_episode_longer_than_the_budget_is_cut():
    assert len(thin(dataset([100, 100]), 30).transitions.actions) == 30
