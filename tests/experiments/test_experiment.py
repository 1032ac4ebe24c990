"""A row from end to end, on a file of one's own and on our problems; bad input before any
training.
"""

import csv
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from problems import chain

from arq_core.algorithm.types import DataError
from arq_core.config import settings
from arq_core.config.settings import UnknownName
from arq_core.config.tasks import tasks
from arq_core.datasets.rewards import REWARDS
from arq_core.engine import train
from arq_core.envs.maze import MazeEnvs
from arq_core.experiments import experiment
from arq_core.experiments.episodes import evaluate
from arq_core.results.rows import read_file


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    return tmp_path


def _write(path, state_dim=2, m=60, **spoilt):
    g = np.random.default_rng(0)
    arrays = dict(
        observations=g.normal(size=(m, state_dim)),
        actions=g.uniform(-1, 1, (m, 2)),
        rewards=g.normal(size=m),
        terminals=np.arange(m) % 20 == 19,
        timeouts=np.zeros(m, bool),
    )
    with h5py.File(path, "w") as f:
        for name, x in (arrays | spoilt).items():
            f[name] = x
    return str(path)


def _small(path, seeds):
    """The maze's settings, with networks that are not worth compiling (tests/engine/test_machine.py
    has those that are).
    """
    e = experiment.prepare(path, "toy", seeds, group="maze", environment="maze")
    return replace(e, hyper=replace(e.hyper, width=32))


@pytest.fixture
def never_trains(monkeypatch):
    monkeypatch.setattr(train.torch.optim, "Adam", lambda *a, **k: pytest.fail("training began"))


def test_a_file_of_ones_own_is_trained_and_scored_in_a_named_simulator(cache):
    e = _small(_write(cache / "mine.hdf5"), [0, 1])
    rows = experiment.measure_and_write(e, "arq+s_psi", cache / "results")
    assert (
        len(rows) == 2 * e.budget.episodes
        and {r["fidelity"] for r in rows} == {"own"}
        and rows[0]["task"] == f"mine-{e.dataset.sha256[:8]}-maze-maze"
    )
    assert read_file(next((cache / "results").glob("*.jsonl"))) == rows
    assert all(
        0 <= r["in_support"] <= 1
        and r["wall_s"] > 0
        and r["device"].endswith(f", {e.budget.precision}")
        for r in rows
    )


def test_the_same_seed_gives_the_same_episodes_bit_for_bit(cache, monkeypatch):
    path, measured = _write(cache / "mine.hdf5"), []
    for folder in ("a", "b"):
        monkeypatch.setenv("ARQ_CACHE", str(cache / folder))
        e = _small(path, [5])
        measured.append(
            [
                (r["return_"], r["length"], r["in_support"])
                for r in experiment.measure(e, "arq+s_psi")
            ]
        )
    assert measured[0] == measured[1]


def test_finished_episodes_are_loaded_until_what_they_depend_on_changes(cache, monkeypatch):
    path = _write(cache / "mine.hdf5")
    e = experiment.prepare(path, "toy", [5], group="maze", environment="maze")
    first = experiment.measure(e, "bc")
    ran = []
    monkeypatch.setattr(experiment, "evaluate", lambda *a: ran.append(a) or evaluate(*a))
    again = experiment.measure(e, "bc")
    assert not ran and [{k: v for k, v in r.items() if k != "created"} for r in again] == [
        {k: v for k, v in r.items() if k != "created"} for r in first
    ]
    experiment.measure(replace(e, budget=replace(e.budget, episodes=3)), "bc")
    experiment.measure(replace(e, task=replace(e.task, horizon=7)), "bc")
    monkeypatch.setattr(settings, "EVALUATION_RECIPE", settings.EVALUATION_RECIPE + 1)
    experiment.measure(e, "bc")
    assert len(ran) == 3


def test_episodes_in_a_simulator_of_ones_own_are_run_each_time(cache, monkeypatch):
    own = experiment.prepare(
        _write(cache / "mine.hdf5"), "toy", [5], group="maze", environment=MazeEnvs
    )
    ran = []
    monkeypatch.setattr(experiment, "evaluate", lambda *a: ran.append(a) or evaluate(*a))
    assert [r["return_"] for r in experiment.measure(own, "bc")] == [
        r["return_"] for r in experiment.measure(own, "bc")
    ] and len(ran) == 2


def test_a_file_without_a_simulator_is_trained_and_not_scored(cache):
    e = experiment.prepare(_write(cache / "mine.hdf5"), "toy", 1, group="maze")
    assert experiment.train(e, "q_beta+s_psi").in_support.shape == (1,)
    with pytest.raises(
        UnknownName, match="environment: saw none for mine-[0-9a-f]{8}, expected the name of a task"
    ):
        experiment.measure(e, "q_beta+s_psi")


def test_a_state_of_another_dimension_than_the_simulators_is_refused_before_training(
    cache, never_trains
):
    e = experiment.prepare(
        _write(cache / "mine.hdf5", state_dim=7), "toy", 1, group="maze", environment="maze"
    )
    with pytest.raises(DataError, match="environment: saw states of dimension 2, expected 7"):
        experiment.measure(e, "s_psi")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            dict(name="dor-human"),
            r"task \(or a file or folder of yours\): saw 'dor-human', expected one of " r"'maze'",
        ),
        (dict(profile="huge"), "profile: saw 'huge', expected one of 'toy'"),
        (dict(changes=dict(alfa=1.0)), "hyperparameter: saw 'alfa', expected one of 'variant'"),
        (dict(seeds=[]), r"seeds: saw \[\], expected at least one"),
        (dict(seeds=[0, 0]), r"seeds: saw \[0, 0\], expected .* each once"),
        (
            dict(changes=dict(variant="new")),
            "variant: saw 'new', expected one of 'released', 'paper'",
        ),
        (dict(changes=dict(k=99)), "k: saw 99, expected 1 to n = 16"),
        (dict(changes=dict(batch=100)), "batch: saw 100, expected a multiple of times_per_batch"),
        (dict(group="maze"), "group, environment: saw 'maze', '' with task 'maze', expected none"),
        (dict(name="x.hdf5", group="adroid"), "group: saw 'adroid', expected one of 'locomotion'"),
    ],
)
def test_unknown_names_are_refused_before_training(cache, never_trains, arguments, message):
    with pytest.raises(UnknownName, match=message):
        experiment.prepare(**dict(dict(name="maze", profile="toy"), **arguments))


def test_an_unknown_method_is_refused_before_training(cache, never_trains):
    with pytest.raises(UnknownName, match=r"method: saw 'sarsa', expected one of 'random'"):
        experiment.measure(experiment.prepare("maze", "toy"), "sarsa")


@pytest.mark.parametrize(
    "spoilt, message",
    [
        (dict(rewards=np.full(60, np.nan)), "rewards.*nan"),
        (dict(actions=np.zeros((59, 2))), "observations.*saw 60 rows, expected 59"),
    ],
)
def test_a_spoilt_file_is_refused_before_training_and_earlier_rows_stay(
    cache, never_trains, spoilt, message
):
    (cache / "results").mkdir()
    (cache / "results" / "earlier.jsonl").write_text("kept", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        experiment.prepare(
            _write(cache / "bad.hdf5", **spoilt), "toy", group="maze", environment="maze"
        )
    assert (cache / "results" / "earlier.jsonl").read_text(encoding="utf-8") == "kept"


def test_every_task_names_a_group_and_keeps_its_own_scale():
    for t in tasks().values():
        experiment.settings.hyper(t.group)
        assert t.score_max > t.score_min and t.horizon > 0
    door = tasks()["door-human"]
    assert door.score(np.array([door.score_min, door.score_max])).tolist() == pytest.approx(
        [0.0, 100.0]
    )
    assert tasks()["maze"].score(np.array([0.3])).tolist() == [0.3]


def test_the_hash_of_the_task_table_is_the_one_that_is_verified():
    from arq_core.datasets.door import DEMOS

    with open(experiment.settings.DATA / "tasks.csv", newline="", encoding="utf-8") as f:
        hashes = {r["task"]: r["sha256"] for r in csv.DictReader(f)}
    assert hashes["door-human"] == DEMOS["sha256"]


def test_rows_of_changed_hyperparameters_are_not_kept_under_the_standard_name(cache, never_trains):
    e = experiment.prepare("maze", "toy", 1, changes=dict(alpha_arq=1.0))
    with pytest.raises(
        UnknownName, match="changes: saw .*alpha_arq.*, expected none for rows that are kept"
    ):
        experiment.measure_and_write(e, "s_psi", cache / "results")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("original", [1.0, 2.0, 3.0, 5.0]),
        ("minus_one", [0.0, 1.0, 2.0, 4.0]),
        ("normalized", [200.0, 400.0, 600.0, 1000.0]),
    ],
)
def test_reward_transforms_of_table_a2(name, expected):
    """Two episodes with returns 3 and 8: normalised, they differ by 1000."""
    data = chain(episodes=2, length=2)
    data = REWARDS[name](replace(data, rewards=torch.tensor([1.0, 2.0, 3.0, 5.0])))
    assert data.rewards.tolist() == pytest.approx(expected)
