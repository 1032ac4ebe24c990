"""Policies of rows: made by their recipe, fetched from a server on this machine, verified, loaded;
and the committed list holds only what exists.
"""

import hashlib
import json
import tomllib
from dataclasses import replace

import bad_server
import numpy as np
import pytest
from click.testing import CliRunner
from row_sets import run_cells

import arq_core as arq
from arq_core.__main__ import arq as command
from arq_core.algorithm.behavior import with_budget
from arq_core.algorithm.types import DataError
from arq_core.config import settings, tasks
from arq_core.config.paths import DATA
from arq_core.config.settings import UnknownName
from arq_core.datasets import download
from arq_core.datasets.fetch import FetchError
from arq_core.experiments import experiment, weights
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.in_page import bridge_walk
from arq_core.results import rows

TOY = '[make.toy]\ntask = "bridge"\nprofile = "toy"\nmethod = "arq+s_psi"\nseed = 1\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with what a release makes of a toy, for the address http://there/v1."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARQ_CACHE", str(folder / "cache"))
        patch.setattr(
            weights, "recipes", lambda: {"toy": weights.Making(**tomllib.loads(TOY)["make"]["toy"])}
        )
        files = weights.make(folder / "dist", "toy", "http://there/v1")
    assert [f.name for f in files] == ["toy.arq", "toy.json", "published.toml"]
    return folder / "dist"


@pytest.fixture
def list_of(tmp_path, monkeypatch):
    """Writes the list that is read instead of the committed one; nothing waits long."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(weights, "DATA", tmp_path)
    return lambda text: (tmp_path / weights.FILE).write_text(text, encoding="utf-8")


def entry(made, address):
    return (made / weights.PUBLISHED).read_text("utf-8").replace("http://there/v1/toy.arq", address)


def ran(*words):
    return CliRunner().invoke(command, list(map(str, words)))


def test_what_was_made_says_itself_what_the_list_needs(made):
    said = tomllib.loads((made / weights.PUBLISHED).read_text("utf-8"))["published"]["toy"]
    body = (made / "toy.arq").read_bytes()
    assert said == dict(
        url="http://there/v1/toy.arq", sha256=hashlib.sha256(body).hexdigest(), bytes=len(body)
    )
    card = json.loads((made / "toy.json").read_text("utf-8"))
    assert (card["task"], card["method"], card["seed"]) == ("bridge", "arq+s_psi", 1)
    assert card["dataset"]["sha256"] and card["commit"] and "probe" not in card


@pytest.mark.parametrize("place", ["right", "flaky", "noranges", "moved"])
def test_a_published_policy_is_fetched_and_acts_as_it_did(
    made, list_of, tmp_path, monkeypatch, place
):
    body = (made / "toy.arq").read_bytes()
    monkeypatch.setattr(bad_server, "PIECE", len(body) // 3 + 1)  # what is cut comes in three
    with bad_server.running(body) as server:
        list_of(TOY + entry(made, f"{server.address}/{place}"))
        run = ran("weights", "toy", tmp_path / "mine.arq")
        assert run.exit_code == 0, run.output
        assert len(server.hits) == {"flaky": 3, "moved": 2}.get(place, 1)
        again = len(server.hits)
        ran("weights", "toy")
        assert len(server.hits) == again  # from the cache
    x = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 2)).astype(np.float32)
    kept, fetched = arq.load(made / "toy.arq"), arq.load(tmp_path / "mine.arq")
    assert np.array_equal(kept.predict(x, seed=2), fetched.predict(x, seed=2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "mine.arq", weights.FILE]


def test_what_was_made_before_stays_listed_and_the_address_may_end_in_a_slash(
    made, tmp_path, monkeypatch
):
    recipe = weights.Making(**tomllib.loads(TOY)["make"]["toy"])
    both = {name: recipe for name in ("toy", "other")}
    monkeypatch.setattr(weights, "recipes", lambda: both)
    monkeypatch.setattr(weights, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(weights.kept, "policy", lambda *_: arq.load(made / "toy.arq"))
    for name in both:
        weights.make(tmp_path, name, "http://there/v2/")
    said = tomllib.loads((tmp_path / weights.PUBLISHED).read_text("utf-8"))["published"]
    assert {k: x["url"] for k, x in said.items()} == {
        name: f"http://there/v2/{name}.arq" for name in both
    }
    (tmp_path / weights.PUBLISHED).write_text("[published.toy]\nurl = 3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"published.toml \[published.toy\]: saw {'url': 3}"):
        weights.make(tmp_path, "other", "http://there/v2")  # it would be lost


def test_a_page_can_run_on_a_kept_policy(made):
    policy = arq.load(made / "toy.arq").policy
    exact = replace(policy, behavior=with_budget(policy.behavior, probes=0))  # as pages run it
    shown = bridge_walk(exact, settings.hyper("bridge"))
    assert not shown.problem and shown.walked().steps.sum() > 0


def page(name):
    """What the page of a row holds, run on a policy."""
    return run_cells("14_train_evaluate.ipynb", weights=name)


def test_the_page_of_a_row_runs_on_a_fetched_policy_and_scores_what_the_row_scores(
    made, list_of, tmp_path, monkeypatch
):
    begun = []  # the toy falls off the bridge whatever its draws are

    def noted(policy, envs, episodes, rng, horizon):
        begun.append((tuple(rng.seeds), episodes, horizon))
        return evaluate(policy, envs, episodes, rng, horizon)

    for module in (experiment, weights):
        monkeypatch.setattr(module, "evaluate", noted)
    monkeypatch.setenv("ARQ_CACHE", str(made.parent / "cache"))  # where it is trained already
    e = experiment.prepare("bridge", "toy", device="cpu")
    row = experiment.measure(e, "arq+s_psi")
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    for name in ("prepare", "train", "missing"):
        monkeypatch.setattr(experiment, name, lambda *_: pytest.fail("no data, no training"))
    with bad_server.running((made / "toy.arq").read_bytes()) as server:
        list_of(TOY + entry(made, f"{server.address}/right"))
        shown = page("toy")
    (of_row, of_page), among = begun, e.seeds.index(1)
    assert of_page == (of_row[0][among : among + 1], *of_row[1:])
    same = ("task", "profile", "method", "variant", "seed", "episode", "return_", "length", "score")
    own = [r for r in row if r["seed"] == 1]
    assert own and [[r[k] for k in same] for r in shown["rows"]] == [
        [r[k] for k in same] for r in own
    ]
    assert {r["dataset_sha256"] for r in shown["rows"]} == {e.dataset.sha256}
    assert [r["score"] for r in page(str(made / "toy.arq"))["rows"]] == [r["score"] for r in own]


def test_the_page_of_a_row_does_not_run_on_another_file(made, list_of):
    with bad_server.running((made / "toy.arq").read_bytes()) as server:
        list_of(TOY + entry(made, f"{server.address}/wrong"))
        with pytest.raises(FetchError, match="with SHA-256"):
            page("toy")
    with pytest.raises(UnknownName, match="weights: saw 'tot'"):
        page("tot")


@pytest.mark.parametrize(
    ("place", "told"), [("wrong", "with SHA-256"), ("page", "a web page"), ("absent", "HTTP 404")]
)
def test_another_file_is_refused_and_nothing_is_left(made, list_of, tmp_path, place, told):
    with bad_server.running((made / "toy.arq").read_bytes()) as server:
        list_of(TOY + entry(made, f"{server.address}/{place}"))
        run = ran("weights", "toy", tmp_path / "mine.arq")
    assert run.exit_code == 1 and told in run.stderr and "by other means" in run.stderr
    assert not (tmp_path / "mine.arq").exists()
    assert not [p for p in (tmp_path / "cache/downloads").iterdir() if p.suffix == ".arq"]


def test_without_a_network_it_says_what_to_do_and_a_local_copy_serves(made, list_of, tmp_path):
    list_of(TOY + entry(made, "http://127.0.0.1:9/toy.arq"))
    with pytest.raises(FetchError, match="ConnectionError") as told:
        weights.fetch("toy")
    file = f"toy-{hashlib.sha256((made / 'toy.arq').read_bytes()).hexdigest()[:12]}.arq"
    assert file in str(told.value) and "set ARQ_LOCAL_DATA to the folder" in str(told.value)
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / file).write_bytes((made / "toy.arq").read_bytes())
    assert arq.load(weights.fetch("toy")).card["seed"] == 1


def test_unknown_and_unpublished_names_are_told_apart(list_of):
    list_of(TOY)
    with pytest.raises(UnknownName, match="weights: saw 'tot', expected one of 'toy'"):
        weights.fetch("tot")
    with pytest.raises(DataError, match="saw no published file.*arq weights toy --make FOLDER"):
        weights.fetch("toy")
    assert (
        "seed 1; not published" in weights.listed() and "Nothing is published" in weights.listed()
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TOY.replace("seed = 1\n", ""), r"\[make.toy\]"),
        ("make.toy = 3\n", r"weights.toml \[make.toy\]: saw 3, expected"),
        (TOY.replace("seed = 1", 'seed = "1"'), r"seed \(int\)"),
        (TOY.replace("[make.toy]", '[make."To y"]'), "a name of small letters"),
        ('[published.toy]\nurl = "http://x/y"\nsha256 = "0"\nbytes = 1\n', "without .make.toy."),
        (TOY + '[published.toy]\nurl = "http://x/y"\nsha256 = "0"\n', r"\[published.toy\]"),
    ],
)
def test_a_list_that_says_too_little_is_refused(list_of, text, told):
    list_of(text)
    with pytest.raises(DataError, match=told):
        weights.listed()


def test_a_folder_is_no_file_to_fetch_to(made, list_of, tmp_path):
    list_of(TOY + entry(made, "http://127.0.0.1:9/toy.arq"))
    (tmp_path / "mine").mkdir()
    run = ran("weights", "toy", tmp_path / "mine")
    assert run.exit_code == 1
    assert f"mine: saw a folder, expected the name of a file, such as {tmp_path}" in run.stderr


def test_words_that_contradict_each_other_are_refused():
    for words in (["x", "y", "--make", "z"], ["x", "--address", "http://y"]):
        assert ran("weights", *words).exit_code == 2


def test_the_committed_list_names_rows_that_there_are_and_that_mean_something():
    assert weights.DATA == DATA and weights.recipes()
    there = rows.read_rows(DATA / "results")
    for name, r in weights.recipes().items():
        group = tasks.task(r.task).group
        assert not settings.smoke_test(r.profile, group), name
        of_row = [
            x
            for x in there
            if (x["task"], x["profile"], x["method"]) == (r.task, r.profile, r.method)
        ]
        assert r.seed in {x["seed"] for x in of_row}, name
        assert r.method in experiment.find_method(r.method)
    for name, p in weights.published().items():
        assert p.url.startswith("https://") and len(p.sha256) == 64 and p.bytes > 0, name
