"""Who is meant by a name: a task, a file or a folder by what exists, ~ and variables filled in; and
what rows of one's own data are called.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from arq_core.__main__ import arq
from arq_core.algorithm.types import DataError
from arq_core.book import pages
from arq_core.book.notebook import RunError
from arq_core.config import paths
from arq_core.config.settings import UnknownName
from arq_core.datasets.find import find
from arq_core.datasets.own import from_arrays, own_name, read_own, row_name
from arq_core.experiments import experiment
from arq_core.results import rows as results
from arq_core.results.records import ResultsError, run_path, write_run


def arrays(seed=0, steps=60):
    rng = np.random.default_rng(seed)
    return dict(
        observations=rng.normal(size=(steps, 2)),
        actions=rng.uniform(-1, 1, (steps, 2)),
        rewards=rng.normal(size=steps),
        terminals=np.arange(steps) % 20 == 19,
        timeouts=np.zeros(steps, bool),
    )


def written(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, x in arrays(seed).items():
            file[name] = x
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MY_DATA", str(tmp_path / "data of mine"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


ENDINGS = ("MINE.HDF5", "mine.hdf", "mine.H5", "mine", "mine.v2.h5", "mine.data", "it's (2).hdf5")


@pytest.mark.parametrize("name", ENDINGS)
def test_a_file_that_exists_is_read_whatever_its_ending(here, name):
    written(here / "work" / name)
    source = find(name)
    assert source.task is None and source.exists()
    assert source.load().transitions.fingerprint() == from_arrays(**arrays()).sha256
    assert experiment.prepare(name, "toy", 1, group="maze").dataset.sha256 == source.load().sha256


@pytest.mark.parametrize("place", ["~/a/x.hdf5", "$MY_DATA/x", "${MY_DATA}/x.h5", "~/$NOT_SET.h5"])
def test_home_and_variables_are_filled_in(here, place):
    at = written(paths.given(place))
    assert here in at.parents
    source = find(place)
    assert source.own == str(at) and read_own(place).sha256 == source.load().sha256
    job = pages.row_job(paths.root(), place, "toy", "bc", "maze", "", "0")
    assert job.parameters["task"] == str(at)


def test_what_is_known_of_a_task_is_not_asked_of_a_file(here):
    written(here / "work/mine.h5")
    told = CliRunner().invoke(arq, ["task", "mine.h5"])
    assert told.exit_code == 1 and "`arq row` takes your data" in told.stderr


def test_a_dollar_that_is_a_part_of_an_existing_name_stays(here, monkeypatch):
    monkeypatch.setenv("b", "other")
    written(here / "work/a$b.h5")
    assert find("a$b.h5").exists() and find("a$b.h5").own.endswith("a$b.h5")


@pytest.mark.parametrize(
    "variable, ask",
    [
        ("ARQ_CACHE", paths.cache_folder),
        ("ARQ_LOCAL_DATA", paths.local_folder),
        ("MINARI_DATASETS_PATH", paths.minari_folder),
    ],
)
@pytest.mark.parametrize("text, place", [("~/x", "home/x"), ("$MY_DATA/y", "data of mine/y")])
def test_folders_of_the_environment_are_filled_in(here, monkeypatch, variable, ask, text, place):
    monkeypatch.setenv(variable, text)
    assert ask() == here / place


def test_the_checkout_too(here, monkeypatch):
    (here / "home/arq/book").mkdir(parents=True)
    (here / "home/arq/data").mkdir()
    (here / "home/arq/data/tasks.csv").write_text("task\n", encoding="utf-8")
    monkeypatch.setenv("ARQ_ROOT", "~/arq")
    assert paths.root() == (here / "home/arq").resolve()


@pytest.mark.parametrize("name", ["maze", "door-human", "hopper-medium-v2"])
def test_a_task_is_not_hidden_by_a_folder_of_its_name(here, name):
    (here / "work" / name).mkdir()
    assert find(name).task.task == name
    for path in (f"./{name}", f"{name}/", Path(name), str(here / "work" / name)):
        assert find(path).task is None, path


MISSING = (
    "absent.hdf5",
    "absent.HDF",
    "no/such/folder",
    "~/absent.h5",
    "$MY_DATA/absent",
    "./maze",
)


@pytest.mark.parametrize("name", MISSING)
def test_a_path_that_does_not_exist_is_named_and_no_task_is_listed(here, name):
    with pytest.raises(DataError, match="saw no such file or folder") as told:
        experiment.prepare(name, "toy", 1, group="maze")
    with pytest.raises(RunError, match="expected a file that exists") as in_a_row:
        pages.row_job(paths.root(), name, "toy", "bc", "maze", "", "0")
    for said in (str(told.value), str(in_a_row.value)):
        assert str(paths.given(name).absolute()) in said and "door-human" not in said


@pytest.mark.parametrize("name", ["x" * 300 + ".h5", "nul\0.hdf5"])
def test_a_name_that_no_file_can_have_is_one_that_does_not_exist(here, name):
    with pytest.raises(DataError, match="saw no such file or folder"):
        experiment.prepare(name, "toy", 1, group="maze")


def test_an_id_of_minari_without_its_sign_is_told_how_to_write_it(here):
    with pytest.raises(DataError, match="write minari: before the id"):
        find("D4RL/pen/expert-v2").load()


@pytest.mark.parametrize("name", ["", "dor-human", "maze2", "x" * 300, "nul\0"])
def test_any_other_name_lists_the_tasks(here, name):
    with pytest.raises(UnknownName, match="'maze'"):
        find(name)


@pytest.mark.parametrize(
    "name, called",
    [
        ("a/b.h5", "b"),
        ("my data.v2.hdf5", "my-data-v2"),
        ("donnees_éàü.h5", "donnees_eau"),
        ("数据.hdf5", "own-data"),
        ("x" * 200 + ".h5", "x" * 60),
        ("-a--b-.h5", "a-b"),
        ("minari:mujoco/hopper/expert-v0", "mujoco-hopper-expert-v0"),
    ],
)
def test_names_of_rows_have_plain_letters_alone(here, name, called):
    assert own_name(name) == called
    data = from_arrays(**arrays())
    assert row_name(called, data) == f"{called}-{data.sha256[:8]}"
    tried = ("adroit", "gymnasium:a.package:Door-v1")
    assert row_name(called, data, *tried).endswith("-adroit-gymnasium-a-package-Door-v1")
    results.NAME[0](row_name(called, data, *tried)) or pytest.fail("no name of rows")


def test_a_folder_has_its_whole_name_and_data_is_none(here):
    for place in ("relocate.v3/data", "relocate.v3"):
        (here / "work" / place).mkdir(exist_ok=True, parents=True)
        assert own_name(place) == "relocate-v3"


def task_of(name, **more):
    return experiment.prepare(name, "toy", 1, group="maze", device="cpu", **more).task.task


def test_files_of_one_name_are_told_apart_and_a_copy_is_not(here):
    first, second = written(here / "square/ph/low_dim.hdf5", 1), written(here / "b/low_dim.hdf5", 2)
    (here / "moved").mkdir()
    copy = shutil.copyfile(first, here / "moved/low_dim.hdf5")
    assert task_of(str(first)) == task_of(copy) != task_of(str(second))
    assert task_of(str(first)).startswith("low_dim-")
    jobs = [
        pages.row_job(paths.root(), str(path), "toy", "bc", "maze", "", "0").target
        for path in (first, second)
    ]
    assert jobs[0] != jobs[1]


def minari(folder, name, seed):
    """A folder as Minari writes it, of one episode."""
    folder.mkdir(parents=True)
    box = dict(type="Box", dtype="float32", shape=[2], low=[-1, -1], high=[1, 1])
    said = dict(observation_space=json.dumps(box), action_space=json.dumps(box))
    said |= dict(total_episodes=1, total_steps=60, dataset_id=name, data_format="hdf5")
    (folder / "metadata.json").write_text(json.dumps(said), encoding="utf-8")
    x = arrays(seed)
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        group["observations"] = np.concatenate([x["observations"], np.zeros((1, 2))])
        group["actions"], group["rewards"] = x["actions"], x["rewards"]
        group["terminations"], group["truncations"] = x["timeouts"], np.arange(60) == 59
    return folder


def test_datasets_of_minari_have_their_whole_id_as_folders_too(here, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", "$MY_DATA/minari")
    names = {}
    for seed, name in enumerate(("D4RL/hammer/expert-v2", "D4RL/relocate/expert-v2")):
        folder = minari(paths.minari_folder() / name / "data", name, seed)
        asked = (f"minari:{name}", str(folder), str(folder.parent), "$MY_DATA/minari/" + name)
        names[name] = {task_of(way) for way in asked}
        assert all(one.startswith(name.replace("/", "-")) for one in names[name])
    assert [len(some) for some in names.values()] == [1, 1] and len(set.union(*names.values())) == 2


def test_what_is_read_first_and_what_is_named_have_one_name(here):
    path = written(here / "work/tool hang.hdf5")
    assert task_of(read_own(path)) == task_of(str(path)) == task_of(path)


def test_arrays_are_told_apart_and_can_be_named(here):
    names = {task_of(from_arrays(**arrays(seed))) for seed in range(3)}
    assert len(names) == 3 and all(name.startswith("own-data-") for name in names)
    assert task_of(from_arrays(**arrays(), name="a b/c.d")).startswith("a-b-c-d-")


def test_rows_of_two_files_of_one_name_stand_side_by_side(here):
    for seed in (1, 2):
        path = written(here / f"{seed}/transport.hdf5", seed)
        setup = experiment.prepare(
            str(path), "toy", 1, group="maze", environment="maze", device="cpu"
        )
        experiment.measure_and_write(setup, "random", here / "results")
    rows = results.read_rows(here / "results")
    assert len({row["dataset_sha256"] for row in rows}) == len({row["task"] for row in rows}) == 2


def test_rows_of_a_task_whose_data_changed_are_refused_before_training(here, monkeypatch):
    setup = experiment.prepare("bridge", "toy", 1, device="cpu")
    written_rows = experiment.measure_and_write(setup, "random", here / "results")
    path = here / "results" / results.file_name("bridge", "toy", "random", "released")
    write_run(path, {"task": "bridge"})
    before = path.read_bytes(), run_path(path).read_bytes()
    remade = replace(setup, dataset=replace(setup.dataset, sha256="c" * 64))
    with monkeypatch.context() as m:
        m.setattr(experiment, "measure", lambda *args: pytest.fail("training began"))
        with pytest.raises(ResultsError, match="rows of other data are never replaced"):
            experiment.measure_and_write(remade, "random", here / "results")
    with pytest.raises(ResultsError, match=r"cccccccccccc.*run\.json.*away"):
        results.write_rows(path, [row | {"dataset_sha256": "c" * 64} for row in written_rows])
    assert (path.read_bytes(), run_path(path).read_bytes()) == before
    experiment.measure_and_write(setup, "random", here / "results")  # the same data may
    path.rename(here / "kept.jsonl")
    assert {
        row["dataset_sha256"]
        for row in experiment.measure_and_write(remade, "random", here / "results")
    } == {"c" * 64}
