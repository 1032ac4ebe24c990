"""Two books, or two of the same row, at once: the second is told of the first before it touches
anything, and the table waits with its book for another.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from arq_core.book import notebook, pages
from arq_core.book.notebook import Job, RunError
from arq_core.config import lock
from arq_core.grid import run as grid_run

ROOT = Path(__file__).resolve().parents[2]
BEGIN = """
import time
from pathlib import Path
from arq_core import __main__ as command
from arq_core.book import notebook, pages

def begin(*_):
    print("began", flush=True)
    time.sleep(300)

pages.note_missing = notebook.run = begin
notebook.job_key = lambda *_: "key"
pages.row_job = lambda root, task, **_: notebook.Job(root / "n", root / f"_build/rows/{task}.ipynb")
"""


def arq(folder, *arguments):
    """`arq` in a checkout in `folder`, whose work takes five minutes."""
    for name in ("data", "book"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "data/tasks.csv").write_text("task,loader\n", encoding="utf-8")
    code = f"{BEGIN}\ncommand.main({list(arguments)!r})"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"ARQ_ROOT": str(folder)},
    )


@pytest.mark.parametrize(
    "first, second, held",
    [
        (["book"], ["book", "--jobs", "2"], "_build/book.lock"),
        (["row", "maze"], ["row", "maze", "--seeds", "1"], "_build/rows/maze.lock"),
    ],
)
def test_a_second_one_is_told_of_the_first(tmp_path, first, second, held):
    running = arq(tmp_path, *first)
    try:
        assert running.stdout.readline() == "began\n"
        told = arq(tmp_path, *second)
        out, error = told.communicate(timeout=60)
        assert told.returncode == 1 and out == ""
        assert error.startswith(
            f"error: {held}: saw a run that is going on (process {running.pid}, begun 2"
        )
        assert "wait for it, or stop it with Ctrl-C" in error and running.poll() is None
        running.kill()
        running.communicate()
        # nothing is left of one that was killed
        again = arq(tmp_path, *second)
        assert again.stdout.readline() == "began\n"
        again.kill()
        again.communicate()
    finally:
        running.kill()


def test_another_row_may_be_run_at_the_same_time(tmp_path):
    running = [arq(tmp_path, "row", task) for task in ("maze", "bridge")]
    try:
        assert [r.stdout.readline() for r in running] == ["began\n"] * 2
    finally:
        for r in running:
            r.kill()
            r.communicate()


def test_a_table_waits_for_a_book_that_is_being_built(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(grid_run.pages, "build", lambda *_, **more: asked.append(more))
    monkeypatch.setattr(grid_run.driver, "planned", lambda *_: [])
    monkeypatch.setattr(grid_run.driver, "room", lambda *_: None)
    monkeypatch.setattr(grid_run, "_cost", lambda *_: None)
    monkeypatch.setattr(grid_run, "_shown", lambda *_: "")
    monkeypatch.setattr(grid_run, "_report", lambda *_: True)
    monkeypatch.setattr(grid_run, "book_profile", lambda root: "page")
    request = SimpleNamespace(engine="laptop", cells=(), profile="toy")
    assert grid_run.run(tmp_path, request, True, tmp_path) and asked == [{"wait": True}]


def test_the_builder_of_the_pages_holds_the_lock_too(tmp_path, monkeypatch):
    """Who kills `make book` leaves it at work, in folders that a second one would remove."""
    seen = []

    def builder(*_, pass_fds=(), **__):
        with pytest.raises(RunError), lock.only_one(tmp_path, pages.LOCK, RunError):
            pass
        seen.extend(pass_fds)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(pages, "note_missing", lambda root: None)
    monkeypatch.setattr(pages, "run_notebooks", lambda *_: None)
    monkeypatch.setattr(pages, "_page_key", lambda root: "key")
    monkeypatch.setattr(pages.subprocess, "run", builder)
    with pytest.raises(RunError, match="pages: saw these"):
        pages.build(tmp_path, "ci")
    assert len(seen) == 1 and isinstance(seen[0], int)
    with lock.only_one(tmp_path, pages.LOCK, RunError):
        pass


def test_a_row_frees_its_lock_when_its_notebook_fails(tmp_path, monkeypatch):
    def fails(*_):
        raise RunError("no such door")

    job = Job(tmp_path / "n.ipynb", tmp_path / "_build/rows/a.toy.all.ipynb")
    monkeypatch.setattr(pages, "row_job", lambda root, **_: job)
    monkeypatch.setattr(notebook, "job_key", lambda *_: "key")
    monkeypatch.setattr(notebook, "run", fails)
    for _ in range(2):
        with pytest.raises(RunError, match="no such door"):
            pages.run_row(tmp_path, task="a")
