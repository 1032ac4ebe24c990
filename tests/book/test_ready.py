"""A kernel that was forked ready is as fresh as one that was started, and as mortal."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from arq_core.book import notebook, ready, side_by_side
from arq_core.book.notebook import Cell, Job
from arq_core.config import paths, processes

pytestmark = pytest.mark.skipif(not ready.POSSIBLE, reason="kernels are forked on Linux alone")
ROOT = paths.root()
# all by which a kernel could tell how it began
STATE = """
import json, multiprocessing, os, signal, sys
import matplotlib, numpy, pandas, seaborn, torch
import matplotlib.pyplot as plt

def options(tree, where=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from options(value, f"{where}{name}.")
        else:
            yield f"{where}{name}", repr(value)

from pandas._config import config
OF_ITS_RUN = ("JPY_", "PYTEST_", "_")
state = dict(
    matplotlib={k: repr(v) for k, v in matplotlib.rcParams.items()},
    pandas=dict(options(config._global_config)),
    torch=[torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled(),
           str(torch.get_default_dtype())],
    paths=sys.path, cwd=os.getcwd(), method=multiprocessing.get_start_method(),
    interrupt=repr(signal.getsignal(signal.SIGINT)),
    environment={k: v for k, v in os.environ.items() if not k.startswith(OF_ITS_RUN)},
    main=sorted(n for n in globals() if not n.startswith(("_", "OF_"))),
    session=os.getsid(0) == os.getpid(),
)
print("STATE" + json.dumps(state))
"""


def job(folder, name, *cells):
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    made.insert(1, nbformat.v4.new_markdown_cell("## The *second* part {eq}`eq-5`"))
    nbformat.write(nbformat.v4.new_notebook(cells=made), folder / f"{name}.ipynb")
    return Job(folder / f"{name}.ipynb", folder / f"done/{name}.ipynb")


def said(job):
    cells = json.loads(job.target.read_text(encoding="utf-8"))["cells"]
    return "".join("".join(o.get("text", "")) for c in cells for o in c.get("outputs", ()))


RANDOM = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1))"
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
FORKED = dict(
    state=STATE,
    a=RANDOM,
    b=RANDOM,
    lost=PLOT.replace("plt.plot", "plt.switch_backend('svg')\nplt.plot"),
    shown=PLOT,
)


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """Notebooks whose kernels were forked from one process, by name, and what the run said of those
    that failed.
    """
    folder = tmp_path_factory.mktemp("forked")
    jobs = {name: job(folder, name, code) for name, code in FORKED.items()}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(notebook.RunError) as failed:
        patch.setenv("OMP_NUM_THREADS", "1")
        side_by_side.run(ROOT, [(one, "key") for one in jobs.values()], 2, folder / "logs")
    return jobs, str(failed.value)


def test_a_forked_kernel_finds_all_that_one_that_was_started_finds(forked, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook.run(ROOT, started := job(tmp_path, "started", STATE), "key")
    states = [json.loads(said(j).split("STATE")[1]) for j in (forked[0]["state"], started)]
    for state in states:
        state["pandas"]["display.encoding"] = state["pandas"]["display.encoding"].lower()
    flat = lambda state: {(k, x) for k, v in state.items() for x in map(str, _items(v))}
    assert flat(states[0]) ^ flat(states[1]) == set()


def _items(value):
    return value.items() if isinstance(value, dict) else [value]


def test_two_forked_kernels_draw_other_numbers_where_started_ones_do(forked):
    jobs, _ = forked
    assert not set(said(jobs["a"]).split()) & set(said(jobs["b"]).split())


def test_figures_of_a_forked_kernel_are_counted(forked):
    jobs, failed = forked
    assert "lost.ipynb: cell 0: saw 0 figures, expected 1" in failed
    assert failed.count("figures, expected") == 1 and not jobs["lost"].target.exists()
    assert "image/" in jobs["shown"].target.read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_kernel_that_is_ready_ends_with_its_process(how):
    code = (
        "import os, sys, time; from arq_core.book import ready; ready.prepare();"
        "print(ready._mine.pid, flush=True); time.sleep(0 if sys.argv[1] == 'exit' else 60)"
    )
    there = subprocess.Popen(
        [sys.executable, "-c", code, how], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8"
    )
    kernel = int(there.stdout.readline())
    if how == "kill":
        os.kill(there.pid, signal.SIGKILL)
    there.wait()
    end = time.monotonic() + 30
    while processes.alive(kernel):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_cells_of_code_are_told_with_the_heading_above_them(tmp_path):
    heard = []
    notebook.run(ROOT, job(tmp_path, "n", "x = 1", "x += 1", "x += 1"), "key", heard.append)
    second = "The second part eq-5"
    assert heard == [Cell(1, 3, ""), Cell(2, 3, second), Cell(3, 3, second)]
    assert [str(cell) for cell in heard[:2]] == ["cell 1 of 3", f"cell 2 of 3, {second}"]
