"""Cloning by squared error: its loss by hand, a training of two steps on plain networks."""

import math
from dataclasses import replace

import pytest
import torch
from plain import Adam, Kept, assert_same, mlp, weights_of
from problems import chain, streams, tiny

from arq_core.algorithm.types import DataError
from arq_core.baselines.bc_mse import fit_bc_mse, squared_error
from arq_core.engine.store import NoStore


def test_squared_error_by_hand():
    """Deviations 1, 2 and 0, 3 of two actions: (1 + 4 + 0 + 9)/4."""
    means = torch.tensor([[[1.0, 2.0], [0.0, 3.0]]])
    assert squared_error(means, torch.zeros(1, 2, 2)).tolist() == [3.5]


def saved_after(steps, hyper, data):
    store = Kept()
    fit_bc_mse(data, hyper, tiny(bc_mse_steps=steps)[1], streams(), store)
    return store.files["bc_mse"]


@pytest.mark.parametrize("schedule, shares", [("cosine", (1.0, 0.5)), ("constant", (1.0, 1.0))])
def test_two_steps_are_those_of_plain_networks(schedule, shares):
    """Half a cosine over two steps: the whole rate, and half of it."""
    data, (hyper, _) = chain(), tiny()
    own = dict(hyper.bc_mse, width=8, batch=16, dropout=0.0, schedule=schedule)
    hyper = replace(hyper, bc_mse=own)
    start, end = saved_after(0, hyper, data), saved_after(2, hyper, data)
    draws = streams().fork("bc_mse")
    batches = [draws.randint(len(data.actions), 16) for _ in shares]
    for e in range(2):
        w = weights_of(start, e)
        adam = Adam(w, "actor", own["lr"])
        for m, share in zip(batches, shares, strict=True):
            mean = mlp(w, "actor.net.layers", data.states[data.state[m[e]]]).tanh()
            adam.step((mean - data.actions[m[e]]).square().mean(), share)
        assert_same(w, end, e, "actor")


def test_weights_start_orthogonal_or_as_pytorchs():
    data, (hyper, _) = chain(), tiny()
    for kind in ("orthogonal", "uniform"):
        own = replace(hyper, bc_mse=dict(hyper.bc_mse, weights=kind, width=8))
        hidden = saved_after(0, own, data)["actor.net.layers.1.weight"]
        orthogonal = torch.allclose(hidden @ hidden.mT, 2 * torch.eye(8), atol=1e-5)
        assert orthogonal == (kind == "orthogonal")
        assert orthogonal or hidden.abs().max() <= 1 / math.sqrt(8)


def test_dropped_units_change_the_training_and_not_the_acting():
    data, (hyper, budget) = chain(), tiny()
    states, acted = torch.randn(2, 5, 3), []
    for share in (0.0, 0.5):
        own = replace(hyper, bc_mse=dict(hyper.bc_mse, dropout=share))
        policy = fit_bc_mse(data, own, budget, streams(), NoStore())
        acted.append(policy.act(states, streams()))
        assert torch.equal(acted[-1], policy.act(states, streams(5, 6)))
    assert not torch.equal(*acted)


def test_a_setting_that_is_missing_or_unknown_is_named():
    data, (hyper, budget) = chain(), tiny()
    for own, message in (
        ({k: v for k, v in hyper.bc_mse.items() if k != "dropout"}, "bc_mse: saw no dropout among"),
        (dict(hyper.bc_mse, schedule="cosin"), "bc_mse.schedule: saw 'cosin', expected one of"),
        (dict(hyper.bc_mse, weights=1.0), "bc_mse.weights: saw 1.0, expected one of"),
    ):
        with pytest.raises(DataError, match=message):
            fit_bc_mse(data, replace(hyper, bc_mse=own), budget, streams(), NoStore())
