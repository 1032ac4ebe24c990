"""Collected locomotion datasets: D4RL's layout and recipe, the same bytes each time, from made-up
policies of Hopper; and which policies act in the real ones.
"""

import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
import torch

pytest.importorskip("mujoco", reason="the simulators are not installed")

from saved_policies import archive, tensors  # noqa: E402

from arq_core.collectors import locomotion  # noqa: E402
from arq_core.collectors.policies import published  # noqa: E402
from arq_core.collectors.policies.acting import squashed  # noqa: E402
from arq_core.collectors.recording import record  # noqa: E402
from arq_core.config.files import sha256_of  # noqa: E402
from arq_core.config.tasks import tasks  # noqa: E402

MEDIUM, EXPERT = "sac", "tqc"  # the made-up policies


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Two made-up policies of Hopper in a local folder of the published layout, made-up returns, an
    empty cache, and sets of 300 steps in parts of 100.
    """
    lines = ["env,algorithm,inputs,policy,policy_sha256,observations,observations_sha256"]
    returns = {}
    for seed, (name, mean) in enumerate({MEDIUM: 1400.0, EXPERT: 3000.0}.items()):
        path = tmp_path / f"local/policies/{name}/H.zip"
        path.parent.mkdir(parents=True)
        archive(path, name, tensors(name, 11, 3, seed))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        address = f"https://data.invalid/owner/agents/commit/{name}/H.zip"
        lines.append(f"hopper,{name},11,{address},{sha256},,")
        returns[name] = dict(stochastic=dict(mean=mean, std=1.0))
    (tmp_path / "published.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = json.dumps(dict(returns=dict(hopper=returns)))
    (tmp_path / "returns.json").write_text(said, encoding="utf-8")
    monkeypatch.setattr(published, "LISTED", tmp_path / "published.csv")
    monkeypatch.setattr(published, "RETURNS", tmp_path / "returns.json")
    monkeypatch.setattr(locomotion, "STEPS", 300)
    monkeypatch.setattr(locomotion, "PART", 100)
    monkeypatch.setattr(locomotion, "SIDE_BY_SIDE", 3)
    monkeypatch.setattr(locomotion, "REPLAY_STEPS", dict(hopper=250))
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
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
    assert len(arrays("hopper-medium-replay-recollected")["actions"]) == 250


def test_medium_expert_is_medium_then_expert(tiny):
    both, medium, expert = (
        arrays(f"hopper-{level}-recollected") for level in ("medium-expert", "medium", "expert")
    )
    for name in both:
        np.testing.assert_array_equal(both[name], np.concatenate([medium[name], expert[name]]))


def logged(data, algorithm):
    """Actions, their log densities and the mean actions under a policy, from the noise that the
    recorded actions imply.
    """
    policy = published.listed("hopper")[algorithm].load()
    parameters = policy.parameters(torch.from_numpy(data["observations"])).double()
    mean, log_std = parameters.chunk(2, 1)
    noise = (torch.from_numpy(data["actions"]).double().atanh() - mean) / log_std.exp()
    actions, log_prob = squashed(parameters, noise)
    return actions.numpy(), log_prob.numpy(), mean.tanh().numpy()


@pytest.mark.parametrize("level, algorithm", [("medium", MEDIUM), ("expert", EXPERT)])
def test_log_probs_are_those_of_the_logged_actions(tiny, level, algorithm):
    data = arrays(f"hopper-{level}-recollected")
    actions, log_prob, _ = logged(data, algorithm)
    inside = (np.abs(data["actions"]) < 0.999).all(1)  # the tanh can be undone
    assert inside.any()
    np.testing.assert_allclose(actions[inside], data["actions"][inside], atol=1e-6)
    np.testing.assert_allclose(data["infos/action_log_probs"][inside], log_prob[inside], atol=1e-3)


def test_actions_are_drawn_not_the_mean(tiny):
    data = arrays("hopper-medium-recollected")
    _, _, mean = logged(data, MEDIUM)
    assert np.abs(mean - data["actions"]).mean() > 0.01


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
        and f"{published.EXPERT['hopper']:.0f}" in card["card"]["differences"]
    )


@pytest.mark.parametrize("task", locomotion.TASKS)
def test_real_sets_have_d4rls_sizes_and_published_policies(task):
    env, level = locomotion.TASKS[task]
    recipe, whole = locomotion.recipe(task), locomotion.stretches(env, level)
    replay = dict(hopper=402_000, walker2d=302_000, halfcheetah=202_000)
    sizes = {"medium-replay": replay[env], "medium-expert": 2_000_000}
    assert recipe.key["steps"] == sizes.get(level, 1_000_000)
    hashes = [row.policy_sha256 for row in published.listed(env).values()]
    assert all(policy[0] in hashes for policy in recipe.key["policies"])
    assert [s.noise > 0 for s in whole] == [level == "medium-replay"] + [False] * (len(whole) - 1)
    assert tasks()[task].version == f"recipe {recipe.key['recipe']}"
