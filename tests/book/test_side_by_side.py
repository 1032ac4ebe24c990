"""Notebooks side by side: they do run at the same time, one that fails stops no other, and
nothing is left of a run that was stopped.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from arq_core.book import side_by_side
from arq_core.book.notebook import Job, RunError

ROOT = Path(__file__).resolve().parents[2]
NOTE_PID = (
    "import os, pathlib; "
    "pathlib.Path('pid{n}.part').write_text(str(os.getpid())); "
    "os.rename('pid{n}.part', 'pid{n}'); "
)


def jobs(folder, *codes):
    """(job, key) of notebooks with one cell each."""
    made = []
    for n, code in enumerate(codes):
        nb = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(code.format(n=n))],
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
        )
        nbformat.write(nb, folder / f"n{n}.ipynb")
        made.append((Job(folder / f"n{n}.ipynb", folder / f"done/n{n}.ipynb"), "key"))
    return made


def gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def until(holds, seconds=90):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    "cores, memory, wanted", [(1, 64e9, 1), (2, 64e9, 2), (64, 64e9, 4), (64, 7e9, 3), (2, 1e9, 1)]
)
def test_as_many_as_cores_and_memory_allow_up_to_four(cores, memory, wanted):
    assert side_by_side.how_many(cores, memory) == wanted


def test_two_run_at_the_same_time_each_on_its_share_of_the_cores(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(side_by_side.processes, "cores", lambda: 6)
    meets = (
        "import os, pathlib, time; "
        "pathlib.Path('here{n}').write_text(os.environ['OMP_NUM_THREADS']); end = "
        "time.time() + 60\nwhile not pathlib.Path(f'here{{1 - {n}}}').exists():\n  "
        "  assert time.time() < end, 'alone'\n    time.sleep(.05)\nprint('met')"
    )
    side_by_side.run(tmp_path, jobs(tmp_path, meets, meets), 2, tmp_path / "logs")
    assert [(tmp_path / f"here{n}").read_text(encoding="utf-8") for n in (0, 1)] == ["3", "3"]
    for n in (0, 1):
        # libzmq may add a line: a process that ends can fail its assertion in signaler.cpp, with
        # all done
        said = (tmp_path / f"logs/n{n}.log").read_text(encoding="utf-8")
        assert (
            "met" in (tmp_path / f"done/n{n}.ipynb").read_text(encoding="utf-8")
            and said.splitlines()[0] == "met"
            and said.count("met") == 1
        ), said
    told = capfd.readouterr().out
    assert told.count("  runs  ") == 2 and told.count("  done  ") == 2


def test_a_notebook_waits_for_those_whose_steps_it_takes_and_others_do_not(tmp_path):
    def job(name, *after):
        return Job(tmp_path / name, tmp_path / f"done/{name}.ipynb", after=after), "key"

    clone, looks, other = job("clone"), job("looks", "clone", "done before"), job("other")
    at_work = {"pipe": (clone[0], tmp_path / "log", None)}
    assert side_by_side.upcoming([looks, clone, other], {}) == clone
    assert side_by_side.upcoming([looks, other], at_work) == other
    assert side_by_side.upcoming([looks], at_work) is None
    assert side_by_side.upcoming([looks], {}) == looks


def test_one_that_fails_and_one_whose_process_dies_leave_the_others_done_and_are_both_named(
    tmp_path,
):
    kills = "import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
    with pytest.raises(RunError) as raised:
        side_by_side.run(
            tmp_path,
            jobs(tmp_path, "raise ValueError('no such door')", kills, "print(1)"),
            2,
            tmp_path / "logs",
        )
    for told in (
        "n0.ipynb: cell 0 raised ValueError: no such door",
        "logs/n0.log",
        "n1.ipynb: saw its process end",
        "logs/n1.log",
    ):
        assert told in str(raised.value)
    assert [p.name for p in (tmp_path / "done").glob("[!.]*")] == ["n2.ipynb"]


@pytest.mark.parametrize("workers, how", [(2, "Ctrl-C"), (1, "kill -9")])
def test_a_run_that_is_stopped_leaves_the_earlier_copies_and_no_kernel(tmp_path, workers, how):
    (tmp_path / "book").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/profiles.toml").write_text("[ci]\n", encoding="utf-8")
    (tmp_path / "data/tasks.csv").write_text("task,loader\n", encoding="utf-8")
    (tmp_path / "book/_toc.yml").write_text(
        "root: a\nchapters:\n" + "".join(f"- file: executed/n{n}\n" for n in range(workers)),
        encoding="utf-8",
    )
    (tmp_path / "book/notebooks.toml").write_text(
        "".join(f'[[notebook]]\nsource = "n{n}.ipynb"\npage = "n{n}"\n' for n in range(workers)),
        encoding="utf-8",
    )
    jobs(tmp_path, *[NOTE_PID + "import time; time.sleep(300)"] * workers)
    earlier = tmp_path / "book/executed/n0.ipynb"
    earlier.parent.mkdir()
    earlier.write_text("the earlier run", encoding="utf-8")
    code = (
        "from arq_core import __main__ as command\nfrom arq_core.book import pages\n"
        "pages.note_missing = lambda root: None\n"
        "if __name__ == '__main__':\n"
        f"    command.main(['book', '--profile', 'ci', '--jobs', '{workers}'])"
    )
    (tmp_path / "go.py").write_text(code, encoding="utf-8")
    running = subprocess.Popen(
        [sys.executable, tmp_path / "go.py"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        env=os.environ | {"ARQ_ROOT": str(tmp_path)},
        # a background shell ignores it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until(
        lambda: (
            running.poll() is None and all((tmp_path / f"pid{n}").exists() for n in range(workers))
        )
    )
    kernels = [int((tmp_path / f"pid{n}").read_text(encoding="utf-8")) for n in range(workers)]
    os.killpg(running.pid, signal.SIGINT) if how == "Ctrl-C" else running.kill()
    _, told = running.communicate(timeout=120)
    assert (running.returncode == 130 and "stopped" in told) or how == "kill -9"
    until(lambda: all(gone(k) for k in kernels), 60)
    until(lambda: [p.name for p in earlier.parent.iterdir()] == ["n0.ipynb"], 60)
    assert earlier.read_text(encoding="utf-8") == "the earlier run"
