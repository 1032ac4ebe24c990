"""Demonstrations of scripted operators: robomimic's layout, the same bytes for the same recipe,
skill that shows.
"""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

pytest.importorskip(
    "robosuite", reason="ROBOSUITE TEST NOT RUN: saw no robosuite; install the extra `robosuite`"
)

from arq_core.collectors import robosuite as collector  # noqa: E402
from arq_core.collectors.operators import half_turn, heading, rotation  # noqa: E402
from arq_core.collectors.recording import data_card, record  # noqa: E402
from arq_core.config.settings import UnknownName  # noqa: E402
from arq_core.datasets.readers.robomimic import read_robomimic  # noqa: E402
from arq_core.envs.robosuite import LiftEnvs  # noqa: E402

# of all tasks and the proficient operator; measured successes are in the data cards
SURE = 0.9


@pytest.fixture(scope="module")
def lift(tmp_path_factory):
    """Two demonstrations of lift-ph, recorded in a cache of their own: (recipe, file)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        recipe = collector.recipe("lift-ph-recollected", parts=2, demos=1)
        yield recipe, record(recipe)


def test_the_same_recipe_gives_the_same_bytes(lift, monkeypatch, tmp_path):
    recipe, path = lift
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))
    again = record(recipe)
    assert again != path and again.read_bytes() == path.read_bytes()


def test_the_file_has_robomimic_s_layout(lift):
    recipe, path = lift
    with h5py.File(path) as file:
        data, demo = file["data"], file["data/demo_0"]
        steps = len(demo["actions"])
        assert set(data) == {"demo_0", "demo_1"} and data.attrs["total"] == sum(
            d.attrs["num_samples"] for d in data.values()
        )
        for group in ("obs", "next_obs"):
            assert {name: x.shape for name, x in demo[group].items()} == {
                n: (steps, w) for n, w in LiftEnvs.observation_keys().items()
            }
        assert {
            name: x.shape[0] for name, x in demo.items() if isinstance(x, h5py.Dataset)
        } == dict.fromkeys(("actions", "dones", "rewards", "states"), steps)
        assert json.loads(data.attrs["env_args"]) == LiftEnvs.env_args()
        assert sorted(file["mask/train"][()].tolist()) == [b"demo_0", b"demo_1"]


def test_a_demonstration_ends_at_its_first_success(lift):
    with h5py.File(lift[1]) as file:
        for demo in file["data"].values():
            assert (
                demo["rewards"][:].tolist()
                == demo["dones"][:].tolist()
                == [0] * (len(demo["actions"]) - 1) + [1]
            )


def test_the_reader_finds_every_transition_and_one_terminal_a_demonstration(lift):
    recipe, path = lift
    dataset, card = read_robomimic(path, success_only=True), data_card(recipe)
    assert (
        len(dataset.transitions.actions) == card["transitions"]
        and int(dataset.transitions.terminals.sum()) == card["episodes"] == 2
    )


def test_recorded_states_put_into_the_recorded_model_give_the_recorded_observations(lift):
    """So robomimic can play the file back.

    No path of the machine that collected it is in the model.
    """
    envs = LiftEnvs(1)
    sim = envs.sims[0]
    with h5py.File(lift[1]) as file:
        demo = file["data/demo_1"]
        xml = demo.attrs["model_file"]
        assert 'file="robosuite/models/' in xml and 'file="/' not in xml
        sim.reset_from_xml_string(sim.edit_model_xml(xml))
        for t in (0, len(demo["actions"]) // 2, len(demo["actions"]) - 1):
            sim.sim.set_state_from_flattened(demo["states"][t])
            sim.sim.forward()
            recorded = np.concatenate([demo[f"obs/{name}"][t] for name in envs.observation_keys()])
            # position and velocity are one physics step (2 ms) apart in what a step returns
            np.testing.assert_allclose(
                envs._state(sim._get_observations(force_update=True)), recorded, atol=5e-3
            )


def test_a_machine_s_episodes_have_full_length_and_its_checkpoints_differ():
    """Episodes of mg go on behind a success; a checkpoint without progress is little better than
    noise.
    """
    _, job, kind = collector.KINDS["lift-mg-recollected"]
    kind = replace(kind, steps=12)
    first, last = (
        collector.demonstrate(LiftEnvs(1), job, kind.skills[name], kind, seed=0)
        for name in ("checkpoint_0", "checkpoint_4")
    )
    assert len(first["actions"]) == len(last["actions"]) == kind.steps and not first["terminal"]
    distance = [np.linalg.norm(e["observations"][-1, 16:19]) for e in (first, last)]
    assert distance[1] < distance[0]


def test_valid_holds_a_tenth_and_filter_keys_name_the_skill(monkeypatch):
    monkeypatch.setattr(collector, "demonstrate", lambda *arguments: dict(terminal=True, attrs={}))
    masks = [
        e["attrs"]["masks"]
        for i in range(6)
        for e in collector.recipe("lift-mh-recollected").part(i)
    ]
    assert sum(m[0] == "valid" for m in masks) * 10 == len(masks) and {m[1] for m in masks} == set(
        collector.LEVELS
    )
    assert all(m[2] == f"{m[1]}_{m[0]}" for m in masks)


def test_only_successful_demonstrations_are_kept_and_attempts_counted(monkeypatch):
    outcomes = iter([False, False, True, True])
    monkeypatch.setattr(
        collector, "demonstrate", lambda *arguments: dict(terminal=next(outcomes), attrs={})
    )
    kept = collector.recipe("can-ph-recollected", demos=2).part(0)
    assert [e["attrs"]["attempts"] for e in kept] == [3, 1] and all(e["terminal"] for e in kept)


def test_half_turn_is_the_nearest_equal_angle():
    angles = np.linspace(-7, 7, 50)
    for period in (np.pi / 2, np.pi):
        turned = np.array([half_turn(a, period) for a in angles])
        assert (np.abs(turned) <= period / 2).all()
        np.testing.assert_allclose(np.sin((angles - turned) * np.pi / period), 0, atol=1e-9)


def test_rotation_turns_as_its_quaternion_says():
    angle = 0.7
    about_z = rotation(np.array([0, 0, np.sin(angle / 2), np.cos(angle / 2)]))
    assert heading(about_z[:, 0]) == pytest.approx(angle)
    np.testing.assert_allclose(about_z @ about_z.T, np.eye(3), atol=1e-12)


def test_an_unknown_dataset_ends_in_an_error_that_lists_the_known():
    with pytest.raises(UnknownName, match="lift-mg-recollected"):
        collector.recipe("lift-mx-recollected")


@pytest.mark.slow(reason="twenty demonstrations of each task in its simulator")
@pytest.mark.parametrize("task", [name for name in collector.KINDS if "-ph-" in name])
def test_the_proficient_operator_succeeds(task):
    """In at least SURE·20 of 20 first attempts within 400 steps: what makes a `ph` dataset
    proficient.
    """
    envs_kind, job, kind = collector.KINDS[task]
    envs = envs_kind(1)
    done = [
        collector.demonstrate(envs, job, collector.PROFICIENT, kind, seed)["terminal"]
        for seed in range(20)
    ]
    assert np.mean(done) >= SURE
