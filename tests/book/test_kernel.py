"""A notebook runs in surroundings of its own: nobody's settings change what it computes or draws,
and a figure that its code draws and its page would lack is a failure.
"""

import json
import os
import sys

import nbformat
import pytest

from arq_core.book import kernel, notebook
from arq_core.book.notebook import Job, RunError
from arq_core.config import surroundings

# what a session of these people would show of itself
LOOK = (
    "import sys, warnings; print(sum([1, 2], 3), sys.executable, sys.flags.optimize, "
    "sys.warnoptions, 'mine' in globals())"
)
DRAW = "import matplotlib.pyplot as plt\nplt.plot([0, 1], label='$x$')\nplt.title('a')\n"


def run(folder, *cells):
    """The cells' outputs of a notebook that was run in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(c) for c in cells],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(made, folder / "n.ipynb")
    notebook.run(folder, Job(folder / "n.ipynb", folder / "done.ipynb"), "key")
    return [
        c["outputs"]
        for c in json.loads((folder / "done.ipynb").read_text(encoding="utf-8"))["cells"]
    ]


def texts(outputs):
    return "".join(o.get("text", "") for o in outputs)


def pictures(outputs):
    """Kinds of the images among the outputs."""
    kinds = [k for o in outputs for k in o.get("data", {})]
    return [k for k in kinds if k.startswith("image/")]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def jupyter_of_another(folder, monkeypatch):
    spec = dict(argv=["/nowhere/python", "-m", "dead"], display_name="Other", language="python")
    write(folder / "share/kernels/python3/kernel.json", json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "share"))


def data_of_another(folder, monkeypatch):
    jupyter_of_another(folder, monkeypatch)
    monkeypatch.delenv("JUPYTER_PATH")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder / "share"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(folder / "config"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/proc/none")


def ipython_profile(folder, monkeypatch):
    """The `sum` of numpy, as pylab brings it, and no figures."""
    profile = folder / ".ipython/profile_default"
    write(
        profile / "ipython_config.py",
        "c = get_config()\nc.InlineBackend.figure_formats = set()\n"
        "c.InteractiveShellApp.exec_lines = ['mine = 1']",
    )
    write(profile / "ipython_kernel_config.py", "c.IPKernelApp.matplotlib = 'agg'")
    write(profile / "startup/00-pylab.py", "from numpy import *\nmine = 1")
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))


def home_profile(folder, monkeypatch):
    ipython_profile(folder, monkeypatch)
    monkeypatch.delenv("IPYTHONDIR")
    monkeypatch.setenv("HOME", str(folder))
    write(folder / ".config/matplotlib/matplotlibrc", "text.usetex: True\nbackend: Agg\n")


def matplotlib_settings(folder, monkeypatch):
    rc = write(folder / "mpl/matplotlibrc", "text.usetex: True\nsavefig.format: nonsense\n")
    monkeypatch.setenv("MPLCONFIGDIR", str(rc.parent))
    monkeypatch.setenv("MATPLOTLIBRC", str(rc))


def file_where_we_work(folder, monkeypatch):
    write(folder / "matplotlibrc", "text.usetex: True\nbackend: pdf\nfigure.figsize: 1, 1\n")


def python_settings(folder, monkeypatch):
    monkeypatch.setenv("PYTHONSTARTUP", str(write(folder / "start.py", "mine = 1")))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")


def another_provisioner(folder, monkeypatch):
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "none-such")
    monkeypatch.setenv("MPLBACKEND", "pdf")


# none of a row hides another of it from matplotlib, Jupyter or Python
@pytest.mark.parametrize(
    "settings",
    [
        (jupyter_of_another, ipython_profile, matplotlib_settings, python_settings),
        (data_of_another, home_profile, another_provisioner),
        (file_where_we_work,),
    ],
)
def test_nobodys_settings_change_what_a_notebook_computes_or_draws(tmp_path, monkeypatch, settings):
    for setting in settings:
        setting(tmp_path, monkeypatch)
    look, drawn, asserted = run(
        tmp_path,
        LOOK,
        DRAW + "plt.show()",
        "try:\n    assert 0\nexcept AssertionError: print('on')",
    )
    assert texts(look).startswith(f"6 {sys.executable} 0 [] False")
    assert pictures(drawn) == ["image/png"] and texts(asserted) == "on\n"


MORE = pytest.mark.slow(reason="a kernel more for a name, or a way, of a kind that is tried")


@pytest.mark.parametrize(
    "backend", ["no_such_backend", *(pytest.param(name, marks=MORE) for name in ("svg", ""))]
)
def test_the_users_backend_takes_no_figure_away(tmp_path, monkeypatch, backend):
    monkeypatch.setenv("MPLBACKEND", backend)
    (drawn,) = run(tmp_path, DRAW + "for i in range(2):\n    plt.plot([i, 2])\n    plt.show()")
    assert len(pictures(drawn)) == 2


@pytest.mark.parametrize(
    "cell, seen, expected",
    [
        pytest.param(
            "import matplotlib\nmatplotlib.use('Agg')\n" + DRAW + "plt.show()", 0, 1, marks=MORE
        ),
        # in a loop and a function, and shown figures are closed
        (
            "import matplotlib\nmatplotlib.use('svg')\nfrom matplotlib import pyplot as p\n"
            "def draw():\n    p.plot([1])\n    p.show()\n    p.close()\n"
            "for _ in range(3):\n    draw()",
            0,
            3,
        ),
        # no show: the end of a cell shows what is open
        ("import matplotlib\nmatplotlib.use('Agg')\n" + DRAW, 0, 1),
        pytest.param(DRAW + "plt.close()\nplt.show()", 0, 1, marks=MORE),
        (DRAW + "plt.show()\nplt.show()", 1, 2),
        (
            DRAW + "from IPython.core.getipython import get_ipython\n"
            "get_ipython().display_formatter.formatters.clear()\nplt.show()",
            0,
            1,
        ),
    ],
)
def test_fewer_figures_than_the_code_draws_is_a_failure(tmp_path, cell, seen, expected):
    (tmp_path / "done.ipynb").write_text("the earlier run", encoding="utf-8")
    told = rf"n\.ipynb: cell 1: saw {seen} figures, expected {expected}"
    with pytest.raises(RunError, match=told):
        run(tmp_path, "print(1)", cell)
    assert (tmp_path / "done.ipynb").read_text(encoding="utf-8") == "the earlier run"


CLEAN = [  # (a cell, how many images it leaves)
    (DRAW, 1),
    (DRAW + "plt.close()", 0),
    ("import matplotlib.pyplot as plt\nif False:\n    plt.show()", 0),
    ("import matplotlib.pyplot as plt\nplt.figure()", 0),
    (DRAW + "plt.savefig('a.png'); plt.close()", 0),
    (DRAW + "plt.gcf()", 2),
    ("%%capture\n" + DRAW + "plt.show()", 0),
    (DRAW + "plt.show()\nfrom IPython.display import clear_output\nclear_output()", 0),
    (
        DRAW + "from myst_nb import glue\nglue('a', plt.gcf(), display=False)\nplt.close()",
        0,
    ),
]


def test_what_draws_what_it_says_is_clean(tmp_path):
    outputs = run(tmp_path, *(cell for cell, _ in CLEAN))
    for (cell, images), drawn in zip(CLEAN, outputs, strict=True):
        assert len(pictures(drawn)) == images, cell
        assert "vnd.arq" not in json.dumps(drawn)


def test_a_figure_that_pyplot_is_told_not_to_show_is_not_missed(tmp_path):
    shown, kept = run(tmp_path, DRAW + "plt.show()\nplt.ioff()", "plt.plot([1])")
    assert len(pictures(shown)) == 1 and not pictures(kept)


def test_only_calls_that_no_branch_passes_by_are_counted_before_a_run():
    cells = [
        "import matplotlib.pyplot as p\nwith p.xkcd():\n    p.show()\np.show()",
        "for i in x:\n    p.show()\nif x:\n    p.show()\ndef f():\n    p.show()\nx.show()",
        "from matplotlib import pyplot\npyplot.show(block=True)",
        "files = !ls\np.show?",
    ]
    assert kernel.shows(cells) == [2, 0, 1, 0]


def test_a_kept_run_that_lacks_a_figure_is_run_again(tmp_path):
    """It was made when its figures could still vanish."""
    run(tmp_path, DRAW + "plt.show()", "print(1)")
    job = Job(tmp_path / "n.ipynb", tmp_path / "done.ipynb")
    assert notebook.is_done(job, "key") and not notebook.is_done(job, "other")
    kept = json.loads(job.target.read_text(encoding="utf-8"))
    kept["cells"][0]["outputs"] = []
    job.target.write_text(json.dumps(kept), encoding="utf-8")
    assert not notebook.is_done(job, "key")


def test_what_we_start_sees_where_packages_are_and_no_settings(tmp_path, monkeypatch):
    kept = {"PYTHONPATH": "/a", "OMP_NUM_THREADS": "3", "LANG": "C", "ARQ_SOLVE_ROWS": "7"}
    gone = {
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "0",
        "IPYTHON_USE_PROGRAMDATA": "1",
        "PAPERMILL_X": "1",
        "SNAKEMAKE_PROFILE": "mine",
        "COLUMNS": "20",
        "MATPLOTLIBRC": "/a",
    }
    for name, value in (kept | gone).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARQ_CACHE", "mine/cache")
    ours = surroundings.ours(tmp_path / "checkout")
    assert {name: ours.get(name) for name in kept} == kept and not gone.keys() & ours.keys()
    # a folder given from here is the same folder for a program that works elsewhere
    assert ours["ARQ_CACHE"] == str(tmp_path / "mine/cache")
    inside = tmp_path / "checkout" / surroundings.FOLDER
    for name in ("IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        assert os.path.isdir(ours[name]) and ours[name].startswith(str(inside))
