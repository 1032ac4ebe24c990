"""A checkout in a folder of any name: nothing that is written for a shell, for papermill or for
Snakemake takes a part of it for something else; where another program does, that is said at once.
"""

import fcntl
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from grids import ROOT, grid, scratch, steps_done, with_python

from arq_core.grid import driver, plan
from arq_core.grid.plan import Cell

spec = importlib.util.spec_from_file_location("install", ROOT / "workflow/install.py")
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)
EVERY_SIGN = "it's {a} $b;&%d ünï [x]*? \"q`u\\e#1~ (y)"


def test_a_table_is_made_in_a_folder_of_any_name(tmp_path):
    """By stand-ins; test_grid.py has a real cell."""
    root = scratch(tmp_path / EVERY_SIGN)
    asked = ["--profile", "toy", "--tasks", "bridge", "--methods", "bc", "--no-book"]
    cache = str(root / "data/cache")
    run = grid(root, *asked, python=with_python(root), ARQ_CACHE=cache)
    assert run.returncode == 0, run.stdout + run.stderr
    assert steps_done(root) == ["dataset bridge", "evaluate bridge bc", "policy bridge bc"]


@pytest.mark.parametrize(
    "log, told",
    [
        (None, "not begun; _build/grid/snakemake.log says why"),
        (
            "bash: line 1: /a/my: No such file\n\n",
            "its log ends: bash: line 1: /a/my: No such file",
        ),
        ("step 1\nKilled", "its log ends: Killed"),
        ("", "its log ends: (empty)"),
        (
            "x\nstopped; what was finished is kept, the same command goes on from there\n",
            "stopped before it finished; the same command goes on from there",
        ),
    ],
)
def test_a_step_without_an_answer_can_be_continued_only_where_it_was_stopped(tmp_path, log, told):
    cell = Cell("bridge", "s_psi", "toy")
    if log is not None:
        path = tmp_path / f"{plan.place(cell, 'dataset')}.log"
        path.parent.mkdir(parents=True)
        path.write_text(log, encoding="utf-8")
    (failed,) = driver.failures(tmp_path, [cell])
    assert failed["error"].endswith(told) and failed["step"] == "dataset"
    assert ("goes on from there" in failed["error"]) is ("goes on" in (log or ""))


@pytest.mark.parametrize("engine", ["slurm", "kubernetes"])
@pytest.mark.parametrize(
    "root, python, odd",
    [
        ("/srv/my repo", "/srv/my repo/.venv/bin/python", "' '"),
        ("/srv/x(1)", "/srv/x(1)/.venv/bin/python", "'(' and ')'"),
        ("/srv/50%", "/opt/python", "'%'"),
        ("/srv/o'clock", "/opt/python", '"\'"'),
    ],
)
def test_what_a_clusters_shell_would_misread_is_refused_before_a_plan(
    monkeypatch, engine, root, python, odd
):
    monkeypatch.setattr(driver.sys, "executable", python)
    with pytest.raises(driver.GridError) as raised:
        driver.refuse_folder(Path(root), engine)
    for words in (f"engine {engine}: {root}", f"saw {odd} in a path", "use the engine laptop"):
        assert words in str(raised.value)
    driver.refuse_folder(Path(root), "laptop")


@pytest.mark.parametrize("root", ["/srv/arq-1.0_b", "/srv/ünï", "/srv/a repo", "/srv/{x}"])
def test_what_it_would_read_is_not(monkeypatch, root):
    monkeypatch.setattr(driver.sys, "executable", "/opt/python3.11+x/bin/python")
    driver.refuse_folder(Path(root), "slurm")


@pytest.mark.parametrize(
    "folder, names",
    [
        ("/a/my repo", {}),
        ("/a/c$d/{e}", {"d": "$d", "e": "{e}"}),
        ("/a/$1 $f_2$g", {"f_2": "$f_2", "g": "$g"}),
    ],
)
def test_the_installer_takes_the_name_of_a_folder_as_it_is(folder, names):
    assert install.literal(folder) == names


@pytest.mark.parametrize("folder", ["/a:b", "/a\nb", "/$PATH", "/{}", "/{a.b}", "/x{", "/y}"])
def test_a_name_that_the_installer_cannot_take_is_refused_at_once(folder):
    with pytest.raises(SystemExit, match="(?s)in the path, .*expected none; rename the folder"):
        install.literal(folder)


def test_two_that_install_at_once_do_it_once(tmp_path):
    for name in (*install.NEEDS, "_build/venv.lock", ".venv/old"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with open(tmp_path / "_build/venv.lock", encoding="utf-8") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, ROOT / "workflow/install.py", ".venv/.installed", "dev"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert "another make is making it" in second.stdout.readline()
        (tmp_path / ".venv/.installed").touch()
    assert second.wait(60) == 0 and second.stdout.read() == ""
    assert sorted(p.name for p in (tmp_path / ".venv").iterdir()) == [".installed", "old"]


@pytest.mark.parametrize("name, saw", [("poetry", "poetry,"), ("uv", "uv, and no program uv")])
def test_an_installer_that_is_not_there_is_refused(monkeypatch, tmp_path, name, saw):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=f"INSTALLER={saw}.* expected pip"):
        install.commands(Path(".venv"), "dev", name)


def test_uv_installs_what_pip_would(monkeypatch, tmp_path):
    for name in install.NEEDS:
        (tmp_path / name).touch()
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> called\nmkdir -p .venv\n', encoding="utf-8")
    uv.chmod(0o755)
    subprocess.run(
        [sys.executable, ROOT / "workflow/install.py", ".venv/.installed", "dev"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "INSTALLER": "uv"},
        check=True,
    )
    made, installed, checked = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    by_pip = install.commands(Path(".venv"), "dev", "pip")[1]
    assert made.startswith("venv ") and "--seed" in made and checked.startswith("pip check ")
    assert installed.endswith(" ".join(by_pip[by_pip.index("-c") :]))
    assert (tmp_path / ".venv/.installed").exists()


def test_a_long_installation_says_what_it_is_at(monkeypatch, capfd):
    monkeypatch.setattr(install, "EVERY", 0.1)
    talks = "import time; print('Collecting x', flush=True); time.sleep(1); print('noise')"
    assert install.followed([sys.executable, "-c", talks], dict(os.environ)) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) > 3 and lines[-1].endswith(" s  Collecting x")


def test_an_installation_that_failed_shows_its_last_words(capfd):
    fails = "import sys; print('Collecting x'); sys.exit('no such package')"
    assert install.followed([sys.executable, "-c", fails], dict(os.environ)) == 1
    assert "Collecting x" in (err := capfd.readouterr().err) and "no such package" in err


@pytest.mark.parametrize("home", ["", "/nowhere/at all", "~", "/dev/null"])
def test_who_has_no_home_installs_with_one(tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home)
    given = install.homed()["HOME"]
    assert given == str(tmp_path / "_build/home") and os.access(given, os.W_OK)


def test_a_home_that_is_there_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert install.homed() == {}


@pytest.mark.parametrize("task", ["a$b it's.hdf5", '"q`u\\o.hdf5', "$(HOME)/x.hdf5", "my data"])
def test_make_passes_the_name_of_a_file_as_it_was_typed(tmp_path, task):
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} "
        "-c 'import sys; print(sys.argv[-1])' \"$@\"\n",
        encoding="utf-8",
    )
    python.chmod(0o755)
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv/.installed").touch()
    run = subprocess.run(
        ["make", "--no-print-directory", "row", f"TASK={task}"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert run.stdout == f"{task}\n"
