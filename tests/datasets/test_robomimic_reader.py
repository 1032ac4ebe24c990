"""arq_core.datasets.readers.robomimic: which transitions a file in robomimic's layout becomes,
against robomimic's own reader if it is there.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.robomimic import read_robomimic

WIDTHS = dict(
    object=4, robot0_eef_pos=3, robot0_eef_quat=4, robot0_gripper_qpos=2, robot0_joint_pos=7
)
ORDER = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
ENV_ARGS = dict(env_name="Lift", env_version="1.5.1", type=1, env_kwargs=dict(robots=["Panda"]))
# dones by demonstration; rewards are the same
DONES = {0: [0, 0, 0, 1], 1: [0, 0, 0], 2: [0, 1, 1, 0, 1], 10: [0, 1]}


def demonstration(number, dones, widths=WIDTHS, dtype=np.float64):
    """Arrays of one demonstration; next_obs[t] is obs[t + 1], as robomimic extracts them."""
    rng = np.random.default_rng(number)
    seen = {k: rng.normal(size=(len(dones) + 1, n)).astype(dtype) for k, n in widths.items()}
    return dict(
        obs={k: x[:-1] for k, x in seen.items()},
        next_obs={k: x[1:] for k, x in seen.items()},
        actions=rng.uniform(-1, 1, (len(dones), 7)),
        rewards=np.array(dones, float),
        dones=np.array(dones),
        states=rng.normal(size=(len(dones), 32)),
    )


def demonstrations(**kw):
    return {n: demonstration(n, dones, **kw) for n, dones in DONES.items()}


def write(path, demos, env_args=ENV_ARGS, masks=None, total=None, **kw):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for number, demo in demos.items():
            g = data.create_group(f"demo_{number}")
            for name, x in demo.items():
                for key, y in x.items() if isinstance(x, dict) else [("", x)]:
                    g.create_dataset(f"{name}/{key}".rstrip("/"), data=y, **kw)
            g.attrs["num_samples"] = len(demo["actions"])
            g.attrs["model_file"] = "<mujoco/>"
        data.attrs["total"] = (
            sum(len(d["actions"]) for d in demos.values()) if total is None else total
        )
        if env_args is not None:
            data.attrs["env_args"] = (
                env_args if isinstance(env_args, str) else json.dumps(env_args, indent=4)
            )
        for name, chosen in (masks or {}).items():
            file[f"mask/{name}"] = np.array([f"demo_{n}" for n in chosen], dtype="S")
    return path


@pytest.fixture
def read(tmp_path):
    def read(demos=None, reader=None, **kw):
        return read_robomimic(
            write(tmp_path / "low_dim.hdf5", demonstrations() if demos is None else demos, **kw),
            **(reader or {}),
        )

    return read


def states(demo, keys=ORDER, part="obs"):
    return torch.tensor(np.concatenate([demo[part][k] for k in keys], 1), dtype=torch.float32)


def same(a, b):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=0, atol=0)


def test_every_step_is_there_but_the_last_of_a_demonstration_that_is_not_done(read):
    """Demonstration 1 of 3 steps loses its last; 0, 2 and 10 end done and are whole.

    Order is that of the numbers.
    """
    t, demos = read().transitions, demonstrations()
    kept = {0: slice(None), 1: slice(-1), 2: slice(None), 10: slice(None)}
    assert len(t.actions) == 4 + 2 + 5 + 2
    same(t.actions, np.concatenate([demos[n]["actions"][rows] for n, rows in kept.items()]))
    same(t.rewards, np.concatenate([demos[n]["rewards"][rows] for n, rows in kept.items()]))
    same(t.states[t.state], torch.cat([states(demos[n])[rows] for n, rows in kept.items()]))
    same(
        t.states[t.next_state],
        torch.cat([states(demos[n], part="next_obs")[rows] for n, rows in kept.items()]),
    )
    assert t.terminals.tolist() == [d == 1 for n, rows in kept.items() for d in DONES[n][rows]]


def test_no_transition_leads_from_one_demonstration_into_the_next(read):
    t = read().transitions
    starts = np.cumsum([0, 4, 2, 5])
    firsts = torch.stack([states(d)[0] for d in demonstrations().values()])
    same(t.states[t.state[starts]], firsts)
    assert not (t.states[t.next_state][:, None] == firsts).all(-1).any()


def test_a_done_inside_a_demonstration_is_a_terminal_and_the_demonstration_goes_on(read):
    """dones 0 1 1 0 1 are five transitions in three stretches, as in the released code, which gives
    each done the discount 0.
    """
    data = read({2: demonstration(2, DONES[2])})
    assert data.transitions.terminals.tolist() == [False, True, True, False, True]
    assert data.transitions.episode.tolist() == [0, 0, 1, 2, 2]
    assert "several times in 1 of 1 demonstrations" in " ".join(data.notes)


def test_each_state_is_stored_once_although_demonstrations_go_on_behind_a_done(read):
    """Four demonstrations have 14 steps and so 18 states; of demonstration 1, which is not done,
    the last is not reached.
    """
    t = read().transitions
    assert len(t.states) == len(torch.unique(t.states, dim=0)) == 17
    assert sorted(set(t.state.tolist()) | set(t.next_state.tolist())) == list(range(17))


def test_a_done_without_reward_is_a_terminal_unless_success_only(read):
    demo = demonstration(0, [0, 0, 1]) | dict(rewards=np.zeros(3))
    released, strict = read({0: demo}), read({0: demo}, reader=dict(success_only=True))
    assert released.transitions.terminals.tolist() == [False, False, True]
    assert strict.transitions.terminals.tolist() == [False, False]
    assert "1 of 1 dones come without a positive reward" in " ".join(released.notes)


def test_horizon_cuts_longer_demonstrations_and_says_so(read):
    data = read({0: demonstration(0, [0] * 6), 1: demonstration(1, [0, 1])}, reader=dict(horizon=4))
    assert data.transitions.episode.tolist() == [0, 0, 0, 1, 1]
    assert "cut 1 of 2 demonstrations at the horizon" in data.notes
    # nothing behind the horizon is left over
    assert "dropped the last transition of 1 episodes" in " ".join(data.notes)
    with pytest.raises(DataError, match="horizon: saw 0"):
        read(reader=dict(horizon=0))


def test_a_filter_key_chooses_demonstrations_in_the_order_of_their_numbers(read):
    demos = demonstrations()
    data = read(masks=dict(train=[10, 0], valid=[1, 2]), reader=dict(filter_key="train"))
    same(data.transitions.actions, np.concatenate([demos[0]["actions"], demos[10]["actions"]]))
    assert "2 demonstrations of filter key 'train'" in data.source
    with pytest.raises(
        DataError, match="filter_key: saw 'test', expected one of those in the file: train, valid"
    ):
        read(masks=dict(train=[10, 0], valid=[1, 2]), reader=dict(filter_key="test"))
    with pytest.raises(DataError, match="saw demo_7 under the filter key"):
        read(masks=dict(train=[10, 7]), reader=dict(filter_key="train"))
    with pytest.raises(DataError, match="each once"):
        read(masks=dict(train=[10, 10]), reader=dict(filter_key="train"))


def test_two_robots_come_in_robomimic_s_order(read):
    widths = {k.replace("robot0", f"robot{i}"): n for i in (1, 0) for k, n in WIDTHS.items()}
    demo = demonstration(0, [0, 0, 1], widths)
    order = [*ORDER[:3], *(k.replace("robot0", "robot1") for k in ORDER[:3]), "object"]
    same(read({0: demo}).transitions.states[:3], states(demo, order))


def test_observation_keys_can_be_chosen(read):
    keys = ("object", "robot0_joint_pos")
    same(
        read(
            {0: demonstration(0, DONES[0])}, reader=dict(observation_keys=keys)
        ).transitions.states[:4],
        states(demonstration(0, DONES[0]), keys),
    )
    with pytest.raises(DataError, match="expected also robot0_eef_vel"):
        read(reader=dict(observation_keys=["robot0_eef_vel"]))


@pytest.mark.parametrize("kw", [dict(dtype=np.float32), {}])
def test_float32_compressed_and_without_next_obs_give_the_same_transitions(read, kw):
    """The files of robomimic 0.4 on may be compressed and lack next_obs; s' of a last, done step is
    then s itself.
    """
    demos = demonstrations(**kw)
    whole = read(demos).transitions
    data = read(
        {n: {k: v for k, v in d.items() if k != "next_obs"} for n, d in demos.items()},
        compression="gzip",
    )
    bare = data.transitions
    for name in ("actions", "rewards", "terminals", "episode"):
        assert torch.equal(getattr(whole, name), getattr(bare, name)), name
    assert torch.equal(whole.states[whole.state], bare.states[bare.state])
    # where a demonstration ends done
    last = torch.tensor([3, 10, 12])
    differs = (
        (whole.states[whole.next_state] != bare.states[bare.next_state]).any(1).nonzero().squeeze(1)
    )
    assert differs.tolist() == last.tolist()
    assert torch.equal(bare.states[bare.next_state][last], bare.states[bare.state][last])
    assert "next_obs is missing in 4 of 4 demonstrations" in " ".join(data.notes)


def test_a_gap_between_next_obs_and_the_following_obs_is_a_cut(read):
    demo = demonstration(0, [0, 0, 0, 0, 1])
    demo["next_obs"]["object"] = demo["next_obs"]["object"].copy()
    demo["next_obs"]["object"][1] += 1
    data = read({0: demo})
    assert data.transitions.episode.tolist() == [0, 1, 1, 1]
    assert "differs from the following observation after 1 of 5 steps" in " ".join(data.notes)


def test_the_file_s_simulator_is_named_so_that_2021_and_later_are_told_apart(read):
    assert "Lift, simulator version 1.5.1" in read().source
    old = {k: v for k, v in ENV_ARGS.items() if k != "env_version"}
    assert "Lift, no simulator version, as in the files of 2021" in read(env_args=old).source
    assert "environment not named" in read(env_args=None).source


def test_a_wrong_total_is_said(read):
    assert "the attribute total says 99, the demonstrations have 14 steps" in read(total=99).notes
    assert not any("total" in note for note in read().notes)


def test_actions_outside_the_box_are_clipped_and_counted(read):
    demo = demonstration(0, DONES[0])
    demo["actions"][1, 3] = 1.25
    data = read({0: demo})
    assert data.transitions.actions[1, 3] == 1 and data.notes[0].startswith(
        "clipped 1 of 28 action entries"
    )


def changed(**fields):
    return {0: demonstration(0, DONES[0]) | fields}


def wider():
    demos = demonstrations()
    demos[1] = demonstration(1, DONES[1], WIDTHS | dict(object=5))
    return demos


@pytest.mark.parametrize(
    "demos,kw,message",
    [
        (changed(rewards=np.zeros(3)), {}, "demo_0: field 'rewards': saw 3 rows, expected 4"),
        (
            changed(rewards=np.array([0, np.nan, 0, 1])),
            {},
            "demo_0: field 'rewards': saw nan at index",
        ),
        (changed(rewards=np.array([0, 1e300, 0, 1])), {}, "demo_0: field 'rewards': saw inf"),
        (
            changed(dones=np.array([0, 2, 0, 1])),
            {},
            "demo_0: field 'dones': saw 2 at index 1, expected 4 flags",
        ),
        (
            changed(actions=np.zeros((0, 7))),
            {},
            r"demo_0: field 'actions': saw float64 of shape \(0, 7\)",
        ),
        (changed(actions=np.array([b"a"] * 4)), {}, "demo_0: field 'actions': saw .S1 of shape"),
        (wider(), {}, "demo_1: saw 14 observations numbers a step, expected 13"),
        (
            {0: {k: demonstration(0, [0, 1])[k] for k in ("actions", "states")}},
            {},
            "expected also the group obs; this is a raw file",
        ),
        ({}, {}, "saw none in data"),
        ({"x": demonstration(0, [0, 1])}, {}, "saw demo_x in data"),
        (changed(), dict(env_args="[" * 100_000), "attribute env_args: saw"),
        (changed(), dict(env_args="{}"), "attribute env_args: saw '{}'"),
    ],
)
def test_each_fault_is_named(read, demos, kw, message):
    with pytest.raises(DataError, match=message):
        read(demos, **kw)


def test_num_samples_must_be_the_number_of_actions(tmp_path):
    path = write(tmp_path / "low_dim.hdf5", demonstrations())
    with h5py.File(path, "a") as file:
        file["data/demo_2"].attrs["num_samples"] = 4
    with pytest.raises(DataError, match="demo_2: saw 5 actions and the attribute num_samples 4"):
        read_robomimic(path)


def test_a_field_that_claims_more_than_the_file_can_hold_is_refused_before_it_is_read(tmp_path):
    path = write(tmp_path / "low_dim.hdf5", demonstrations())
    with h5py.File(path, "a") as file:
        del file["data/demo_0/actions"]
        file["data/demo_0"].create_dataset("actions", (1 << 40, 7), "f4", chunks=(1024, 7))
    with pytest.raises(DataError, match="which the file's [0-9,]+ bytes cannot hold"):
        read_robomimic(path)


def test_absent_and_damaged_files_end_in_one_kind_of_error(tmp_path):
    with pytest.raises(DataError, match="saw no such file"):
        read_robomimic(tmp_path / "absent.hdf5")
    whole = write(tmp_path / "low_dim.hdf5", demonstrations()).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(150):
        damaged = bytearray(whole if i % 2 else whole[: rng.integers(1, len(whole))])
        for at in rng.integers(0, min(len(damaged), 4096), 6):
            damaged[at] = rng.integers(256)
        (tmp_path / "damaged.hdf5").write_bytes(damaged)
        try:
            read_robomimic(tmp_path / "damaged.hdf5")
        except DataError:
            refused += 1
    # every truncated file at least
    assert refused > 75


OWN_READER = """
import json, sys, types
import numpy as np
sys.modules["termcolor"] = types.SimpleNamespace(colored=lambda text, *a, **k: text)
sys.path.insert(0, sys.argv[1])
from robomimic.utils.dataset import SequenceDataset
keys, fields = json.loads(sys.argv[3]), ("actions", "rewards", "dones")
for target, filter_key in json.loads(sys.argv[4]).items():
    data = SequenceDataset(sys.argv[2], keys, fields, hdf5_use_swmr=False,
                           filter_by_attribute=filter_key)
    rows = [data[i] for i in range(len(data))]
    whole = lambda row, part: np.concatenate([row[part][k][0] for k in keys])
    join = lambda part: np.stack([whole(r, part) for r in rows]).astype(np.float32)
    demo = [int(data._index_to_demo_id[i][5:]) for i in range(len(data))]
    np.savez(target, obs=join("obs"), next_obs=join("next_obs"), demo=demo, **{
        k: np.stack([np.asarray(r[k])[0] for r in rows]).astype(np.float32) for k in fields})
"""


def robomimic_folder():
    """Where robomimic can be imported from: $ARQ_ROBOMIMIC, a folder made by `pip install --no-deps
    --target`, or where it is installed.
    """
    if given := os.environ.get("ARQ_ROBOMIMIC"):
        return given
    spec = importlib.util.find_spec("robomimic")
    return str(Path(spec.origin).parents[1]) if spec and spec.origin else None


@pytest.mark.skipif(
    robomimic_folder() is None,
    reason="needs robomimic: pip install --no-deps --target FOLDER robomimic==0.3.0, "
    "then ARQ_ROBOMIMIC=FOLDER",
)
def test_robomimic_s_own_reader_returns_the_same_steps(tmp_path):
    """SequenceDataset yields every step; we leave out the last of a demonstration that is not done,
    and nothing else.
    """
    path = write(tmp_path / "low_dim.hdf5", demonstrations(), masks=dict(train=[10, 1, 2]))
    wanted = {str(tmp_path / "all.npz"): None, str(tmp_path / "train.npz"): "train"}
    subprocess.run(
        [
            sys.executable,
            "-c",
            OWN_READER,
            robomimic_folder(),
            str(path),
            json.dumps(ORDER),
            json.dumps(wanted),
        ],
        check=True,
        capture_output=True,
    )
    for target, filter_key in wanted.items():
        own = np.load(target)
        last = np.append(np.diff(own["demo"]) != 0, True)
        kept = ~last | (own["dones"] == 1)
        t = read_robomimic(path, filter_key=filter_key).transitions
        assert len(t.actions) == kept.sum() == len(kept) - 1
        same(t.states[t.state], own["obs"][kept])
        same(t.states[t.next_state], own["next_obs"][kept])
        same(t.actions, own["actions"][kept])
        same(t.rewards, own["rewards"][kept])
        same(t.terminals.float(), own["dones"][kept])


def test_a_huge_attribute_is_refused_where_it_is_read_and_left_alone_where_not(tmp_path):
    path = tmp_path / "huge.hdf5"
    write(path, demonstrations())
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["model_file"] = "x" * 2**25
    assert len(read_robomimic(path).transitions.actions)
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = '{"env_name": "' + "x" * 2**25 + '"}'
    with pytest.raises(DataError, match="env_args"):
        read_robomimic(path)
