"""arq_core.datasets.readers.minari: which transitions a Minari dataset becomes, on files by
Minari's own writer, against its own reader.
"""

import dataclasses
import json
import shutil
import warnings

import gymnasium as gym
import h5py
import numpy as np
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.boxes import Box, fitted, with_bounds
from arq_core.datasets.fetch import FetchError
from arq_core.datasets.readers.minari import read_minari

minari = pytest.importorskip(
    "minari", reason="needs Minari (extra minari): its writer makes the files of these tests"
)
from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402

S, A = 3, 2
# one episode each, in this order
LENGTHS = dict(terminated=4, truncated=3, both=2, neither=3)
BOX = gym.spaces.Box(-np.inf, np.inf, (S,), np.float64)
UNIT = gym.spaces.Box(-1, 1, (A,), np.float32)
GOAL = {
    k: gym.spaces.Box(-np.inf, np.inf, (n,), np.float64)
    for k, n in dict(achieved_goal=2, desired_goal=2, observation=4).items()
}


def episode(end, steps, space=BOX, action_space=UNIT, seed=0):
    rng = np.random.default_rng([seed, steps])
    draw = lambda space: rng.normal(size=(steps + 1, *space.shape)).astype(space.dtype)
    seen = (
        {k: draw(s) for k, s in space.spaces.items()}
        if isinstance(space, gym.spaces.Dict)
        else draw(space)
    )
    flags = np.zeros((2, steps), bool)
    flags[:, -1] = end in ("terminated", "both"), end in ("truncated", "both")
    low, high = action_space.low, action_space.high
    return EpisodeBuffer(
        observations=seen,
        actions=rng.uniform(low, high, (steps, A)).astype(np.float32),
        rewards=rng.normal(size=steps),
        terminations=flags[0],
        truncations=flags[1],
    )


def episodes(space=BOX, action_space=UNIT):
    return [
        episode(end, steps, space, action_space, i)
        for i, (end, steps) in enumerate(LENGTHS.items())
    ]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def write(name="ours/small-v0", buffers=None, space=BOX, action_space=UNIT, **kw):
    """A dataset as Minari writes it, in its own folder."""
    with warnings.catch_warnings():
        # about authors and descriptions
        warnings.simplefilter("ignore", UserWarning)
        return minari.create_dataset_from_buffers(
            name,
            buffers or episodes(space, action_space),
            observation_space=space,
            action_space=action_space,
            **kw,
        )


@pytest.fixture
def folder(own_folder):
    write()
    return own_folder / "ours" / "small-v0"


def same(a, b):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=0, atol=0)


def by_library(dataset, join=lambda x: x):
    """What the library's own reader returns, as flat arrays; the last step is left out of an
    episode that did not terminate.
    """
    kept = [
        (e, slice(None) if e.terminations[-1] else slice(-1)) for e in dataset.iterate_episodes()
    ]
    flat = lambda take: np.concatenate([take(e)[rows] for e, rows in kept]).astype(np.float32)
    return dict(
        states=flat(lambda e: join(e.observations)[:-1]),
        after=flat(lambda e: join(e.observations)[1:]),
        actions=flat(lambda e: e.actions),
        rewards=flat(lambda e: e.rewards),
        terminals=np.concatenate([e.terminations[rows] for e, rows in kept]),
        episode=np.concatenate(
            [np.full(len(e.rewards[rows]), i) for i, (e, rows) in enumerate(kept)]
        ),
    )


def assert_same_transitions(t, expected):
    same(t.states[t.state], expected["states"])
    same(t.states[t.next_state], expected["after"])
    for name in ("actions", "rewards", "terminals", "episode"):
        same(getattr(t, name), expected[name])


def test_a_termination_keeps_the_last_transition_and_a_truncation_drops_it(folder):
    data = read_minari(folder)
    assert data.transitions.episode.tolist() == [0] * 4 + [1] * 2 + [2] * 2 + [3] * 2
    assert data.transitions.terminals.nonzero().squeeze(1).tolist() == [3, 7]
    assert "dropped the last transition of 2 episodes" in " ".join(data.notes)
    # an episode without flags ends where its group ends
    assert not any("differs" in note for note in data.notes)
    # each state once; what a dropped step returned is left out
    assert len(data.transitions.states) == 5 + 3 + 3 + 3


def test_minari_s_own_reader_returns_the_same_transitions(folder):
    assert_same_transitions(
        read_minari(folder).transitions, by_library(minari.load_dataset("ours/small-v0"))
    )


def test_infos_of_whatever_shape_are_left_alone(folder, own_folder):
    told = []
    for buffer in episodes():
        steps = len(buffer.rewards)
        infos = dict(
            success=np.zeros(steps + 1, bool), inner=dict(qpos=np.full((steps + 1, 5), np.nan))
        )
        told.append(dataclasses.replace(buffer, infos=infos))
    write("ours/told-v0", told)
    with h5py.File(own_folder / "ours/told-v0/data/main_data.hdf5") as file:
        assert set(file["episode_0/infos"]) == {"success", "inner"}
    seen, plain = read_minari("ours/told-v0"), read_minari(folder)
    assert seen.transitions.fingerprint() == plain.transitions.fingerprint()


def test_id_folder_data_folder_and_file_are_one_dataset(folder):
    found = [
        read_minari(x)
        for x in ("ours/small-v0", folder, folder / "data", folder / "data" / "main_data.hdf5")
    ]
    assert len({d.transitions.fingerprint() for d in found}) == len({d.sha256 for d in found}) == 1
    assert found[0].source == "ours/small-v0 (Minari, 4 episodes)"


def test_the_library_is_not_needed_for_a_dataset_that_is_there(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    assert len(read_minari("ours/small-v0").transitions.actions) == 10
    with pytest.raises(FetchError, match="no library to download it with"):
        read_minari("ours/absent-v0")


def test_a_dataset_that_is_not_there_is_asked_of_the_library(own_folder, tmp_path, monkeypatch):
    write()
    kept = shutil.move(own_folder / "ours", tmp_path / "host")
    monkeypatch.setattr(
        minari, "download_dataset", lambda name: shutil.copytree(kept, own_folder / "ours")
    )
    assert len(read_minari("ours/small-v0").transitions.actions) == 10
    monkeypatch.setattr(
        minari, "download_dataset", lambda name: (_ for _ in ()).throw(ConnectionError("no route"))
    )
    with pytest.raises(FetchError, match="ours/absent-v0: saw ConnectionError: no route"):
        read_minari("ours/absent-v0")
    monkeypatch.setattr(minari, "download_dataset", lambda name: None)
    with pytest.raises(FetchError, match="saw no metadata.json"):
        read_minari("ours/absent-v0")
    with pytest.raises(DataError, match="saw neither a folder .* nor a dataset's id"):
        read_minari("../absent")


def test_episode_10_comes_after_episode_2():
    write(buffers=[episode("terminated", n, seed=n) for n in range(1, 13)])
    assert torch.bincount(read_minari("ours/small-v0").transitions.episode).tolist() == list(
        range(1, 13)
    )


def test_goal_environments_join_position_observation_and_goal():
    """As in AntMaze, whose observation lacks the position that achieved_goal holds."""
    write(space=gym.spaces.Dict(GOAL))
    join = lambda o: np.concatenate([o["achieved_goal"], o["observation"], o["desired_goal"]], 1)
    data = read_minari("ours/small-v0")
    assert_same_transitions(
        data.transitions, by_library(minari.load_dataset("ours/small-v0"), join)
    )
    assert "a state is achieved_goal (2), observation (4), desired_goal (2) joined" in data.notes


def test_a_position_that_the_observation_repeats_is_left_out():
    """As in PointMaze, whose observation begins with achieved_goal."""
    space = gym.spaces.Dict(GOAL)
    buffers = episodes(space)
    for b in buffers:
        b.observations["achieved_goal"][:] = b.observations["observation"][:, :2]
    write(buffers=buffers, space=space)
    data = read_minari("ours/small-v0")
    assert_same_transitions(
        data.transitions,
        by_library(
            minari.load_dataset("ours/small-v0"),
            lambda o: np.concatenate([o["observation"], o["desired_goal"]], 1),
        ),
    )
    assert any("achieved_goal is left out" in note for note in data.notes)
    # one row that differs, and both are kept
    buffers[-1].observations["achieved_goal"][-1, 0] += 1
    write("ours/differs-v0", buffers, space)
    assert read_minari("ours/differs-v0").state_dim == 8


def test_observation_keys_choose_parts_and_their_order():
    write(space=gym.spaces.Dict(GOAL))
    data = read_minari("ours/small-v0", observation_keys=("desired_goal", "achieved_goal"))
    assert_same_transitions(
        data.transitions,
        by_library(
            minari.load_dataset("ours/small-v0"),
            lambda o: np.concatenate([o["desired_goal"], o["achieved_goal"]], 1),
        ),
    )
    with pytest.raises(
        DataError,
        match="observation_keys: saw velocity, expected some of achieved_goal, "
        "desired_goal, observation",
    ):
        read_minari("ours/small-v0", observation_keys=["velocity"])


def test_parts_of_parts_are_joined_too():
    """As in FrankaKitchen, whose goals are Dicts of one Box per object, in the order in which
    Gymnasium flattens the space.
    """
    inner = gym.spaces.Dict(kettle=GOAL["achieved_goal"], burner=GOAL["desired_goal"])
    space = gym.spaces.Dict(
        observation=GOAL["observation"], achieved_goal=inner, desired_goal=inner
    )
    flat = [
        episode(end, n, gym.spaces.Dict(GOAL), seed=i) for i, (end, n) in enumerate(LENGTHS.items())
    ]
    nest = lambda o: dict(
        observation=o["observation"],
        **{
            k: dict(burner=o["desired_goal"], kettle=o["achieved_goal"])
            for k in ("achieved_goal", "desired_goal")
        },
    )
    write(
        buffers=[EpisodeBuffer(**{**vars(b), "observations": nest(b.observations)}) for b in flat],
        space=space,
    )
    goal = lambda o: np.stack(
        [
            gym.spaces.flatten(inner, {k: x[i] for k, x in o.items()})
            for i in range(len(o["kettle"]))
        ]
    )
    expected = by_library(
        minari.load_dataset("ours/small-v0"),
        lambda o: np.concatenate(
            [goal(o["achieved_goal"]), o["observation"], goal(o["desired_goal"])], 1
        ),
    )
    assert_same_transitions(read_minari("ours/small-v0").transitions, expected)


def test_actions_of_another_box_are_scaled_to_ours_and_said():
    low, high = np.array([-2, 0], np.float32), np.array([2, 0.5], np.float32)
    space = gym.spaces.Box(low, high)
    buffers = episodes(action_space=space)
    buffers[0].actions[0], buffers[0].actions[1] = low, high
    write(buffers=buffers, action_space=space)
    data = read_minari("ours/small-v0")
    assert data.transitions.actions[:2].tolist() == [[-1, -1], [1, 1]]
    back = low + (data.transitions.actions.numpy() + 1) / 2 * (high - low)
    np.testing.assert_allclose(
        back, by_library(minari.load_dataset("ours/small-v0"))["actions"], rtol=0, atol=1e-6
    )
    assert "scaled actions from the box [-2.0, 0.0] to [2.0, 0.5] to [-1, 1]" in data.notes[0]
    assert data.notes[1].startswith("clipped 0 of")


def test_what_a_real_collector_writes_is_read():
    """Pendulum, 200 steps to its time limit, stepped through Minari's DataCollector."""
    pytest.importorskip("jax", reason="needs jax, which Minari's collector wants")
    env = minari.DataCollector(gym.make("Pendulum-v1"))
    env.action_space.seed(0)
    for seed in range(2):
        env.reset(seed=seed)
        done = False
        while not done:
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        env.create_dataset("ours/pendulum-v0")
    t = read_minari("ours/pendulum-v0").transitions
    assert (
        torch.bincount(t.episode).tolist() == [199, 199]
        and not t.terminals.any()
        and len(t.states) == 400
    )


def rewritten(folder, change):
    """Changes main_data.hdf5 by change(file)."""
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        change(file)


def remetadata(folder, **changes):
    path = folder / "data" / "metadata.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8"
    )


def replace(file, name, x):
    del file[name]
    file[name] = x


def test_an_episode_without_its_last_observation_loses_no_more_than_that(folder):
    """Old collectors wrote T observations for T steps (Minari's issue 199)."""
    whole = read_minari(folder).transitions
    for i in (0, 1):
        rewritten(
            folder,
            lambda file: replace(
                file, f"episode_{i}/observations", file[f"episode_{i}/observations"][:-1]
            ),
        )
    data = read_minari(folder)
    for name in ("actions", "rewards", "terminals", "episode"):
        assert torch.equal(getattr(whole, name), getattr(data.transitions, name)), name
    assert "missing in 2 of 4 episodes" in " ".join(data.notes)


def test_an_end_inside_an_episode_is_an_end(folder):
    rewritten(folder, lambda file: replace(file, "episode_0/terminations", np.array([0, 1, 0, 1])))
    data = read_minari(folder)
    assert (
        data.transitions.episode.tolist()[:4] == [0, 0, 1, 1]
        and data.transitions.terminals[[1, 3]].all()
    )
    assert "1 of 4 episodes end before their last step" in " ".join(data.notes)


def test_a_wrong_total_of_steps_is_said(folder):
    remetadata(folder, total_steps=99)
    assert "metadata.json says total_steps 99, the episodes have 12" in read_minari(folder).notes


@pytest.mark.parametrize(
    "change,message",
    [
        (
            lambda f: replace(f, "episode_1/rewards", np.zeros(2)),
            "episode_1: field 'rewards': saw 2 rows, expected 3",
        ),
        (
            lambda f: replace(f, "episode_1/actions", np.full((3, A), np.nan)),
            "episode_1: field 'actions': saw nan",
        ),
        (
            lambda f: replace(f, "episode_1/actions", np.zeros((3, A + 1))),
            "episode_1: field 'actions': saw 3 numbers a row, expected 2",
        ),
        (
            lambda f: replace(f, "episode_1/observations", np.zeros((6, S))),
            "episode_1: saw 6 observations and 3 actions",
        ),
        (
            lambda f: replace(f, "episode_1/terminations", np.array([0, 0, 7])),
            "episode_1: field 'terminations': saw 7 at index 2",
        ),
        (lambda f: f["episode_1"].pop("truncations"), "expected also 'truncations'"),
        (lambda f: f.pop("episode_1"), "saw 3 episodes and total_episodes 4"),
    ],
)
def test_each_fault_of_an_episode_is_named(folder, change, message):
    rewritten(folder, change)
    with pytest.raises(DataError, match=message):
        read_minari(folder)


DISCRETE = json.dumps(dict(type="Discrete", dtype="int64", start=0, n=4))
PICTURE = json.dumps(dict(type="Box", dtype="uint8", shape=[64, 64, 3], low=0, high=255))


def space(low, high):
    return json.dumps(dict(type="Box", dtype="float32", shape=[A], low=low, high=high))


@pytest.mark.parametrize("low, high", [([-np.inf] * A, [1] * A), (-np.inf, np.inf)])
def test_of_a_box_without_bounds_its_user_says_the_bounds(folder, low, high):
    stated = read_minari(folder)
    remetadata(folder, action_space=space(low, high))
    data = read_minari(folder)
    assert data.bounds is None and torch.equal(data.transitions.actions, stated.transitions.actions)
    halved = with_bounds(data, (-2, 2)).transitions.actions
    assert torch.allclose(halved, stated.transitions.actions / 2)
    with pytest.raises(DataError, match="nothing says which"):
        fitted(data, Box((-2.0,) * A, (2.0,) * A))
    with pytest.raises(DataError, match="expected finite bounds"):
        read_minari(folder, "official")


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(action_space=DISCRETE), "actions: saw the space Discrete"),
        (dict(observation_space=DISCRETE), "observations: saw the space Discrete"),
        (
            dict(observation_space=PICTURE),
            r"observations: saw the space Box of shape \[64, 64, 3\] and type uint8",
        ),
        (
            dict(observation_space=json.dumps(dict(type="Tuple", subspaces=[]))),
            "observations: saw the space Tuple",
        ),
        (dict(action_space=space([np.nan, -1], [1, 1])), "action_space: saw low .* finite bounds"),
        (dict(action_space=space([np.nan, -1], [1, np.inf])), "action_space: .* finite bounds"),
        (dict(action_space=space(["a", -np.inf], [1, 1])), "action_space: saw no usable low"),
        (dict(action_space="[" * 100_000), "without readable spaces"),
        (dict(action_space=None), "without readable spaces"),
        (dict(data_format="arrow"), "saw data_format 'arrow', expected 'hdf5'"),
        (dict(total_episodes="4"), "saw 4 episodes and total_episodes 4"),
        (dict(total_episodes=5), "saw 4 episodes and total_episodes 5"),
    ],
)
def test_each_fault_of_the_metadata_is_named(folder, changes, message):
    remetadata(folder, **changes)
    with pytest.raises(DataError, match=message):
        read_minari(folder)


def test_damaged_files_end_in_one_kind_of_error(folder):
    path = folder / "data" / "main_data.hdf5"
    whole, metadata = path.read_bytes(), (folder / "data" / "metadata.json").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(150):
        damaged, text = (
            bytearray(whole if i % 2 else whole[: rng.integers(1, len(whole))]),
            bytearray(metadata),
        )
        for x in (damaged, text) if i % 3 == 0 else (damaged,):
            for at in rng.integers(0, min(len(x), 4096), 6):
                x[at] = rng.integers(256)
        path.write_bytes(damaged)
        (folder / "data" / "metadata.json").write_bytes(text)
        try:
            read_minari(folder)
        except DataError:
            refused += 1
    # every truncated file at least
    assert refused > 75
