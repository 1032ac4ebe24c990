"""door-cloned by D4RL's recipe: sizes and order of the halves, determinism, resumption.

Skipped without simulators or demonstrations.
"""

import h5py
import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the simulators are not installed")
pytest.importorskip("gymnasium_robotics", reason="the simulators are not installed")

from arq_core.algorithm.types import DataError  # noqa: E402
from arq_core.collectors import door_cloned as cloned  # noqa: E402
from arq_core.collectors.recording import data_card, record  # noqa: E402
from arq_core.datasets import door  # noqa: E402
from arq_core.datasets.door import load_demos  # noqa: E402
from arq_core.datasets.fetch import FetchError, fetch  # noqa: E402
from arq_core.envs.door import HORIZON  # noqa: E402

SMALL = dict(HUMAN_STEPS=700, CLONE_EPISODES=3, PART=2, STEPS=30, HORIZON=20)


@pytest.fixture(scope="module")
def demonstrations():
    try:
        return fetch(**door.DEMOS)
    except FetchError as error:
        pytest.skip(f"the door demonstrations cannot be had: {error}")


@pytest.fixture
def small(demonstrations, tmp_path, monkeypatch):
    """The recipe with small numbers and the first three demonstrations, and an empty cache with the
    file of all in it.
    """
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / door.DEMOS["name"]).write_bytes(demonstrations.read_bytes())
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))
    demos = door.load_demos()[:3]
    for name, value in dict(SMALL, load_demos=lambda: demos).items():
        monkeypatch.setattr(cloned, name, value)
    return tmp_path


def test_sizes_are_d4rl_s_and_its_v1_file_has_its_published_count_of_episodes(demonstrations):
    """v1: 500,200 cloned steps, 499,800 human ones; Minari lists that file, door-cloned-v1, with
    1,000,000 steps in 4,358 episodes.
    """
    lengths = [len(d.actions) for d in door.load_demos()]
    human = cloned.human_lengths(lengths, cloned.HUMAN_STEPS)
    assert sum(human) + cloned.CLONE_EPISODES * HORIZON == 1_000_000 == 2 * sum(human)
    assert len(cloned.human_lengths(lengths, 499_800)) + 500_200 // 200 == 4358
    assert human[:25] == lengths == human[25:50] and 0 < human[-1] <= lengths[(len(human) - 1) % 25]


@pytest.mark.parametrize(
    "steps, expected", [(1, [1]), (5, [3, 2]), (7, [3, 4]), (8, [3, 4, 1]), (14, [3, 4, 3, 4])]
)
def test_demonstrations_follow_each_other_until_the_steps_are_full(steps, expected):
    assert cloned.human_lengths([3, 4], steps) == expected


def test_the_file_holds_the_replayed_demonstrations_then_the_cloned_episodes(small):
    path, human = record(cloned.recipe()), door.rebuild(load_demos())
    with h5py.File(path) as file:
        stored = {
            name: file[name][:]
            for name in (
                "observations",
                "actions",
                "rewards",
                "terminals",
                "timeouts",
                "next_observations",
            )
        }
    assert len(stored["actions"]) == 700 + 3 * 20 and not stored["terminals"].any()
    for name in ("observations", "actions", "rewards"):
        np.testing.assert_array_equal(stored[name][:700], human[name][:700])
    ends = np.flatnonzero(stored["timeouts"]) + 1
    lengths = [len(d.actions) for d in load_demos()]
    assert (
        ends.tolist() == [lengths[0], lengths[0] + lengths[1], 700, 720, 740, 760]
        and sum(lengths[:3]) > 700
    )
    starts = stored["observations"][[700, 720, 740]]
    assert len(np.unique(starts, axis=0)) == 3 and (np.abs(stored["actions"]) <= 1).all()
    inside = np.setdiff1d(np.arange(759), ends - 1)
    np.testing.assert_array_equal(
        stored["next_observations"][inside], stored["observations"][inside + 1]
    )


def test_interrupted_collection_goes_on_to_the_same_bytes(small, monkeypatch):
    recipe = cloned.recipe()
    whole = record(recipe).read_bytes()
    sha256 = data_card(recipe)["sha256"]
    for file in (small / "collected").glob("door-cloned*"):
        file.unlink()

    def stop(policy, i):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cloned, "clone_part", stop)
        record(cloned.recipe())
    # the human half is kept
    assert len(list((small / "collected").glob("*.parts/*.safetensors"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(
            cloned, "replayed", lambda demos: pytest.fail("replayed although the parts are there")
        )
        assert record(cloned.recipe()).read_bytes() == whole
    assert data_card(cloned.recipe())["sha256"] == sha256


def test_load_reads_what_was_recorded(small):
    data = cloned.load()
    assert (data.fidelity, data.state_dim, data.action_dim) == ("recollected", 39, 28)
    assert (
        len(data.transitions.actions) == 760 - 6
        and data.sha256 == data_card(cloned.recipe())["sha256"]
    )
    assert data.transitions.fingerprint() == cloned.load().transitions.fingerprint()


def test_the_clone_explains_the_recorded_actions_and_is_trained_once(small, monkeypatch):
    """All entries together, the squared misses are a fraction of the actions' variance."""
    monkeypatch.setattr(cloned, "STEPS", 200)
    demos = load_demos()
    policy = cloned.clone(demos)
    states, actions = cloned.recorded(demos)
    assert (policy(states)[0] - actions).square().mean() < 0.2 * actions.var(0).mean()
    monkeypatch.setattr(
        cloned.Clone, "loss", lambda *_: pytest.fail("trained although the weights are kept")
    )
    again = cloned.clone(demos)
    assert all(
        (a == b).all()
        for a, b in zip(policy.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert cloned.recipe().digest == cloned.recipe().digest


def test_other_names_are_refused():
    with pytest.raises(
        DataError, match="saw 'pen-cloned-recollected', expected 'door-cloned-recollected'"
    ):
        cloned.recipe("pen-cloned-recollected")
