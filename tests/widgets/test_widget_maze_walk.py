"""The widget in which the maze's policies walk: its numbers are small and still the policies', its
walks are what the project's own functions do, and what it says is what happened. (That the page
computes the same: test_maze_walk_browser.py.)
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from walkers import maze_experiment, maze_walkers

from arq_core.algorithm.nets import Critic
from arq_core.algorithm.types import in_support
from arq_core.datasets.ours import collect_maze
from arq_core.engine.streams import Streams
from arq_core.envs.maze import FARTHEST, GOAL_REWARD, STRAY, WAY, MazeEnvs
from arq_core.experiments.maze_page import (
    ROWS,
    SHOWN,
    critic_numbers,
    critic_of,
    read,
    recordings,
    written,
)
from arq_core.experiments.small_critics import low_rank, product
from arq_core.results.measured import measured
from arq_core.widgets.maze_walk import CELLS, GOAL, LAVA, MazeWalk
from arq_core.widgets.noise import Noise
from arq_core.widgets.walking import MAZE, choose

MOST_BYTES = 400_000
RECORDED, CLONE, BETA, FREE, ARQ, ROW = range(6)


@pytest.fixture(scope="module")
def shown():
    return MazeWalk(maze_walkers()[0], walkers=20)


@pytest.fixture(scope="module")
def critic():
    return Critic(2, 2, Streams([0, 1])).requires_grad_(False)


def some(count, seed=0):
    rng = np.random.default_rng(seed)
    return (
        torch.from_numpy(x.astype(np.float32))
        for x in (rng.uniform(-1, 4, (count, 2)), rng.uniform(-1, 1, (count, 2)))
    )


def test_walkers_start_where_episodes_do():
    off = MAZE.starts(3, 2_000) - np.array(WAY[0])
    assert np.linalg.norm(off, axis=1).max() <= FARTHEST
    assert off.std() == pytest.approx(STRAY, rel=0.05) and np.abs(off.mean(0)).max() < 0.005


def test_uniform_candidates_are_the_policys_own_noise():
    noise = Noise(5, 2, range(9))
    many = noise.rand(9, 30, 2)
    assert many.shape == (1, 9, 30, 2) and 0 <= many.min() and many.max() < 1
    assert torch.equal(many[:, 4, :6], Noise(5, 2, [4]).rand(1, 6, 2)[:, 0])
    assert many.std() == pytest.approx(1 / math.sqrt(12), rel=0.1)


def test_a_layer_of_low_rank_is_the_one_whose_outputs_differ_least(critic):
    states, actions = some(600)
    errors = []
    for rank in (8, 32, 256):
        parts = low_rank(one_of(critic), rank, states, actions)
        new = product(
            parts["left"] * parts["units"][0], parts["right"] * parts["units"][1][:, None]
        )
        off = first(critic, states, actions) @ (new - critic.hidden.weight[0])
        off = off + parts["bias"] - critic.hidden.bias[0]
        assert off.mean(0).abs().max() < 1e-4  # the bias takes back what moved on average
        errors.append(off.square().mean().sqrt())
        if rank == 8:  # none of rank 8 does better, with the same correction
            u, size, v = torch.linalg.svd(critic.hidden.weight[0])
            plain = first(critic, states, actions) @ (
                u[:, :8] * size[:8] @ v[:8] - critic.hidden.weight[0]
            )
            assert errors[0] < (plain - plain.mean(0)).square().mean().sqrt()
    assert errors[0] > 3 * errors[1] > errors[2]


def one_of(critic):
    small = Critic(2, 2, Streams([0])).requires_grad_(False)
    small.load_state_dict({k: x[:1] for k, x in critic.state_dict().items()})
    return small


def first(critic, states, actions):
    of_action = actions @ critic.of_action.weight[0]
    return (states @ critic.of_state.weight[0] + critic.of_state.bias[0] + of_action).relu()


def test_numbers_of_a_critic_are_its_first_members_and_survive_a_file(critic):
    data = collect_maze(0, 100).transitions
    numbers = critic_numbers(critic, data)
    again = read(json.loads(json.dumps(written(numbers))))
    assert all(np.array_equal(x, again[k][0]) for k, (x, _) in numbers.items())
    states, actions = data.states[:200], 2 * torch.rand(200, 2) - 1
    ours = critic_of(again)(states[None], actions[None, :, None])
    theirs = critic(states.expand(2, -1, -1), actions.expand(2, -1, -1)[:, :, None])
    assert (ours[0] - theirs[0]).square().mean().sqrt() < 0.1 * theirs[0].std()
    assert (ours[0] - theirs[1]).square().mean().sqrt() > 0.5 * theirs[0].std()


def test_the_file_of_other_policies_says_what_they_are_and_holds_the_published_maze():
    found, beside = measured("maze_policies"), measured("penalised_maze")
    lines = {one["method"]: one for one in found["policies"]}
    assert list(lines) == ["unconstrained", *ROWS]
    for reported in beside["reported"]:
        if (line := lines.get(reported["method"])) is None:
            continue
        assert line["strength"] == reported["strength"]
        at = beside["seeds"].index(found["seeds"][0])
        assert line["mean"] == pytest.approx(reported["by_seed"][at], abs=0.1)


@pytest.mark.parametrize("button", [CLONE, BETA, FREE, ARQ, ROW])
def test_its_walk_is_what_policy_and_maze_do_with_that_noise(shown, button):
    shown.policy = button
    policy, envs = shown._policy(), MazeEnvs(20)
    states, walked, alive = envs.place(MAZE.starts(1, 20)), shown.walked(), np.ones(20, bool)
    for step in range(MAZE.steps):
        assert np.abs(walked.states[step][alive] - states[alive]).max(initial=0) < 1e-6
        action = policy.act(torch.as_tensor(states)[None], Noise(1, step, range(20)))[0]
        states, rewards, ended, success = envs.step(action.numpy())
        assert np.array_equal(walked.arrived[alive & ended], success[alive & ended])
        assert np.array_equal(walked.rewards[alive], rewards[alive]) or not ended[alive].all()
        assert (walked.steps[alive & ended] == step + 1).all()
        alive &= ~ended
    assert np.array_equal(walked.ended, ~alive)
    shown.policy = ARQ


def test_recordings_are_the_datas_own_episodes(shown):
    data = collect_maze(0, 150).transitions
    assert len(recordings(data)) == 30 and not recordings(data, 1)[0][0].shape[1] - 2
    shown.policy = RECORDED
    walked, ends = shown.walked(), np.array([r[-1] for _, r in shown.policies.recordings])
    assert walked.arrived.sum() == (ends == GOAL_REWARD).sum() > 0
    assert (walked.rewards >= 0).all()  # nobody walked into lava
    states, rewards = shown.policies.recordings[0]
    m = (data.episode == 0).nonzero().squeeze(1)
    assert np.array_equal(states[:-1], data.states[data.state[m]].numpy())
    assert np.array_equal(rewards, data.rewards[m].numpy())
    gains = [sum(0.99**t * r for t, r in enumerate(one)) for _, one in shown.policies.recordings]
    assert walked.earned == pytest.approx(np.mean(gains))
    steps = sum(len(shown.steps_at(cell)) for cell in range(len(CELLS)))
    assert steps == walked.steps.sum()
    assert "None of them walked the whole way from the start." in shown.finding()
    way = (np.array(WAY, np.float32), np.eye(13)[-1])
    one = replace(
        shown.policies, recordings=(way, (way[0][1:], way[1][1:]), (way[0], way[1][::-1]))
    )
    assert one.whole() == 1
    shown.policy = ARQ


def test_the_sentence_counts_what_eq4_keeps_at_the_cell(shown):
    for at in range(0, len(shown.lines), 4):
        shown.epsilon_at = at
        choice = choose(shown._policy(), CELLS, Noise(1, 0, 65535 - np.arange(13)))
        kept = in_support(torch.from_numpy(choice.log_prob[shown.cell]), shown.lines[at]).sum()
        told = f"{kept} of 6 candidates are in support" if kept else "none of 6 candidates"
        assert told in shown.finding()
    assert shown.lines[-1] > choice.log_prob.max() and "the first draw was taken" in shown.finding()
    shown.epsilon_at = 0
    assert "ARQ after 150 steps, no filter: " in shown.finding()


def test_what_is_passed_on_is_the_kth_largest_in_support(shown):
    shown.epsilon_at, choice = 12, shown.looked()
    for k in (1, 3, 6):
        shown.k = k
        for c, passed in enumerate(shown.passed_on()):
            inside = np.sort(choice.q[c][choice.log_prob[c] >= shown.lines[12]])[::-1]
            assert passed == inside[k - 1] if len(inside) >= k else np.isnan(passed)
    shown.k, shown.epsilon_at = 1, shown.lines.index(-5.0)


def test_the_slider_goes_through_the_snapshots_of_arqs_critic_alone(shown):
    steps = shown.policies.steps
    assert steps == tuple(15 * i for i in SHOWN)
    said, same = set(), set()
    for at in range(len(steps)):
        shown.trained_at = at
        said.add(tuple(shown.passed_on()))
        shown.policy = BETA
        same.add(shown.finding())
        shown.policy = ARQ
    assert len(said) == len(steps) and len(same) == 1


def test_arqs_last_critic_is_the_trained_one_but_for_rounding(shown):
    policies, policy = maze_walkers()
    states, actions = torch.from_numpy(CELLS)[None], torch.rand(1, 13, 50, 2) * 2 - 1
    ours, theirs = (p.q(states, actions) for p in (policies.buttons[ARQ].policies[-1], policy))
    before = policies.buttons[ARQ].policies[0].q(states, actions)
    off, far = ((q - theirs).square().mean().sqrt() / theirs.std() for q in (ours, before))
    assert off < 0.1 < far


def test_traits_say_where_the_walkers_went():
    fresh = MazeWalk(maze_walkers()[0], walkers=20)
    assert fresh.arrived == fresh.walked().arrived.sum()
    assert np.array_equal(np.float32(fresh.positions), fresh.walked().states)


def test_no_policy_and_a_handle_beyond_its_end_are_said_in_the_frame():
    assert "policies: saw none" in MazeWalk(None).sentence()
    beyond = MazeWalk(maze_walkers()[0], walkers=1, policy=99)
    assert "Who walks: saw 99" in beyond.sentence() and "<noscript>" not in beyond.to_html()


def test_its_picture_counts_who_arrives_and_who_falls(shown):
    shown.policy = FREE
    ends = shown.walked()
    assert f"{(ends.rewards < 0).sum()} end in lava" in shown.picture()
    assert f'd="{"M" * 0}' in shown.picture() and shown.picture().count("<path") == 7
    assert (GOAL, LAVA) == (1, 2)
    shown.policy = ARQ


def test_it_weighs_less_than_400_kilobytes_at_full_size():
    full = maze_walkers(width=64, evaluations=16, steps=20, n=16)[0]
    assert len(MazeWalk(full, walkers=30).to_html().encode()) <= MOST_BYTES


def test_snapshots_that_were_not_kept_are_trained_once_more(monkeypatch, tmp_path):
    from arq_core.experiments.maze_page import kept

    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))
    e = maze_experiment(steps=20, evaluations=4)
    assert kept("arq+s_psi", e).steps == ()
    again = kept("arq+s_psi", replace(e, snapshots=5))
    assert again.steps == (2, 4, 6, 8, 10)
    end, last = again.tensors, again.at(10)
    assert all(torch.equal(end[k], last[k]) for k in end if k.startswith("target."))
