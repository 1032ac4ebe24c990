"""What others leave in a folder is passed over, and a text is read whatever editor saved it."""

import os
import shutil
import time
import tomllib

import pytest
from example_rows import NAME, rows
from sphinx_books import ROOT, file

from arq_core.book import catalogue, evidence, notebook, pages
from arq_core.book.notebook import Job
from arq_core.config import settings, tasks
from arq_core.config.files import TextError, files_in, is_left_over, read_csv, read_text, read_toml
from arq_core.config.tasks import task
from arq_core.datasets import at_hand
from arq_core.grid import costs
from arq_core.results import paper, records, tables
from arq_core.results.rows import read_rows, write_rows

DATA = ROOT / "data"
JOB = NAME.removesuffix(".jsonl")
LEFT = (
    "._{0}",
    ".{0}.swp",
    "~${0}",
    "{0}~",
    "#{0}#",
    ".~lock.{0}#",
    "{0}.bak",
    "{0}.orig",
    "{1} (copy){2}",
    "{1} (another copy){2}",
    "{1} (3rd copy){2}",
    "{1} (2){2}",
    "{1} copy{2}",
    "{1} - Copy{2}",
    "{1} - Copy (4){2}",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
)
SOUND = (
    "copy.csv",
    "xcopy.csv",
    "a copybook.csv",
    "x(2).csv",
    "copy of x",
    "a#b",
    "15_tables.ipynb",
)


def litter(path):
    """Put beside a file what editors and disks would, with bytes that are no text of ours."""
    for form in LEFT:
        name = form.format(path.name, path.stem, path.suffix)
        (path.parent / name).write_bytes(b"\x00\x05\x16\x07\xff\xfe Mac OS X")
    (path.parent / ".ipynb_checkpoints").mkdir(exist_ok=True)
    checkpoint = path.parent / ".ipynb_checkpoints" / f"{path.stem}-checkpoint{path.suffix}"
    checkpoint.write_bytes(b"\xff")


@pytest.mark.parametrize("name", [NAME, "tasks.csv", "x", "12_dataset.ipynb"])
def test_names_that_others_give(name):
    stem, dot, suffix = name.rpartition(".")
    stem, suffix = (stem, dot + suffix) if dot else (name, "")
    for form in LEFT:
        assert is_left_over(form.format(name, stem, suffix)), form
    assert not is_left_over(name) and not any(map(is_left_over, SOUND))


def test_rows_are_read_among_what_others_left(tmp_path):
    written = rows([[1.0, 2.0]])
    records.write_run(write_rows(tmp_path / NAME, written), {"hyper": {}})
    litter(tmp_path / NAME)
    litter(tmp_path / f"{JOB}.run.json")
    assert read_rows(tmp_path) == written and list(tables.read_runs(tmp_path)) == [JOB]
    assert [job.name for some in evidence.jobs(tmp_path).values() for job in some] == [JOB]
    file(tmp_path / "evidence/door.ci/q.ipynb", '{"cells": [], "metadata": {}}')
    litter(tmp_path / "evidence/door.ci/q.ipynb")
    assert [name for name, *_ in evidence.pages(tmp_path, tmp_path / "out")][:1] == ["index"]
    assert [p.name for p in (tmp_path / "out/door.ci").iterdir() if p.suffix == ".html"] == [
        "q.html"
    ]


def test_notebooks_and_their_keys_do_not_see_what_others_left(tmp_path, monkeypatch):
    file(tmp_path / "book/_toc.yml", "root: a\nchapters:\n- file: executed/page\n")
    file(tmp_path / "book/notebooks.toml")
    source = file(tmp_path / "notebooks/01_page.ipynb", '{"cells": [], "metadata": {}}')
    file(tmp_path / "data/tasks.csv", "task,loader\n")
    file(tmp_path / "data/results/a.jsonl")
    inputs = [tmp_path / "data/results", tmp_path / "data/tasks.csv"]
    job = Job(source, tmp_path / "o.ipynb", {}, inputs)
    monkeypatch.setattr(pages, "PAGE_INPUTS", ("book", "data"))
    before = notebook.job_key(tmp_path, job), pages._page_key(tmp_path)
    for path in (source, *(tmp_path / "data").rglob("*"), tmp_path / "book/_toc.yml"):
        litter(path)
    assert (notebook.job_key(tmp_path, job), pages._page_key(tmp_path)) == before
    assert [entry["source"] for entry in pages.manifest(tmp_path)] == ["notebooks/01_page.ipynb"]
    monkeypatch.setattr(notebook, "declared_parameters", lambda source: {})
    made = pages.make_job(tmp_path, pages.manifest(tmp_path)[0], "ci")
    assert made.inputs == [tmp_path / "data/tasks.csv"]
    notebook.job_key(tmp_path, made)


def test_collected_files_and_cards_are_found_among_what_others_left(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))
    name = "hopper-expert-recollected"
    kept = file(tmp_path / f"collected/{name}-0123456789ab.hdf5")
    litter(kept)
    for path in kept.parent.iterdir():
        later = time.time() + (path != kept)
        os.utime(path, (later, later))
    assert at_hand.file_of(task(name)) == kept
    shutil.copytree(DATA / "cards", tmp_path / "cards")
    for path in list((tmp_path / "cards").iterdir()):
        litter(path)
    assert catalogue.cards(tmp_path / "cards") == catalogue.cards()


def test_finished_steps_are_weighed_among_what_others_left(tmp_path):
    at = file(tmp_path / costs.plan.GRID / "ci.released/rows/maze.run.json", "no JSON")
    litter(at)
    at.unlink()
    with pytest.raises(records.ResultsError, match="step"):
        costs.calibrate(tmp_path)


def test_a_folder_that_is_not_there_has_no_files(tmp_path):
    assert files_in(tmp_path / "absent") == files_in(tmp_path / "absent", deep=True) == []
    assert read_rows(tmp_path / "absent") == []


def saved_elsewhere(path, target):
    """A copy as editors of Windows write it: a byte order mark, and lines that end in CR LF."""
    text = path.read_text(encoding="utf-8").replace("\n", "\r\n")
    target.write_bytes(b"\xef\xbb\xbf" + text.encode())
    return target


@pytest.mark.parametrize(
    "name, read",
    [
        ("tasks.csv", tasks.listed),
        ("published.csv", lambda path: paper.published(path).to_dict("list").__repr__()),
        ("published_datasets.csv", catalogue.published),
        ("dataset_versions.csv", lambda path: catalogue.versions_table("d4rl", path)),
        ("known_files.csv", read_csv),
        ("profiles.toml", read_toml),
        ("hyperparameters.toml", read_toml),
    ],
)
def test_tables_are_read_with_a_byte_order_mark_and_lines_of_windows(tmp_path, name, read):
    assert read(saved_elsewhere(DATA / name, tmp_path / name)) == read(DATA / name)


def test_settings_are_the_same_from_files_saved_elsewhere(tmp_path, monkeypatch):
    before = settings.budget("ci", "adroit"), settings.hyper("maze"), settings.groups()
    for name in ("profiles.toml", "hyperparameters.toml", "neighbours.toml"):
        saved_elsewhere(DATA / name, tmp_path / name)
    monkeypatch.setattr(settings, "DATA", tmp_path)
    assert (settings.budget("ci", "adroit"), settings.hyper("maze"), settings.groups()) == before


def test_rows_saved_elsewhere_are_read(tmp_path):
    path = write_rows(tmp_path / NAME, rows([[1.0, 2.0]]))
    saved_elsewhere(path, path)
    assert read_rows(tmp_path) == rows([[1.0, 2.0]])


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "cp1252"])
def test_a_text_in_another_encoding_is_named(tmp_path, encoding):
    path = tmp_path / "tasks.csv"
    path.write_bytes("task,source\nmaze,ein größeres Labyrinth\n".encode(encoding))
    for read in (read_text, read_csv, tasks.listed):
        with pytest.raises(TextError, match=r"tasks\.csv: saw the byte .*expected a text in UTF-8"):
            read(path)


@pytest.mark.parametrize(
    "text, seen",
    [
        ("task;loader\nmaze;x\n", "saw the columns task;loader, expected also task"),
        ("", r"saw the columns \(none\), expected also task"),
        ("task,loader\nmaze,x\ndoor\n", r"line 3 \(door\): saw another number of cells"),
        ("task,loader\nmaze,x,y\n", r"line 2 \(maze\): saw another number of cells, expected 2"),
    ],
)
def test_a_table_that_a_spreadsheet_spoilt_is_named(tmp_path, text, seen):
    with pytest.raises(TextError, match=seen):
        tasks.listed(file(tmp_path / "tasks.csv", text))


def test_an_error_in_a_toml_file_names_the_file(tmp_path):
    path = file(tmp_path / "profiles.toml", "[toy]\nseeds = \n")
    with pytest.raises(tomllib.TOMLDecodeError, match=r"profiles\.toml: .*line 2"):
        read_toml(path)
