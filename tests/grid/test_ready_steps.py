"""Steps that ask for a ready process: who answers, what a step learns, and what an interrupt does.
And what Snakemake prints becomes lines of progress.
"""

import json
import multiprocessing
import os
import signal
import socket
import threading
import time

import pytest
from grids import ROOT

from arq_core.book.board import Board
from arq_core.config.paths import GRID_READY
from arq_core.grid import driver, plan, ready_steps

JOB = dict(place="_build/x", step="q")


def _end(code):
    raise SystemExit(code)


def _wait():
    signal.signal(signal.SIGINT, lambda *_: _end(ready_steps.INTERRUPTED))
    time.sleep(60)


class Begun(ready_steps.Server):
    """Begins what the test says, in the place of a step."""

    def begin(self, job, threads):
        assert job == JOB and threads == os.environ.get("OMP_NUM_THREADS", "1")
        process = multiprocessing.get_context("fork").Process(target=self.what, args=self.given)
        process.start()
        self.running.add(process)
        return process


@pytest.fixture
def served(monkeypatch):
    """The address of a server, whose steps are a function with arguments."""
    monkeypatch.setattr(ready_steps, "Server", Begun)
    with ready_steps.serve(ROOT, {}) as given:
        monkeypatch.setenv(GRID_READY, given[GRID_READY])
        yield given[GRID_READY]


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_step_ends_as_the_process_that_did_it(served, monkeypatch, code):
    monkeypatch.setattr(Begun, "what", staticmethod(_end), raising=False)
    monkeypatch.setattr(Begun, "given", (code,), raising=False)
    assert ready_steps.ask(json.dumps(JOB)) == code


def test_a_step_whose_asker_is_gone_is_interrupted(served, monkeypatch):
    monkeypatch.setattr(Begun, "what", staticmethod(_wait), raising=False)
    monkeypatch.setattr(Begun, "given", (), raising=False)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(served)
        line.sendall(json.dumps(dict(job=JOB, threads=os.environ.get("OMP_NUM_THREADS", "1")))
                     .encode() + b"\n")  # fmt: skip
        time.sleep(1.0)
        line.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        assert line.recv(64) == b"130" and time.monotonic() - began < 30


def test_without_anybody_who_serves_a_step_does_it_itself(monkeypatch, tmp_path):
    monkeypatch.delenv(GRID_READY, raising=False)
    assert ready_steps.ask(json.dumps(JOB)) is None
    monkeypatch.setenv(GRID_READY, str(tmp_path / "nobody"))
    assert ready_steps.ask(json.dumps(JOB)) is None


def test_the_address_is_gone_with_the_run(served):
    assert os.stat(served) and os.stat(os.path.dirname(served)).st_mode & 0o077 == 0
    with ready_steps.serve(ROOT, {}) as other:
        path = other[GRID_READY]
    assert path != served and not os.path.exists(os.path.dirname(path))
    assert threading.active_count() < 50


SAID = """
[Mon Nov 30 05:42:48 2026]
localrule dataset:
    output: a.json, a.ipynb
    jobid: 14
    wildcards: profile=toy, variant=released, task=maze
[Mon Nov 30 05:42:49 2026]
Finished jobid: 14 (Rule: dataset)
1 of 3 steps (33%) done
rule policy:
    jobid: 2
    wildcards: profile=toy, variant=released, task=maze, method=bc
Error in rule policy:
    message: None
    jobid: 2
    output: b.json
"""


def test_what_snakemake_prints_is_told_as_cell_and_step():
    cells = plan.cells({"toy": ["maze"]}, ["bc"])
    shown = Board(3, 1, {"maze: dataset": 5.0}, noun="step", terminal=False)
    shown.waiting = {"maze: dataset": 5.0, "maze bc: policy": 5.0}
    jobs, seen = driver.Jobs(ROOT, driver.Request(tuple(cells), "toy", "released"), shown), []
    for line in SAID.splitlines(keepends=True):
        jobs.hear(line)
        seen.append(list(shown.running))
    assert ["maze: dataset"] in seen and ["maze bc: policy"] in seen
    assert seen[-1] == [] and shown.done == 2 and shown.waiting == {}
