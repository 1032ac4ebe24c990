"""Other people's packages find a home, a user's name and a terminal that takes Greek."""

import os
import shutil
import subprocess
import sys

import pytest

from arq_core.config import lean, paths, surroundings

ASK = r"""
import getpass, os, pathlib
from arq_core.config.surroundings import settle
settle()
print(pathlib.Path.home(), os.access(pathlib.Path.home(), os.W_OK), bool(getpass.getuser()))
print("\u03b5 \u2264 \u03b1")
"""
NOBODY = ["unshare", "--user", "--map-user=23456", "--map-group=23456"]


def asked(tmp_path, before=(), **variables) -> subprocess.CompletedProcess:
    """A process with these variables alone."""
    return subprocess.run(
        [*before, sys.executable, "-c", ASK],
        cwd=paths.root(),
        env={"PATH": os.environ["PATH"], "ARQ_CACHE": str(tmp_path / "cache")} | variables,
        capture_output=True,
    )


def can_be_nobody() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*NOBODY, "true"]).returncode


@pytest.mark.skipif(not can_be_nobody(), reason="needs unshare, and user namespaces")
@pytest.mark.parametrize("home", [None, "", "/nonexistent", "/proc", "relative"])
def test_a_user_without_an_entry_gets_a_home_in_the_cache(tmp_path, home):
    run = asked(tmp_path, NOBODY, **({} if home is None else {"HOME": home}))
    assert not run.returncode, run.stderr.decode()
    assert run.stdout.decode().splitlines()[0] == f"{tmp_path / 'cache/home'} True True"


def test_a_home_that_is_there_is_left_alone(tmp_path):
    run = asked(tmp_path, HOME=str(tmp_path))
    assert run.stdout.decode().split("\n")[0] == f"{tmp_path} True True"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_a_terminal_that_knows_no_greek_gets_it_escaped(tmp_path, encoding):
    run = asked(tmp_path, HOME=str(tmp_path), PYTHONIOENCODING=encoding)
    assert not run.returncode, run.stderr.decode()
    assert run.stdout.decode(encoding).splitlines()[1] == "\\u03b5 \\u2264 \\u03b1"


BEGUN = "from arq_core.config.surroundings import begin_in_utf8 as b; b(); import sys; "


@pytest.mark.parametrize("name", ["ünï", "ε ≤ α", "it's"])
@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_a_name_means_the_same_whatever_the_terminals_language(tmp_path, locale, name):
    """To this process and to a notebook's, which is in UTF-8; of three locales one may be here."""
    run = subprocess.run(
        [sys.executable, "-c", BEGUN + "print(ascii(sys.argv[1:]))", name.encode(), "-x"],
        cwd=paths.root(),
        env={"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        | {k: v for k, v in os.environ.items() if k in ("PATH", "LOCPATH")},
        capture_output=True,
        encoding="utf-8",
    )
    assert run.stdout == f"{ascii([name, '-x'])}\n", run.stderr


@pytest.mark.parametrize("more, mode", [([], "1"), (["-X", "utf8=0"], "0")])
def test_it_is_begun_anew_once_and_prints_in_the_terminals_language(more, mode):
    run = subprocess.run(
        [sys.executable, *more, "-c", BEGUN + "print(sys.flags.utf8_mode, sys.stdout.encoding)"],
        cwd=paths.root(),
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
        | {"PYTHONUTF8": "0"},
        capture_output=True,
        encoding="utf-8",
    )
    assert run.stdout.split() in ([mode, "ascii"], ["0", "utf-8"]), run.stderr


def test_without_a_checkout_the_home_is_a_temporary_folder(tmp_path, monkeypatch):
    for name in ("ARQ_CACHE", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("ARQ_ROOT", str(tmp_path))
    surroundings.settle()
    assert os.path.isdir(os.environ["HOME"]) and "arq-home-" in os.environ["HOME"]


@pytest.mark.parametrize("given, each", [(None, "2"), ("", "2"), ("6", "6"), ("1", "1")])
def test_several_programs_share_the_cores_of_a_container(monkeypatch, given, each):
    """And one alone has all of them, unless the user said how many threads."""
    monkeypatch.setattr(surroundings, "_bounded", [])
    monkeypatch.setenv("PYTHONUTF8", "1")
    monkeypatch.setattr(surroundings.processes, "cores", lambda: 6)
    monkeypatch.setattr(surroundings.processes, "affinity", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    surroundings.settle()
    assert os.environ["OMP_NUM_THREADS"] == (given or "6")
    assert surroundings.threads_of_each(3) == each


@pytest.mark.parametrize(
    "name, told",
    [
        ("/no/such/g++", True),
        ("/no/such/it's/g++", True),
        ("sh", False),
        ("sh -c g++", False),
        (sys.executable, False),
    ],
)
def test_a_missing_compiler_is_said_with_what_to_do(monkeypatch, name, told):
    monkeypatch.setenv("CXX", name)
    said = surroundings.no_compiler()
    assert bool(said) is told and (not told or "install one" in said and name in said)


def test_a_compiler_in_a_folder_of_any_name_is_found(monkeypatch, tmp_path):
    compiler = tmp_path / "it's here" / "g++"
    compiler.parent.mkdir()
    compiler.symlink_to(sys.executable)
    monkeypatch.setenv("CXX", str(compiler))
    assert surroundings.no_compiler() == ""


@pytest.mark.parametrize(
    "first, spared",
    [
        ("from arq_core.config.surroundings import settle; settle()", True),
        ("import arq_core.config.lean", True),
        ("import arq_core", False),
    ],
)
def test_our_processes_read_notebooks_without_what_is_slow_to_import(first, spared):
    """And `import arq_core` takes nothing away from its user."""
    read = "import nbformat; nbformat.validate(nbformat.v4.new_notebook()); import sys"
    code = f"{first}; {read}; print(sys.modules.get({lean.MISSING!r}) is None)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.root(), capture_output=True, encoding="utf-8"
    )
    assert run.stdout == f"{spared}\n", run.stderr
