"""The widget that runs a policy: its noise is Threefry's, its walk is the project's own, and what
it says is what happened. (That the page computes the same: test_walk_browser.py.)
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from walkers import briefly_trained, opening

from arq_core.algorithm.types import in_support
from arq_core.envs.bridge import HALF_WIDTH, PLANKS, START_STRAY, BridgeEnvs, middle
from arq_core.experiments.in_page import bridge_walk, in_page
from arq_core.widgets.noise import Noise, normal_pair, starts, threefry, uniform
from arq_core.widgets.walk import Walk
from arq_core.widgets.walking import BRIDGE, LARGEST, look, rounded, walk

MOST_BYTES = 400_000


@pytest.fixture(scope="module")
def shown():
    return bridge_walk(*briefly_trained(), walkers=20, **opening())


def test_it_opens_where_the_filter_can_be_seen(shown):
    assert bridge_walk(*briefly_trained(), walkers=1, n=6).plank == shown.plank
    seen = look(shown._policy(), shown.plank, shown.seed)
    kept = seen.log_prob >= shown.trained.policy.log_epsilon
    assert kept.any() and seen.q[~kept].max() > seen.q[kept].max()


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_noise_is_threefry_by_its_authors_known_answers(key, counter, words):
    first, second = (np.array([c], np.uint32) for c in counter)
    assert tuple(threefry(key, first, second)[:, 0]) == words


def test_noise_is_normal_and_uniform():
    words = threefry((7, 0), np.arange(20_000), np.zeros(20_000))
    pair, u = normal_pair(words), uniform(words[1])
    assert np.abs(pair.mean(0)).max() < 0.03 and np.abs(np.cov(pair.T) - np.eye(2)).max() < 0.04
    assert 0 <= u.min() and u.max() < 1 and np.abs(np.histogram(u, 10)[0] / 2_000 - 1).max() < 0.1
    assert (np.abs(starts(3, 1_000)) <= 1).all() and np.ptp(starts(3, 1_000)) > 1.9


def test_noise_of_a_candidate_does_not_depend_on_what_else_is_drawn():
    many, few = Noise(5, 2, range(9)), Noise(5, 2, [4])
    assert torch.equal(many.randn(9, 30, 2)[:, 4, :6], few.randn(1, 6, 2)[:, 0])
    assert torch.equal(many.rand(9)[:, 4], few.rand(1)[:, 0])
    assert not torch.equal(Noise(5, 3, [4]).rand(1), few.rand(1))


@pytest.mark.parametrize("draw", [lambda n: n.randn(2, 6, 3), lambda n: n.rand(3)])
def test_noise_for_another_shape_is_refused(draw):
    with pytest.raises(ValueError, match="Noise: saw"):
        draw(Noise(1, 0, [0, 1]))


def test_weights_are_rounded_to_16_bits_and_damaged_ones_named():
    x = np.random.default_rng(0).standard_normal((8, 9)).astype(np.float32)
    codes, unit = rounded("w", x)
    assert codes.dtype == np.int16 and np.abs(codes * unit - x).max() <= np.abs(x).max() / LARGEST
    x[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"w: saw 1 of 72 values that are not finite"):
        rounded("w", x)


def test_its_walk_is_what_the_policy_and_the_bridge_do_with_that_noise(shown):
    policy = shown.trained.policy
    envs = BridgeEnvs(20)
    states = envs.place(np.stack([np.zeros(20), START_STRAY * starts(shown.seed, 20)], 1))
    walked, alive = shown.walked(), np.ones(20, bool)
    for step in range(PLANKS):
        apart = walked.states[step][alive, 1] - states[alive, 1]
        assert np.abs(apart).max() < 1e-6  # sums of other batches are rounded otherwise
        action = policy.act(torch.as_tensor(states)[None], Noise(shown.seed, step, range(20)))[0]
        states, _, ended, success = envs.step(action.numpy())
        assert np.array_equal(walked.arrived[alive & ended], success[alive & ended])
        assert (walked.steps[alive & ended] == step + 1).all()
        alive &= ~ended
    assert not alive.any() and 0 < walked.arrived.sum() < 20
    off = np.abs(walked.states[walked.steps, np.arange(20), 1] - middle(walked.steps)) > HALF_WIDTH
    assert np.array_equal(off, ~walked.arrived)


def test_what_is_earned_and_believed_are_the_discounted_return_and_q(shown):
    policy, hyper = briefly_trained()
    plain = walk(BRIDGE, replace(shown.trained.policy, log_epsilon=-math.inf), 1.0, 20, 1)
    assert plain.empty == 0 and plain.earned < plain.arrived.mean() + 1
    fallen = (~plain.arrived).mean()
    assert -fallen <= plain.earned <= 1 - 2 * fallen + fallen * (PLANKS - 1) / PLANKS
    assert shown.walked().believed != plain.believed


def test_the_sentence_counts_what_eq4_keeps(shown):
    for at in range(0, len(shown.lines), 3):
        shown.epsilon_at = at
        choice = look(shown._policy(), shown.plank, shown.seed)
        kept = int(in_support(torch.from_numpy(choice.log_prob), shown.lines[at]).sum())
        told = f"{kept} of {shown.n} candidates are in support" if kept else "none of 6 candidates"
        assert told in shown.finding()
        if not kept:
            assert choice.chosen[0] == 0
    assert "none of 6" in shown.finding() and "the first draw was taken" in shown.finding()
    shown.epsilon_at = 0
    assert shown.finding().startswith("No filter, α = 30, N = 6: ")
    shown.k = 7
    assert "there are fewer than K = 7" in shown.finding()


def test_traits_say_where_the_walkers_went(shown):
    fresh = bridge_walk(*briefly_trained(), walkers=20, **opening())
    walked = fresh.walked()
    assert fresh.crossed == walked.arrived.sum()
    assert np.shape(fresh.positions) == (PLANKS + 1, 20, 2)
    ends = np.array(fresh.positions)[-1]
    assert np.array_equal(ends[:, 0], walked.steps)
    assert np.array_equal(np.float32(ends[:, 1]), walked.states[-1, :, 1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: replace(p, q=None), "saw no Q"),
        (
            lambda p: replace(
                p, behavior=replace(p.behavior, budget=replace(p.behavior.budget, probes=1))
            ),
            "'probes': 1",
        ),
        (lambda p: replace(p, behavior=replace(p.behavior, copies=2)), "'networks': 2"),
    ],
)
def test_a_policy_that_the_page_cannot_run_is_named_in_the_frame(change, told):
    policy, hyper = briefly_trained()
    widget = bridge_walk(change(policy), hyper)
    assert told in widget.sentence() and told in widget.to_html()
    assert "<noscript>" not in widget.to_html()


def test_no_policy_and_a_handle_beyond_its_end_are_said_in_the_frame():
    assert "policy: saw none" in Walk(None).sentence()
    beyond = bridge_walk(*briefly_trained(), epsilon_at=99, **opening())
    assert "log ε: saw 99" in beyond.sentence()


def test_its_weights_in_a_page_are_those_that_python_walks_with(shown):
    net = shown.trained.policy.behavior.net
    codes, unit = shown.trained.weights["score.dense.2.weight"]
    assert np.array_equal(net.dense[2].weight[0].numpy(), codes * unit)
    assert in_page(*briefly_trained()).times[0] == 1.0


def test_it_weighs_less_than_400_kilobytes_at_full_size():
    full = briefly_trained(width=64, evaluations=16, steps=1)
    widget = bridge_walk(*full, walkers=1, n=1, seed=1, plank=0)
    assert len(widget.to_html().encode()) <= MOST_BYTES
