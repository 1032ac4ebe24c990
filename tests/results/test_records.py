"""The provenance beside a job's rows: an edited row is named by file and line, and rows never stand
beside another run's provenance.
"""

import functools
import json
import re
import shutil
import subprocess

import pytest
from example_rows import NAME, rows

from arq_core.config import paths
from arq_core.results import records
from arq_core.results.records import ResultsError
from arq_core.results.rows import read_file, read_rows, write_rows

RUN = dict(task="door-human", profile="ci", method="arq+s_psi", variant="released", wall_s=3.0)


@pytest.fixture
def job(tmp_path):
    path = write_rows(tmp_path / NAME, rows([[1.0, 2.5], [-3.0, 4.0]]))
    records.write_run(path, RUN)
    return path


def edit(path, line, old, new):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("".join(lines), encoding="utf-8")


def test_rows_are_read_beside_their_provenance(job):
    assert len(read_rows(job.parent)) == 4
    assert records.read_run(job).items() >= RUN.items()
    assert sorted(p.name for p in job.parent.iterdir()) == sorted(
        [NAME, NAME.replace(".jsonl", ".run.json")]
    )


def test_rows_whose_lines_a_checkout_ended_in_windows_way_are_the_same_rows(job):
    before = read_file(job)
    for path in (job, records.run_path(job)):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_file(job) == before
    edit(job, 3, '"score": -3.0', '"score": 93.0')
    with pytest.raises(ResultsError, match=re.escape(f"{NAME}:3: saw a line that is not the one")):
        read_file(job)


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
@pytest.mark.parametrize("setting", ["core.autocrlf=true", "core.eol=crlf"])
def test_a_checkout_with_windows_settings_keeps_every_byte_of_the_rows(job, tmp_path, setting):
    """The attributes of the repository are stronger than the user's settings."""
    run = functools.partial(subprocess.run, check=True, capture_output=True)
    shutil.copy(paths.root() / ".gitattributes", job.parent)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-c", setting]
    run([*git, "-C", job.parent, "init", "--quiet"])
    run([*git, "-C", job.parent, "add", "."])
    run([*git, "-C", job.parent, "commit", "--quiet", "-m", "rows"])
    run([*git, "clone", "--quiet", job.parent, tmp_path / "clone"])
    for path in (job, records.run_path(job)):
        assert (tmp_path / "clone" / path.name).read_bytes() == path.read_bytes()


def test_a_valid_row_edited_by_hand_is_named_by_file_and_line(job):
    edit(job, 3, '"score": -3.0', '"score": 93.0')
    with pytest.raises(
        ResultsError, match=re.escape(f"{NAME}:3: saw a line that is not the one its run wrote")
    ):
        read_file(job)


@pytest.mark.parametrize(
    "change, line",
    [
        (lambda lines: lines[:-1], 4),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:2], lines[3]], 3),
    ],
)
def test_a_row_taken_away_is_named_with_the_count(job, change, line):
    job.write_text(
        "".join(change(job.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8"
    )
    with pytest.raises(ResultsError, match=re.escape(f"{NAME}:{line}: ") + ".*3 lines, expected 4"):
        read_file(job)


def test_a_provenance_that_knows_only_the_whole_file_notices_too(job):
    run = json.loads(records.run_path(job).read_text(encoding="utf-8"))
    del run["rows_crc32"]
    records.run_path(job).write_text(json.dumps(run), encoding="utf-8")
    assert len(read_file(job)) == 4
    edit(job, 2, '"length": 200', '"length": 201')
    with pytest.raises(
        ResultsError, match=re.escape(NAME) + ": saw rows with SHA-256 .*expected .* as in"
    ):
        read_file(job)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"task": "door-human",\n "seeds": [0,}\n', r"run\.json:2: saw a text that is not JSON"),
        ("[]", "saw list"),
        ('{"task": "window"}', "field 'task': saw 'window', expected 'door-human'"),
    ],
)
def test_a_broken_provenance_is_named(job, text, message):
    records.run_path(job).write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match=message):
        read_file(job)


def test_rows_that_are_replaced_lose_the_provenance_of_the_earlier_run(job):
    write_rows(job, rows([[1.0, 2.5], [-3.0, 4.5]]))
    assert len(read_file(job)) == 4 and not records.run_path(job).exists()


def test_refused_rows_leave_the_provenance(job):
    with pytest.raises(ResultsError):
        write_rows(job, rows([[1.0]]))
    assert len(read_file(job)) == 4 and records.read_run(job)


def test_a_replacement_that_is_stopped_leaves_rows_that_can_be_read(job, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_rows(job, rows([[1.0, 2.5], [-3.0, 4.5]]))
    assert [r["score"] for r in read_file(job)] == [1.0, 2.5, -3.0, 4.0] and not records.run_path(
        job
    ).exists()


def test_a_damaged_file_is_replaced_by_running_the_job_again(job):
    job.write_text(job.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    with pytest.raises(ResultsError, match=f"{re.escape(NAME)}:4"):
        read_file(job)
    write_rows(job, rows([[1.0, 2.5], [-3.0, 4.5]]))
    assert len(read_file(job)) == 4
