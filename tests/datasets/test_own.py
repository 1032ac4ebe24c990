"""Data of one's own: the layout is found by looking inside, arrays go in as they are, and any
simulator can score it.
"""

import h5py
import numpy as np
import pytest
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.own import from_arrays, is_own, layout_of, own_name, read_own
from arq_core.experiments import experiment

STEPS = 60


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))


def arrays(states=3, actions=1):
    rng = np.random.default_rng(0)
    ends = np.arange(STEPS) % 20 == 19
    return dict(
        observations=rng.normal(size=(STEPS, states)),
        actions=rng.uniform(-1, 1, (STEPS, actions)),
        rewards=rng.normal(size=STEPS),
        terminals=ends & (np.arange(STEPS) < 30),
        timeouts=ends & (np.arange(STEPS) >= 30),
    )


def written(path, names):
    with h5py.File(path, "w") as file:
        for name, x in names.items():
            file[name] = x
    return path


def test_arrays_and_the_same_arrays_in_a_file_are_the_same_transitions(tmp_path):
    given, read = from_arrays(**arrays()), read_own(written(tmp_path / "mine.hdf5", arrays()))
    assert given.transitions.fingerprint() == read.transitions.fingerprint() == given.sha256
    # the two that were cut lose one each
    assert (len(given.transitions.actions), int(given.transitions.terminals.sum())) == (
        STEPS - 2,
        1,
    )


def test_lists_will_do():
    lists = {k: v.tolist() for k, v in arrays().items()}
    assert from_arrays(**lists).sha256 == from_arrays(**arrays()).sha256


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(rewards=np.full(STEPS, np.nan)), "rewards: saw 60 entries that are not finite"),
        (dict(terminals=np.full(STEPS, 2)), "terminals: saw 2, expected 0 or 1"),
        (
            dict(observations=np.zeros((STEPS - 1, 3))),
            r"observations: saw float64 of shape \(59, 3\), expected numbers with 2 "
            r"axes and 60 rows",
        ),
        (dict(actions=np.zeros(STEPS)), "actions: saw .* expected numbers with 2 axes"),
        (dict(rewards=np.array(["a"] * STEPS)), "rewards: saw <U1"),
        (dict(observations=np.array([[object()] * 3] * STEPS)), "observations: saw object"),
    ],
)
def test_unfit_arrays_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        from_arrays(**arrays() | change)


def test_layout_is_found_by_looking_inside(tmp_path):
    assert layout_of(written(tmp_path / "a.hdf5", arrays())) == "d4rl"
    assert (
        layout_of(written(tmp_path / "b.hdf5", {"data/demo_0/actions": np.zeros((2, 1))}))
        == "robomimic"
    )
    (tmp_path / "folder").mkdir()
    assert layout_of(tmp_path / "folder") == "minari"


@pytest.mark.parametrize(
    "names, message",
    [
        ({"x": 1}, "saw x at its root"),
        ({"episode_0/actions": 1}, "give the folder that holds `data`"),
        ({"observations": 1, "data/x": 1}, "expected either"),
    ],
)
def test_unknown_layout_is_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        layout_of(written(tmp_path / "c.hdf5", names))


def test_what_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "d.hdf5").write_bytes(b"no hdf5")
    for path in (tmp_path / "d.hdf5", tmp_path / "absent.hdf5"):
        with pytest.raises(DataError, match="saw"):
            layout_of(path)


def test_names(tmp_path):
    assert (
        is_own("a/b.h5")
        and is_own("minari:D4RL/door/human-v2")
        and is_own(str(tmp_path))
        and not is_own("door-human")
    )
    assert (
        own_name("a/b.h5") == "b" and own_name("minari:D4RL/door/human-v2") == "D4RL-door-human-v2"
    )


def test_own_arrays_are_trained_and_scored_in_a_gymnasium_environment():
    pytest.importorskip("gymnasium", reason="the simulators are an extra: pip install '.[sim]'")
    setup = experiment.prepare(
        from_arrays(**arrays(), bounds="normalized"),
        "toy",
        seeds=1,
        group="maze",
        environment="gymnasium:Pendulum-v1",
        device="cpu",
    )
    rows = experiment.measure(setup, "s_psi")
    named = f"own-data-{setup.dataset.sha256[:8]}-maze-gymnasium-Pendulum-v1"
    assert {row["task"] for row in rows} == {named}
    assert {row["fidelity"] for row in rows} == {"own"}
    assert all(row["score"] == row["return_"] and row["length"] == 200 for row in rows)


def test_own_simulator_of_another_dimension_is_refused_before_training():
    pytest.importorskip("gymnasium", reason="the simulators are an extra: pip install '.[sim]'")
    setup = experiment.prepare(
        from_arrays(**arrays(states=5), bounds=(-2, 2)),
        "toy",
        seeds=1,
        group="maze",
        environment="gymnasium:Pendulum-v1",
        device="cpu",
    )
    with pytest.raises(DataError, match="saw states of dimension 3, expected 5"):
        experiment.measure(setup, "s_psi")


def test_own_data_without_a_simulator_is_trained():
    setup = experiment.prepare(from_arrays(**arrays()), "toy", seeds=1, group="maze", device="cpu")
    assert torch.isfinite(torch.as_tensor(experiment.train(setup, "arq+pi").in_support)).all()
