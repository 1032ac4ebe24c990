"""A row's commit is the checkout's own, whatever repository lies around it, with or without git."""

import ast
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from arq_core.config import files, paths
from arq_core.results import provenance

GIT = shutil.which("git")
needs_git = pytest.mark.skipif(not GIT, reason="needs git")


def git(folder, *asked):
    subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-C", folder, *asked],
        check=True,
        capture_output=True,
    )


def checkout(folder, monkeypatch):
    """The least that is known as a checkout."""
    for name in ("data", "book"):
        (folder / name).mkdir(parents=True)
    (folder / "data/tasks.csv").write_text("task\n", encoding="utf-8")
    (folder / "book/intro.md").touch()
    (folder / provenance.ARCHIVED).write_text("$Format:%h$\n", encoding="utf-8")
    monkeypatch.setenv("ARQ_ROOT", str(folder))
    return folder


def committed(folder):
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")


@needs_git
def test_the_commit_of_a_checkout_says_whether_files_differ_from_it(tmp_path, monkeypatch):
    folder = checkout(tmp_path / "own", monkeypatch)
    committed(folder)
    clean = provenance.commit()
    assert len(clean) >= 7 and not clean.endswith("-dirty")
    (folder / "data/tasks.csv").write_text("other\n", encoding="utf-8")
    assert provenance.commit() == f"{clean}-dirty"


@needs_git
def test_a_record_is_of_its_commit_while_it_is_written_and_again_after_a_stop(
    tmp_path, monkeypatch
):
    folder = checkout(tmp_path / "own", monkeypatch)
    monkeypatch.setattr(provenance, "WRITTEN", set())
    monkeypatch.setattr(files, "WRITTEN", provenance.WRITTEN)
    record, other = folder / "data/it.json", folder / "data/other.json"
    for path in (record, other):
        path.write_text("{}\n", encoding="utf-8")
    committed(folder)
    clean = provenance.commit()
    for part in range(2):  # each part is kept: the second is measured beside the changed file
        made = provenance.provenance(own=record)
        files.write_atomic(record, f"{part} {made}")
        assert made["commit"] == clean
    assert provenance.commit() == clean  # what this process wrote
    provenance.WRITTEN.clear()  # another process goes on with it
    assert provenance.commit() == f"{clean}-dirty"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert provenance.provenance(own=record)["commit"] == clean
    with pytest.warns(UserWarning, match="other.json: saw data/it.json differ.*commit them, then"):
        assert provenance.provenance(own=other)["commit"] == f"{clean}-dirty"


@needs_git
def test_a_record_of_a_changed_checkout_says_so_and_names_what_was_changed(tmp_path, monkeypatch):
    folder = checkout(tmp_path / "own", monkeypatch)
    committed(folder)
    clean, record = provenance.commit(), folder / "data/new.json"
    (folder / "a new file").touch()  # git does not know it: as ever
    assert provenance.provenance(own=record)["commit"] == clean
    (folder / "book/intro.md").write_text("other", encoding="utf-8")
    (folder / "data/tasks.csv").write_text("other\n", encoding="utf-8")
    git(folder, "add", "data/tasks.csv")  # as good as not
    with pytest.warns(UserWarning, match="saw book/intro.md, data/tasks.csv differ") as told:
        assert provenance.provenance(own=record)["commit"].endswith("-dirty")
    assert len(told) == 1


@needs_git
@pytest.mark.parametrize("where", ["vendor", "some/where/deep"])
def test_a_repository_around_the_checkout_is_not_asked(tmp_path, monkeypatch, where):
    (tmp_path / "theirs.txt").touch()
    committed(tmp_path)
    checkout(tmp_path / where, monkeypatch)
    assert provenance.commit() == "unknown"


@needs_git
@pytest.mark.parametrize("commits", [True, False])
def test_an_archive_unpacked_into_a_repository_of_others_is_not_theirs(
    tmp_path, monkeypatch, commits
):
    (tmp_path / "theirs.txt").touch()
    committed(tmp_path) if commits else git(tmp_path, "init", "--quiet")
    checkout(tmp_path, monkeypatch)
    assert provenance.commit() == "unknown"
    (tmp_path / provenance.ARCHIVED).write_text("0123abc\n", encoding="utf-8")
    assert provenance.commit() == "0123abc-archive"


@needs_git
@pytest.mark.parametrize("broken", ["gitdir: /nowhere\n", "", "not git's"])
def test_a_repository_that_is_gone_leaves_what_the_archive_says(tmp_path, monkeypatch, broken):
    folder = checkout(tmp_path, monkeypatch)
    (folder / ".git").write_text(broken, encoding="utf-8")
    (folder / provenance.ARCHIVED).write_text("0123abc\n", encoding="utf-8")
    assert provenance.commit() == "0123abc-archive"


@needs_git
@pytest.mark.parametrize("name", ["my repo ", "a\nb", "caf\udce9", "it's $x"])
def test_a_folder_of_any_name_has_its_commit(tmp_path, monkeypatch, name):
    try:
        folder = checkout(tmp_path / name, monkeypatch)
    except OSError:
        pytest.skip("no file system that takes such a name")
    committed(folder)
    assert len(provenance.commit()) >= 7 and provenance.commit() != "unknown"


@needs_git
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_checkout_of_another_user_has_its_commit(tmp_path, monkeypatch):
    folder = checkout(tmp_path / "own", monkeypatch)
    committed(folder)
    own = provenance.commit()
    for path in (folder, folder / ".git", *folder.rglob("*")):
        os.chown(path, 12345, 12345)
    assert provenance.commit() == own


@needs_git
def test_a_linked_worktree_has_the_commit_that_it_shows(tmp_path, monkeypatch):
    folder = checkout(tmp_path / "own", monkeypatch)
    committed(folder)
    own = provenance.commit()
    git(folder, "worktree", "add", "--quiet", tmp_path / "linked")
    monkeypatch.setenv("ARQ_ROOT", str(tmp_path / "linked"))
    assert provenance.commit() == own


@needs_git
def test_a_hook_of_another_repository_does_not_lend_its_commit(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/theirs.txt").touch()
    committed(tmp_path / "other")
    folder = checkout(tmp_path / "own", monkeypatch)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(folder))
    assert provenance.commit() == "unknown"


@needs_git
def test_an_archive_knows_the_commit_that_it_was_made_of(tmp_path, monkeypatch):
    folder = checkout(tmp_path / "own", monkeypatch)
    shutil.copy(paths.Path(__file__).parents[2] / ".gitattributes", folder)
    committed(folder)
    own, unpacked = provenance.commit(), tmp_path / "unpacked"
    unpacked.mkdir()
    git(folder, "archive", "--output", tmp_path / "archive.tar", "HEAD")
    shutil.unpack_archive(tmp_path / "archive.tar", unpacked)
    monkeypatch.setenv("ARQ_ROOT", str(unpacked))
    assert provenance.commit() == f"{own}-archive"


@pytest.mark.parametrize("there", [False, True])
def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch, there):
    folder = checkout(tmp_path / "own", monkeypatch)
    if there:
        (folder / "git").mkdir()
        (folder / "git/git").write_text("not a program", encoding="utf-8")
        os.chmod(folder / "git/git", 0o755)
    monkeypatch.setenv("PATH", str(folder / "git"))
    assert provenance.commit() == "unknown"


BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


OF_A_CLONE = "two_commands.py"  # its commits are those of the clone that it runs


def named(code, function, argument):
    """The names that calls of a function have as an argument, a position or a keyword; None for
    calls that have something else there, or nothing."""
    calls = [x for x in ast.walk(code) if isinstance(x, ast.Call)]
    for call in (x for x in calls if getattr(x.func, "id", "") == function):
        keywords = {k.arg: k.value for k in call.keywords}
        given = call.args[argument] if isinstance(argument, int) else keywords.get(argument)
        yield getattr(given, "id", None)


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_that_writes_a_record_names_it_as_its_own(path):
    """Else a second run says -dirty of a commit that only the record of the first differs from."""
    code = ast.parse(path.read_text(encoding="utf-8"))
    own, written = set(named(code, "provenance", "own")), set(named(code, "write_atomic", 0))
    if path.name != OF_A_CLONE:
        assert None not in own and own <= written, f"own={own}, written: {written}"


def test_benchmarks_write_records():
    texts = {path.name: path.read_text(encoding="utf-8") for path in BENCHMARKS}
    record = re.compile(r"""DATA / "benchmarks""")
    writing = {k for k, text in texts.items() if record.search(text) and "write_atomic(" in text}
    measuring = {k for k, text in texts.items() if "own=" in text}
    assert writing - {OF_A_CLONE} == measuring and len(measuring) > 20
