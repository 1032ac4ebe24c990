"""Collected locomotion datasets: D4RL's layout and recipe, the same bytes each time, from a tiny
stand-in for a ladder of policies.
"""

import json
import shutil

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch

pytest.importorskip("mujoco", reason="the simulators are not installed")

from arq_core.algorithm.types import DataError  # noqa: E402
from arq_core.collectors import locomotion  # noqa: E402
from arq_core.collectors.policies import ladder  # noqa: E402
from arq_core.collectors.policies.acting import episodes, squashed  # noqa: E402
from arq_core.collectors.policies.ladder import (  # noqa: E402
    EXPERT,
    MEDIUM_SHARE,
    actor,
    choose,
    harvest,
    load_ladder,
    parameters,
)
from arq_core.collectors.policies.sac import Training  # noqa: E402
from arq_core.collectors.policies.sac_learner import Settings  # noqa: E402
from arq_core.collectors.recording import record  # noqa: E402
from arq_core.config.files import sha256_of  # noqa: E402
from arq_core.engine.streams import Streams  # noqa: E402
from arq_core.envs.locomotion import KINDS  # noqa: E402

SETTINGS = Settings(
    steps=600, width=16, batch=8, uniform=100, actor_every=100, state_every=300, update="torch"
)
EVERY = 100  # steps between rungs of the stand-in


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """data/policies with a ladder of a training of 600 steps of Hopper."""
    folder = tmp_path_factory.mktemp("ladder")
    Training("hopper", SETTINGS, folder / "training").run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "DENSE", EVERY)
        harvest("hopper", folder / "training", folder / "policies" / "hopper")
    return folder / "policies"


@pytest.fixture
def tiny(policies, tmp_path, monkeypatch):
    """The stand-in ladder, an empty cache, and sets of 300 steps in parts of 100."""
    monkeypatch.setattr(ladder, "POLICIES", policies)
    monkeypatch.setattr(locomotion, "STEPS", 300)
    monkeypatch.setattr(locomotion, "PART", 100)
    monkeypatch.setattr(locomotion, "SIDE_BY_SIDE", 3)
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))
    return tmp_path


def arrays(task):
    with h5py.File(record(locomotion.recipe(task))) as file:
        return {
            name: file[name][()]
            for name in (
                "observations",
                "next_observations",
                "actions",
                "rewards",
                "terminals",
                "timeouts",
                "infos/qpos",
                "infos/qvel",
                "infos/action_log_probs",
            )
        }


def test_same_command_gives_the_same_bytes(tiny):
    path = record(locomotion.recipe("hopper-medium-recollected"))
    first = sha256_of(path)
    shutil.rmtree(path.parent)
    assert sha256_of(record(locomotion.recipe("hopper-medium-recollected"))) == first


def test_a_part_depends_on_its_number_only(tiny):
    recipe = locomotion.recipe("hopper-medium-recollected")
    last, again = recipe.part(2), locomotion.recipe("hopper-medium-recollected").part(2)
    for one, two in zip(last, again, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
    assert not np.array_equal(last[0]["observations"][0], recipe.part(1)[0]["observations"][0])


def test_steps_are_exactly_those_of_the_recipe(tiny):
    assert len(arrays("hopper-medium-recollected")["actions"]) == 300
    assert len(arrays("hopper-medium-expert-recollected")["actions"]) == 600


def test_medium_expert_is_medium_then_expert(tiny):
    both, medium, expert = (
        arrays(f"hopper-{level}-recollected") for level in ("medium-expert", "medium", "expert")
    )
    for name in both:
        np.testing.assert_array_equal(both[name], np.concatenate([medium[name], expert[name]]))


def test_medium_replay_has_as_many_steps_of_each_rung_as_lie_between_rungs(tiny):
    rungs, medium, _, _ = load_ladder("hopper")
    parts = locomotion.shares(rungs, medium, medium, "medium-replay")
    assert [rung.steps for rung, _, _ in parts] == [r.steps for r in rungs[: medium + 1]] and sum(
        p[1] for p in parts
    ) == rungs[medium].steps
    assert len(arrays("hopper-medium-replay-recollected")["actions"]) == rungs[medium].steps


def test_every_rung_of_medium_replay_acts_in_order_of_training(tiny):
    recipe = locomotion.recipe("hopper-medium-replay-recollected")
    for i, rung in enumerate(load_ladder("hopper")[0][: recipe.parts]):
        episode = recipe.part(i)[0]
        _, log_prob, mean = logged(rung.weights, episode["observations"][:-1], episode["actions"])
        np.testing.assert_allclose(episode["infos/action_log_probs"], log_prob, atol=1e-3)


def logged(weights, states, actions):
    """Log density of logged actions under a policy, from the noise that they imply."""
    out = parameters(weights, torch.from_numpy(states))
    mean, log_std = out.chunk(2, -1)
    noise = (torch.from_numpy(actions).double().atanh() - mean) / log_std.exp()
    chosen, log_prob = squashed(out.double(), noise)
    return chosen.numpy(), log_prob.numpy(), mean


def test_log_probs_are_those_of_the_logged_actions(tiny):
    rungs, medium, _, _ = load_ladder("hopper")
    data = arrays("hopper-medium-recollected")
    chosen, log_prob, _ = logged(rungs[medium].weights, data["observations"], data["actions"])
    np.testing.assert_allclose(chosen, data["actions"], atol=1e-6)
    np.testing.assert_allclose(data["infos/action_log_probs"], log_prob, atol=1e-3)


def test_actions_are_drawn_not_the_mean(tiny):
    rungs, medium, _, _ = load_ladder("hopper")
    data = arrays("hopper-medium-recollected")
    _, _, mean = logged(rungs[medium].weights, data["observations"], data["actions"])
    assert np.abs(mean.tanh().numpy() - data["actions"]).mean() > 0.01


def test_qpos_and_qvel_are_those_of_the_observation(tiny):
    data = arrays("hopper-medium-recollected")
    expected = np.concatenate(
        [data["infos/qpos"][:, 1:], data["infos/qvel"].clip(-10, 10)], 1
    ).astype(np.float32)
    np.testing.assert_array_equal(data["observations"], expected)


def test_terminals_are_falls_and_every_other_end_is_a_timeout(tiny):
    data = arrays("hopper-medium-recollected")
    fallen = (data["next_observations"][:, 0] <= 0.7) | (
        np.abs(data["next_observations"][:, 1]) >= 0.2
    )
    np.testing.assert_array_equal(data["terminals"], fallen)
    goes_on = ~(data["terminals"] | data["timeouts"])
    np.testing.assert_array_equal(
        data["next_observations"][:-1][goes_on[:-1]], data["observations"][1:][goes_on[:-1]]
    )
    assert data["timeouts"].sum() == 3 - data["terminals"][[99, 199, 299]].sum(), (
        "each part's last episode is cut"
    )


def test_load_reads_what_was_recorded(tiny):
    dataset = locomotion.load("hopper-medium-recollected")
    data = arrays("hopper-medium-recollected")
    assert dataset.fidelity == "recollected" and (dataset.state_dim, dataset.action_dim) == (11, 3)
    assert len(dataset.transitions.actions) == len(data["actions"]) - data["timeouts"].sum()


def test_card_says_what_differs(tiny):
    card = json.loads(
        record(locomotion.recipe("hopper-medium-replay-recollected"))
        .with_suffix(".json")
        .read_text(encoding="utf-8")
    )
    assert (
        "not the replay buffer" in card["card"]["differences"]
        and f"{EXPERT['hopper']:.0f}" in card["card"]["differences"]
    )


def test_medium_is_nearest_to_a_third_of_the_expert_before_training_has_passed_it():
    third = MEDIUM_SHARE * 3000
    climb = [
        100.0,
        third + 900,
        200.0,
        third + 80,
        third + 300,
        third + 400,
        third + 500,
        third,
        2500.0,
        50.0,
    ]
    scores = {10_000 * i: score for i, score in enumerate(climb, 1)}
    rungs, medium, best = choose(scores, 3000)
    assert (medium, best) == (40_000, 90_000), "not the jump at 20,000, nor the dip at 80,000"
    assert rungs == [10_000, 20_000, 30_000, 40_000, 50_000, 90_000]


def test_medium_of_a_training_that_stays_below_is_its_best():
    assert choose({10_000: 5.0, 20_000: 3.0}, 3000)[1:] == (10_000, 10_000)


def test_harvest_says_how_its_policies_were_trained(policies):
    card = json.loads((policies / "hopper" / "ladder.json").read_text(encoding="utf-8"))
    assert (
        card["settings"]["steps"] == SETTINGS.steps
        and card["trained_steps"] == 600
        and set(card["versions"]) >= {"torch", "mujoco"}
    )
    for scores in card["rungs"].values():
        assert {name: s["episodes"] for name, s in scores.items()} == dict(
            deterministic=10, stochastic=10
        )


def test_rungs_are_the_files_of_the_training(policies):
    rungs, *_ = load_ladder("hopper", policies / "hopper")
    for rung in rungs:
        saved = safetensors.torch.load_file(
            policies.parent / "training" / f"actor-{rung.steps:07d}.safetensors"
        )
        assert all(torch.equal(rung.weights[name], saved[name]) for name in saved)


def test_damaged_ladder_is_refused(policies, tmp_path):
    shutil.copytree(policies / "hopper", tmp_path / "hopper")
    with open(tmp_path / "hopper" / "ladder.safetensors", "ab") as f:
        f.write(b"x")
    with pytest.raises(DataError, match="restore both files"):
        load_ladder("hopper", tmp_path / "hopper")


def test_absent_ladder_is_said_with_the_commands(tmp_path):
    with pytest.raises(DataError, match="arq_core.collectors.policies.sac --env walker2d"):
        load_ladder("walker2d", tmp_path)


def test_side_by_side_episodes_are_those_stepped_alone(policies):
    rung = load_ladder("hopper", policies / "hopper")[0][-1]
    act = actor(rung.weights)
    together = episodes(act, KINDS["hopper"](3), [1, 2, 3], None)
    for seed, episode in zip((1, 2, 3), together):
        (alone,) = episodes(act, KINDS["hopper"](1), [seed], None)
        assert (
            len(alone["actions"]) == len(episode["actions"])
            and alone["terminal"] == episode["terminal"]
        )
        np.testing.assert_allclose(alone["observations"], episode["observations"], atol=1e-2)
    drawn = [episodes(act, KINDS["hopper"](3), [1, 2, 3], Streams([0])) for _ in range(2)]
    for one, two in zip(*drawn):
        np.testing.assert_array_equal(one["actions"], two["actions"])
