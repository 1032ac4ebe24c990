"""The contract of every method: it learns, it is deterministic, it resumes from its files."""

import pytest
import torch
from matplotlib import pyplot as plt
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError
from arq_core.engine.store import NoStore
from arq_core.experiments.methods import METHODS
from arq_core.experiments.own_method import same_actions
from arq_core.figures import common


@pytest.mark.parametrize("method", METHODS)
def test_method_acts_deterministically_given_its_streams_and_again_from_its_files(method, tmp_path):
    states = torch.randn(2, 6, 3)
    actions = same_actions(method, METHODS[method], chain(), *tiny(), states, str(tmp_path))
    assert actions.shape == (2, 6, 2)


@pytest.mark.parametrize("method", ["s_psi", "arq+s_psi"])
def test_a_state_of_another_dimension_is_refused(method):
    data, (h, b) = chain(), tiny()
    policy = METHODS[method](data, h, b, streams(), NoStore()).policy
    with pytest.raises(DataError, match="states: saw dimension 4, expected 3"):
        policy.act(torch.randn(2, 6, 4), streams())


def test_in_support_share_is_reported_by_every_method_with_a_support():
    data, (h, b) = chain(), tiny()
    share = METHODS["arq+s_psi"](data, h, b, streams(), NoStore()).in_support
    assert share.shape == (2,) and ((0 <= share) & (share <= 1)).all()


def test_rows_of_every_method_can_be_drawn():
    figure, ax = plt.subplots()
    common.draw_seed_scores(
        ax,
        [dict(method=m, seed=seed, score=1.0) for m in METHODS for seed in (0, 1)],
        list(METHODS),
    )
    assert len(ax.get_yticklabels()) == len(METHODS)
    plt.close(figure)
