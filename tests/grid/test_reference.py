"""`arq reference`: which dataset is next, what a failure, a stop and a kill leave for the next run,
and five nights against a server on this machine.
"""

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from grids import ROOT, scratch

from arq_core.algorithm.types import DataError
from arq_core.config.settings import UnknownName
from arq_core.config.tasks import task, tasks
from arq_core.datasets import fetch
from arq_core.datasets.fetch import FetchError
from arq_core.grid import plan, reference
from arq_core.grid.reference import BEGUN, FAILED, FILLED, STOPPED, Asked, Tried
from arq_core.results import rows

HOPPER, PEN = "hopper-expert-v2", "minari-pen-human-v2"
TWO = Asked("toy", ("bc",), ("pen-human-v0", "door-human", "hopper-expert-v2"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of results without rows; cache and checkout are folders of the test."""
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
    monkeypatch.setattr(reference, "no_simulator", lambda row: "")
    return tmp_path / "results"


def queue(here, tried=None, asked=TWO):
    return reference.queue(ROOT, asked, here, tried or {})


def run(here, became, monkeypatch, asked=TWO, fetched="", proposes=lambda *_: None):
    """(whether it went well, what was said) of a run whose fetch and training end so."""

    def train(root, name, asked, results):
        if became == FILLED:
            for cell in reference.cells(root, name, asked):
                results.mkdir(exist_ok=True)
                (results / f"{cell.job}.jsonl").write_text("{}", encoding="utf-8")
        return became

    said = []
    monkeypatch.setattr(reference, "fetched", lambda row: fetched)
    monkeypatch.setattr(reference, "train", train)
    monkeypatch.setattr(reference, "propose", proposes)
    root = here.parent / "checkout"
    (root / "_build").mkdir(parents=True, exist_ok=True)
    (root / "workflow").mkdir(exist_ok=True)
    (root / "workflow/grids.toml").write_bytes((ROOT / "workflow/grids.toml").read_bytes())
    costs = root / "data/benchmarks"
    costs.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "data/benchmarks").glob("*.json"):
        (costs / path.name).write_bytes(path.read_bytes())
    good = reference.run(root, asked, here, here.parent / "out", said.append)
    return good, "\n".join(said)


def test_the_queue_is_every_published_dataset_without_rows_the_cheapest_first(here):
    every = queue(here, asked=Asked("fast"))
    made = {name for name, row in tasks().items() if row.made in ("download", "rebuild")}
    assert set(every) == made
    small, large = every.index("pen-human-v0"), every.index("transport-mh")
    assert small < every.index("hopper-medium-v2") < large


def test_a_dataset_has_its_rows_when_those_of_all_methods_are_committed(here):
    here.mkdir()
    asked = Asked("toy", ("bc", "s_psi"), TWO.tasks)
    cells = reference.cells(ROOT, "door-human", asked)
    (here / f"{cells[0].job}.jsonl").touch()
    assert "door-human" in queue(here, asked=asked)
    (here / f"{cells[1].job}.jsonl").touch()
    assert "door-human" not in queue(here, asked=asked)


@pytest.mark.parametrize("outcome", [BEGUN, STOPPED])
def test_what_was_killed_or_stopped_comes_first_until_it_was_so_too_often(here, outcome):
    last = queue(here)[-1]
    assert queue(here, {last: Tried(outcome, 1)})[0] == last
    first = queue(here)[0]
    assert queue(here, {first: Tried(outcome, reference.TRIES)})[-1] == first


@pytest.mark.parametrize("outcome", [BEGUN, STOPPED])
def test_rows_that_were_written_and_not_proposed_are_taken_up_again(here, outcome):
    here.mkdir()
    for cell in reference.cells(ROOT, "door-human", TWO):
        (here / f"{cell.job}.jsonl").touch()
    assert "door-human" not in queue(here)
    assert queue(here, {"door-human": Tried(outcome, 1)})[0] == "door-human"


def filled(here):
    """The checkout of `run`, with rows in the results and all steps of door-human finished."""
    root = here.parent / "checkout"
    here.mkdir(exist_ok=True)
    for cell in reference.cells(ROOT, "door-human", TWO):
        (here / f"{cell.job}.jsonl").touch()
        for path in plan.files(cell):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
    return root


def test_time_that_runs_out_before_rows_are_proposed_is_made_up_by_the_next_run(here, monkeypatch):
    asked = Asked("toy", ("bc",), ("door-human",))
    good, said = run(here, STOPPED, monkeypatch, asked)
    filled(here)  # the table wrote its last row while it was ended
    assert good and "stopped after 5 hours" in said
    good, said = run(here, FILLED, monkeypatch, asked, fetched="HTTP 503")
    assert not good and reference.read_state("toy")["door-human"].outcome == FAILED
    proposed = []
    propose = lambda root, name, *_: proposed.append(name)
    good, said = run(here, FILLED, monkeypatch, asked, proposes=propose)
    assert good and proposed == ["door-human"] and "its rows are proposed" in said
    assert reference.read_state("toy")["door-human"].outcome == FILLED


def test_rows_of_others_are_not_made_again_because_a_try_had_failed_here(here):
    here.mkdir()
    for cell in reference.cells(ROOT, "door-human", TWO):
        (here / f"{cell.job}.jsonl").touch()
    assert "door-human" not in queue(here, {"door-human": Tried(FAILED, 1)})


@pytest.mark.parametrize("missing", ["", "rows", "steps"])
def test_a_table_whose_time_ran_out_is_filled_where_nothing_is_missing(here, monkeypatch, missing):
    root = filled(here)
    (cell,) = reference.cells(ROOT, "door-human", TWO)
    if missing:
        (here / f"{cell.job}.jsonl" if missing == "rows" else root / plan.rows(cell)).unlink()
    (root / "workflow").mkdir()
    (root / "workflow/grids.toml").write_bytes((ROOT / "workflow/grids.toml").read_bytes())
    table = here.parent / "table"
    table.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    table.chmod(0o755)
    monkeypatch.setattr(reference.sys, "executable", str(table))
    asked = Asked("toy", ("bc",), hours=0)
    became = reference.train(root, "door-human", asked, here)
    assert became == (STOPPED if missing else FILLED)


def test_the_queue_is_shown_with_what_became_of_each(here):
    asked = Asked("fast", tasks=("can-ph",))
    reference.note("fast", "can-ph", Tried(FILLED))
    assert "can-ph  filled, 0 tries" in reference.shown(ROOT, asked, here)
    reference.note("fast", "can-ph", Tried(FAILED, 2, "no room\non the disk"))
    assert "can-ph  failed, 2 tries: no room\n" in reference.shown(ROOT, asked, here) + "\n"


def test_what_failed_comes_last_and_of_two_first_that_which_failed_less_often(here):
    a, b, c = queue(here)
    tried = {a: Tried(FAILED, 2), b: Tried(FAILED, 1)}
    assert queue(here, tried) == [c, b, a]


def test_what_is_filled_or_proposed_waits_unless_it_is_asked_for(here):
    rest = {name for name, row in tasks().items() if row.made in ("download", "rebuild")}
    asked = Asked("fast", proposed=(reference.branch("lift-ph", "fast"), "reference/x-fast"))
    left = queue(here, {"can-ph": Tried(FILLED)}, asked)
    assert rest - set(left) == {"can-ph", "lift-ph"}
    asked = Asked("fast", tasks=("can-ph",))
    assert queue(here, {"can-ph": Tried(FILLED)}, asked) == ["can-ph"]


def test_a_name_that_is_no_task_is_refused(here):
    with pytest.raises(UnknownName, match="saw hopper, expected names of data/tasks.csv"):
        queue(here, asked=Asked("fast", tasks=("hopper",)))


def test_nights_with_a_failed_fetch_a_stop_and_a_failed_training_go_on_to_the_next(
    here, monkeypatch
):
    a, b, c = queue(here)
    state = lambda: {n: (t.outcome, t.tries) for n, t in reference.read_state("toy").items()}
    good, said = run(here, FILLED, monkeypatch, fetched="HTTP 503")
    assert not good and f"{a} failed: HTTP 503" in said and state() == {a: (FAILED, 1)}
    good, said = run(here, STOPPED, monkeypatch)
    assert good and f"{b}: stopped after 5 hours" in said
    assert run(here, FILLED, monkeypatch)[0]  # the same goes on
    assert state() == {a: (FAILED, 1), b: (FILLED, 0)}
    good, said = run(here, "step q failed: no memory", monkeypatch)
    assert not good and f"{c} failed: step q failed: no memory" in said
    assert queue(here, reference.read_state("toy")) == [a, c]  # once each; the cheaper first
    assert run(here, FILLED, monkeypatch)[0] and run(here, FILLED, monkeypatch)[0]
    assert run(here, FILLED, monkeypatch) == (True, "nothing to fill here")


def test_a_run_that_was_killed_left_the_word_that_it_began(here, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    run(here, STOPPED, monkeypatch)
    monkeypatch.setattr(reference, "train", killed)
    with pytest.raises(Killed):
        reference.run(here.parent / "checkout", TWO, here, here.parent / "out", lambda _: None)
    seen = reference.read_state("toy")[queue(here)[0]]
    assert (seen.outcome, seen.tries) == (BEGUN, 2) and "killed" in seen.said


def test_a_dataset_without_its_simulator_is_left_out_and_said(here, monkeypatch):
    first, second, _ = queue(here)
    monkeypatch.setattr(
        reference, "no_simulator", lambda row: "no robosuite" if row.task == first else ""
    )
    good, said = run(here, STOPPED, monkeypatch)
    assert good and said.startswith(f"{first}: left out: no robosuite\n{second} at profile toy")
    assert set(reference.read_state("toy")) == {second}


def test_a_state_that_cannot_be_read_is_begun_anew(here, capsys):
    (here.parent / "cache").mkdir()
    (here.parent / "cache" / reference.STATE).write_text("{half", encoding="utf-8")
    assert reference.read_state("toy") == {} and "begun anew" in capsys.readouterr().err
    reference.note("toy", "maze", Tried(FAILED, 1, "x"))
    assert reference.read_state("toy")["maze"].said == "x" and not reference.read_state("fast")


@pytest.mark.parametrize("ends", [True, False])
def test_after_its_hours_the_table_is_interrupted_and_killed_where_it_does_not_end(
    here, monkeypatch, ends
):
    does = "echo stopped > interrupted; exit 130" if ends else "echo on > interrupted"
    table = here.parent / "table"
    table.write_text(f"#!/bin/sh\ntrap '{does}' INT\nwhile :; do sleep 0.05; done\n", "utf-8")
    table.chmod(0o755)
    monkeypatch.setattr(reference.sys, "executable", str(table))
    monkeypatch.setattr(reference, "GRACE", 30 if ends else 0.5)
    asked = Asked("toy", ("bc",), hours=0.5 / 3600)
    assert reference.train(here.parent, "door-human", asked, here) == STOPPED
    said = (here.parent / "interrupted").read_text(encoding="utf-8")
    assert said == ("stopped\n" if ends else "on\n")
    until(lambda: not _at_work(here.parent), 30)


def test_a_table_that_ends_without_a_word_is_said_with_its_status(here, monkeypatch):
    table = here.parent / "table"
    table.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    table.chmod(0o755)
    monkeypatch.setattr(reference.sys, "executable", str(table))
    asked = Asked("toy", ("bc",))
    assert reference.train(here.parent, "door-human", asked, here).startswith("arq table ended wi")


class Loading:
    """A row whose data end so."""

    made, suite, task = "download", "ogbench", "pointmaze-medium-navigate-singletask-v0"
    source = "http://127.0.0.1:9/pointmaze-medium-navigate-v0.npz"

    def __init__(self, error, sha256=""):
        self.error, self.sha256 = error, sha256

    def load(self):
        raise self.error


@pytest.mark.parametrize("published", [True, False])
def test_a_locked_file_that_cannot_be_read_is_forgotten_unless_its_hash_is_published(
    here, published
):
    local = here.parent / "local"
    local.mkdir()
    (local / "pointmaze-medium-navigate-v0.npz").write_bytes(b"damaged")
    path = fetch.fetch_locked("pointmaze-medium-navigate-v0.npz", [])
    other = local / "other.npz"
    other.write_bytes(b"other")
    fetch.fetch_locked("other.npz", [])
    said = reference.fetched(Loading(DataError("no npz"), "0" * 64 if published else ""))
    assert said.startswith("no npz") and ("forgotten" in said) != published
    locked = json.loads((here.parent / "cache/datasets.lock.json").read_text(encoding="utf-8"))
    assert path.exists() == published and ("other.npz" in locked)
    assert (path.name in locked) == published
    fetch.forget("never-there.npz")
    still = json.loads((here.parent / "cache/datasets.lock.json").read_text(encoding="utf-8"))
    assert still == locked


def test_a_file_that_could_not_be_had_is_not_forgotten(here):
    assert reference.fetched(Loading(FetchError("HTTP 503"))) == "HTTP 503"


# Five nights: two datasets on a server, one of which breaks off.


class Flaky(BaseHTTPRequestHandler):
    """Gives a third of what is asked for of the files in `server.broken`, then breaks off; ranges
    are honoured.
    """

    def do_GET(self):
        body = self.server.files.get(self.path, b"")
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start, total = int(asked[1]) if asked else 0, len(body)
        self.server.hits.append((self.path, start))
        self.send_response((206 if start else 200) if body else 404)
        self.send_header("Content-Length", str(total - start))
        self.send_header("ETag", '"1"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        part = (total - start) // (3 if self.path in self.server.broken else 1)
        with contextlib.suppress(OSError):
            self.wfile.write(body[start : start + part])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as server:
        server.files, server.broken, server.hits, server.daemon_threads = {}, set(), [], True
        threading.Thread(
            target=server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True
        ).start()
        yield server
        server.shutdown()


def hopper():
    """A file in D4RL's layout, of 300 steps in three episodes."""
    rng, held = np.random.default_rng(0), io.BytesIO()
    with h5py.File(held, "w") as file:
        file["observations"] = rng.normal(size=(300, 11)).astype(np.float32)
        file["actions"] = rng.uniform(-1, 1, (300, 3)).astype(np.float32)
        file["rewards"] = rng.normal(size=300).astype(np.float32)
        file["terminals"] = np.zeros(300, bool)
        file["timeouts"] = np.arange(300) % 100 == 99
    return held.getvalue()


def pen():
    """The two files of a dataset in Minari's layout, of four episodes of 40 steps."""
    rng, held, width, acts = np.random.default_rng(1), io.BytesIO(), 45, 24
    box = dict(type="Box", dtype="float64")
    spaces = dict(
        observation_space=box | dict(shape=[width], low=[-1e9] * width, high=[1e9] * width),
        action_space=box | dict(shape=[acts], low=[-1.0] * acts, high=[1.0] * acts),
    )
    meta = {name: json.dumps(space) for name, space in spaces.items()}
    meta |= dict(data_format="hdf5", total_episodes=4, total_steps=160, dataset_id="D4RL/pen")
    with h5py.File(held, "w") as file:
        for i in range(4):
            episode = file.create_group(f"episode_{i}")
            episode["observations"] = rng.normal(size=(41, width))
            episode["actions"] = rng.uniform(-1, 1, (40, acts))
            episode["rewards"] = rng.normal(size=40)
            episode["terminations"] = np.zeros(40, bool)
            episode["truncations"] = np.arange(40) == 39
    return {
        "/pen/main_data.hdf5": held.getvalue(),
        "/pen/metadata.json": json.dumps(meta).encode(),
    }


def checkout(folder, address):
    """A checkout whose table of tasks has the two datasets at the server's address."""
    root = scratch(folder, stand_ins=False)
    path = root / "data/tasks.csv"
    with open(path, newline="", encoding="utf-8") as f:
        table = list(csv.DictReader(f))
    sources = {HOPPER: f"{address}/hopper.hdf5", PEN: f"{address}/pen/main_data.hdf5"}
    for row in table:
        if row["task"] in sources:
            row |= dict(source=sources[row["task"]], sha256="", transitions="", other_versions="")
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    return root


def night(root, cache, *more):
    """A run of `arq reference`, begun; what it prints goes to night.log."""
    return subprocess.Popen(
        [sys.executable, "-m", "arq_core", "reference", "--profile", "toy", "--methods", "bc"]
        + ["--tasks", f"{HOPPER} {PEN}", *more],
        cwd=root,
        stdout=open(root / "night.log", "wb"),
        stderr=subprocess.STDOUT,
        env=os.environ
        | dict(
            PYTHONPATH=str(root),
            OMP_NUM_THREADS="1",
            ARQ_CACHE=str(cache),
            ARQ_LOCAL_DATA=str(root / "none"),
            no_proxy="127.0.0.1",
        ),
    )


def until(what, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow(reason="three datasets are trained through papermill, and downloads are retried")
@pytest.mark.skipif(sys.platform != "linux", reason="a killed head ends its steps on Linux alone")
def test_five_nights_fill_two_datasets_although_one_breaks_off_and_one_is_killed(tmp_path, server):
    root, cache = checkout(tmp_path / "checkout", f"http://127.0.0.1:{server.server_port}"), None
    cache, results = tmp_path / "cache", root / "data/results"
    server.files |= {"/hopper.hdf5": hopper()} | pen()
    log = lambda: (root / "night.log").read_text(encoding="utf-8")
    state = lambda: {
        name: seen["outcome"]
        for name, seen in json.loads((cache / reference.STATE).read_text("utf-8"))["toy"].items()
    }
    # the first night: whichever is first breaks off in the middle of its file
    server.broken |= set(server.files)
    assert night(root, cache).wait(600) == 1, log()
    (first,) = state()
    second = {HOPPER: PEN, PEN: HOPPER}[first]
    assert state() == {first: FAILED} and ": stopped after" in log()
    server.broken = {path for path in server.files if path.startswith("/pen") == (first == PEN)}
    # the second: the other is killed, with its data there and its training not
    run = night(root, cache)
    step = root / f"_build/grid/toy.released/{second}/dataset.json"
    until(lambda: step.exists() or run.poll() is not None)
    assert run.poll() is None, log()
    run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL and state() == {first: FAILED, second: BEGUN}
    asked, hits = ["--plan"], len(server.hits)
    listed = night(root, cache, *asked)
    assert listed.wait(120) == 0 and re.search(f"{second}  begun, 1 tries.*\n{first}  fa", log())
    # its table ends by itself: the next one would be refused else
    until(lambda: not _at_work(root))
    assert not list(results.glob("*.jsonl"))
    # the third goes on with it, from the file that is there
    assert night(root, cache).wait(600) == 0, log()
    assert len(server.hits) == hits and state() == {first: FAILED, second: FILLED}
    _is_proposed(root, second)
    # the fourth: the server is mended, and gives the rest of the file
    server.broken.clear()
    had = (cache / "downloads/.partial").glob("*.part")
    (size,) = [path.stat().st_size for path in had]
    assert night(root, cache).wait(600) == 0, log()
    assert server.hits[hits][1] == size > 0
    _is_proposed(root, first)
    # the fifth finds nothing to do, and proposes nothing
    assert night(root, cache).wait(600) == 0 and "nothing to fill here" in log()
    assert not (root / "_build/reference/branch").exists()


def _at_work(root):
    """Processes whose working folder is the checkout."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(path / "cwd") == str(root):
                found.append(path.name)
    return found


def _is_proposed(root, name):
    """Rows are in the results folder and, with their evidence, among what is proposed."""
    out, rowed = root / "_build/reference", f"{name}.toy.bc.released"
    assert (out / "branch").read_text("utf-8") == f"reference/{name}-toy\n"
    kept, laid = root / f"data/results/{rowed}.jsonl", out / f"rows/{rowed}.jsonl"
    assert laid.read_bytes() == kept.read_bytes() and len(rows.read_file(laid)) > 0
    record = json.loads((out / f"rows/{rowed}.run.json").read_text(encoding="utf-8"))
    for step in record["steps"]:
        assert (out / "rows" / step["notebook"]).is_file()
    said = (out / "body.md").read_text(encoding="utf-8")
    assert record["dataset"]["sha256"] in said and name in said and "smoke test" in said
    assert task(name).task in (out / "title").read_text(encoding="utf-8")
