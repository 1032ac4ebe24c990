"""arq_core.datasets.official: a published file is read by the rule of its row; any other is
refused, and by its name where it has one.
"""

import csv
from dataclasses import replace

import h5py
import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.config.files import sha256_of
from arq_core.config.paths import DATA
from arq_core.config.tasks import task, tasks
from arq_core.datasets import official
from arq_core.datasets.fetch import FetchError
from arq_core.datasets.official import file_name, load_official, read_official

M = 12


def write(path, state_dim, action_dim, steps=M, timeouts=True):
    """Three episodes of a third of the steps each, in D4RL's layout."""
    rng = np.random.default_rng(0)
    end = np.zeros(steps, bool)
    end[steps // 3 - 1 :: steps // 3] = True
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(steps, state_dim)).astype(np.float32)
        file["actions"] = rng.uniform(-1, 1, (steps, action_dim)).astype(np.float32)
        file["rewards"] = np.zeros(steps, np.float32)
        file["terminals"] = np.zeros(steps, bool)
        if timeouts:
            file["timeouts"] = end
    return path


@pytest.fixture
def table(monkeypatch):
    """table(row, ...): the task table has these rows too."""

    def add(*rows):
        known = tasks() | {row.task: row for row in rows}
        monkeypatch.setattr(official, "tasks", lambda: known)
        monkeypatch.setattr(official, "task", known.__getitem__)
        return rows[0]

    return add


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty cache, an empty local folder, and no network."""
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("arq_core.datasets.download.PAUSE", 0.0)
    (tmp_path / "local").mkdir()
    return tmp_path / "local"


def like(name, **changes):
    """A row like that of a task, for a file of the tests."""
    return replace(
        task(name),
        task=f"{name}-of-the-tests",
        transitions=M,
        sha256="",
        sha256_source="",
        transitions_source="",
        source="http://127.0.0.1:9/of-the-tests.hdf5",
        other_versions="",
        **changes,
    )


def test_a_file_at_hand_is_loaded_checked_and_said_to_be_official(folders, table):
    path = write(folders / "of-the-tests.hdf5", 11, 3)
    row = table(like("hopper-medium-v2"))
    for row in (row, table(replace(row, sha256=sha256_of(path)))):
        data = load_official(row.task)
        assert (
            data.fidelity == "official"
            and data.sha256 == sha256_of(path)
            and len(data.transitions.actions) == M - 3
        )
        assert any(f"{row.task}, version v2" in note for note in data.notes)


def test_the_rule_of_the_row_is_the_one_that_cuts(tmp_path, table):
    path = write(tmp_path / "k.hdf5", 60, 9)
    episodes = {
        rule: int(
            read_official(like("kitchen-complete-v0", cuts=rule), path).transitions.episode.max()
        )
        + 1
        for rule in ("timeouts", "lengths:6", "fixed:2")
    }
    assert episodes == {"timeouts": 3, "lengths:6": 2, "fixed:2": 6}


def test_a_wrong_count_is_refused_with_both_numbers(tmp_path):
    path = write(tmp_path / "x.hdf5", 11, 3, steps=15)
    with pytest.raises(
        DataError,
        match="x.hdf5: saw 15 steps, 11 observed numbers, 3 actions, timeouts, "
        ".*expected 12 steps, 11 observed",
    ):
        read_official(like("hopper-medium-v2"), path)


@pytest.mark.parametrize("dims", [(17, 3), (11, 6)])
def test_a_file_of_another_body_is_refused(tmp_path, dims):
    with pytest.raises(
        DataError, match=f"saw 12 steps, {dims[0]} observed numbers, {dims[1]} actions"
    ):
        read_official(like("hopper-medium-v2"), write(tmp_path / "x.hdf5", *dims))


def test_a_wrong_hash_is_refused_though_all_counts_are_right(tmp_path):
    row = like("hopper-medium-v2")
    with pytest.raises(DataError, match="expected .*SHA-256 " + "0" * 64):
        read_official(replace(row, sha256="0" * 64), write(tmp_path / "x.hdf5", 11, 3))


def test_a_file_of_another_version_is_named_by_its_hash(tmp_path, table):
    """The file is right in every count, but its hash is that of another row."""
    path = write(tmp_path / "x.hdf5", 11, 3)
    row = table(
        replace(like("hopper-medium-v2"), sha256="0" * 64),
        replace(like("hopper-expert-v2"), sha256=sha256_of(path)),
    )
    with pytest.raises(
        DataError,
        match="; this is hopper-expert-v2-of-the-tests; get "
        "hopper-medium-v2-of-the-tests from http",
    ):
        read_official(row, path)


def test_a_file_without_timeouts_and_a_million_steps_has_the_counts_of_version_0(tmp_path):
    path = tmp_path / "hopper_medium.hdf5"
    # a million rows that take no room
    with h5py.File(path, "w") as file:
        for name, shape in dict(
            observations=(10**6, 11), actions=(10**6, 3), rewards=(10**6,), terminals=(10**6,)
        ).items():
            file.create_dataset(name, shape, np.float32, chunks=True, fillvalue=0)
    with pytest.raises(
        DataError,
        match="saw 1,000,000 steps, .*no timeouts.*; this has the counts of "
        "hopper-medium-v0; get hopper-medium-v2",
    ):
        read_official(task("hopper-medium-v2"), path)


def test_every_published_hash_is_recognised_as_its_own():
    for name, row in tasks().items():
        if row.fidelity == "official" and row.sha256:
            assert official.looks_like(official.Seen(row.sha256)) == f"; this is {name}"
    with open(DATA / "known_files.csv", newline="", encoding="utf-8") as f:
        for r in csv.DictReader(f):
            assert official.looks_like(official.Seen(r["sha256"])) == f"; this is {r['name']}"
    assert official.looks_like(official.Seen("0" * 64)) == ""


def test_where_nothing_can_be_had_the_error_names_what_lies_there(folders, table):
    path = write(folders / "of-the-tests.hdf5", 11, 3)
    other = replace(
        like("hopper-expert-v2"), sha256=sha256_of(path), source="http://127.0.0.1:9/elsewhere.hdf5"
    )
    row = table(replace(like("hopper-medium-v2"), sha256="0" * 64), other)
    with pytest.raises(
        FetchError,
        match="(?s)of-the-tests.hdf5 could not be had.*of-the-tests.hdf5; this is "
        "hopper-expert-v2-of-the-tests.",
    ) as told:
        load_official(row.task)
    assert "http://127.0.0.1:9/of-the-tests.hdf5" in str(told.value)


def test_what_is_no_hdf5_is_refused(tmp_path):
    path = tmp_path / "page.hdf5"
    path.write_text("<html>", encoding="utf-8")
    with pytest.raises(DataError, match="page.hdf5: saw SHA-256 .*, expected 12 steps"):
        read_official(like("hopper-medium-v2"), path)


def test_names_in_the_cache_are_the_publisher_s_and_never_shared():
    names = {name: file_name(row) for name, row in tasks().items() if row.fidelity == "official"}
    assert len(set(names.values())) == len(names)
    assert (
        names["hopper-medium-v2"] == "hopper_medium-v2.hdf5" and names["lift-ph"] == "lift-ph.hdf5"
    )


def robomimic(path, state_dim=19, lengths=(4, 5)):
    """Two demonstrations in robomimic's layout, the first ending in a success."""
    rng = np.random.default_rng(0)
    widths = dict(robot0_eef_pos=3, robot0_eef_quat=4, robot0_gripper_qpos=2, object=state_dim - 9)
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs.update(total=sum(lengths), env_args='{"env_name": "Lift"}')
        for i, n in enumerate(lengths):
            demo = file.create_group(f"data/demo_{i}")
            demo.attrs["num_samples"] = n
            demo["actions"] = rng.uniform(-1, 1, (n, 7))
            demo["rewards"] = demo["dones"] = (np.arange(n) == n - 1).astype(np.float64) * (i == 0)
            for group in ("obs", "next_obs"):
                for key, width in widths.items():
                    demo[f"{group}/{key}"] = rng.normal(size=(n, width))
    return path


def test_a_robomimic_file_goes_to_its_own_reader(tmp_path):
    row = replace(like("lift-ph"), transitions=9)
    data = read_official(row, robomimic(tmp_path / "low_dim.hdf5"))
    assert (
        data.fidelity == "official"
        and (data.state_dim, data.action_dim) == (19, 7)
        and int(data.transitions.terminals.sum()) == 1
    )
    with pytest.raises(DataError, match="saw 9 steps, 7 actions, .*expected 10 steps"):
        read_official(replace(row, transitions=10), tmp_path / "low_dim.hdf5")
    with pytest.raises(DataError, match="saw 23 state and 7 action dimensions, expected 19 and 7"):
        read_official(row, robomimic(tmp_path / "can.hdf5", 23))
