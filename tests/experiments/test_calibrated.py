"""ARQ with the conformal line: found by its function, its line where it belongs, kept, loaded."""

import re

import numpy as np
import pytest
import torch
from problems import chain, streams, tiny

import arq_core as arq
from arq_core.algorithm.arq import behavior_support
from arq_core.algorithm.types import DataError
from arq_core.config import paths
from arq_core.densities.conformal import conformal_line, hold_out, recorded_log_prob
from arq_core.engine.store import NoStore
from arq_core.experiments.calibrated import arq_calibrated
from arq_core.experiments.own_method import find_method

NAME = "arq_core.experiments.calibrated:five_percent"


def test_of_what_was_held_out_the_policy_drops_the_order_that_was_promised():
    data, (hyper, budget) = chain(episodes=30), tiny()
    trained = arq_calibrated(data, hyper, budget, streams(), NoStore(), 0.1, 0.3)
    relative = trained.policy.behavior
    _, held = hold_out(data, 0.3)
    log_prob = recorded_log_prob(relative.behavior, held, streams().fork("held out"))
    line = conformal_line(log_prob, 0.1)
    assert torch.equal(relative.line[:, 0, 0], line)
    assert (log_prob < line[:, None]).sum(1).tolist() == [8, 8]  # floor(91 / 10) - 1 of 90
    assert trained.policy.log_epsilon == 0 and line[0] != line[1]


def test_what_its_critic_says_is_of_all_recorded_actions_and_of_candidates_above_each_seed_s_line():
    data, (hyper, budget) = chain(episodes=30), tiny()
    trained = arq_calibrated(data, hyper, budget, streams(), NoStore(), 0.1, 0.3)
    relative, q = trained.policy.behavior, trained.policy.q
    support = behavior_support(data, relative.behavior, hyper, streams(), NoStore())
    states = data.states[data.state].expand(2, -1, -1)
    recorded = q(states, data.actions[:, None].expand(2, -1, -1, -1)).squeeze(-1)
    drawn = q(states, support.actions[:, data.state])
    inside = support.log_prob[:, data.state] >= relative.line
    for seed in (0, 1):
        assert 0 < inside[seed].double().mean() < 1
        of_data = sum(recorded[seed].tolist()) / 300  # whole episodes were held out, and are in it
        of_candidates = drawn[seed][inside[seed]].double().mean().item()
        assert trained.q_data[seed].item() == pytest.approx(of_data, abs=1e-5)
        assert trained.q_candidates[seed].item() == pytest.approx(of_candidates, abs=1e-5)
        share = (support.log_prob[seed] >= relative.line[seed]).double().mean()
        assert trained.in_support[seed].item() == pytest.approx(share.item())


def test_too_few_episodes_end_in_one_error_before_the_critic():
    hyper, budget = tiny()
    with pytest.raises(DataError, match="saw 10, expected at least 99 for delta = 0.01"):
        arq_calibrated(chain(), hyper, budget, streams(), NoStore(), 0.01)


def test_it_is_a_method_by_its_function_and_its_policy_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    assert find_method(NAME)[0] == "five_percent"
    setup = arq.prepare("bridge", "toy", device="cpu")
    kept = arq.policy(setup, NAME, seed=setup.seeds[1])
    loaded = arq.load(kept.save(tmp_path / "it"))
    states = setup.dataset.transitions.states[:5].numpy()
    assert np.array_equal(kept.predict(states, seed=3), loaded.predict(states, seed=3))
    assert loaded.policy.behavior.line.shape == (1, 1, 1)


def test_the_methods_that_the_page_names_are_there():
    text = (paths.root() / "book/own_data.md").read_text("utf-8")
    named = set(re.findall(r"arq_core\.experiments\.calibrated:\w+", text))
    assert named and all(find_method(name)[0] in name for name in named)
