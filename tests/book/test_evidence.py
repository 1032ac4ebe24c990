"""From a number of a built book to everything it rests on, in one click; and a book that is not
built from rows that were touched.
"""

import html
import json
import re
from pathlib import Path

import pytest
from example_rows import NAME, rows
from sphinx_books import file, sphinx

from arq_core.book import evidence, pages
from arq_core.book.notebook import RunError
from arq_core.config.paths import DATA
from arq_core.results import records, tables
from arq_core.results.rows import write_rows

ROOT = Path(__file__).resolve().parents[2]
OLD = NAME.replace("arq+s_psi", "s_psi")
PAGE = """Title
=====

:score:`door-human ci arq+s_psi` are ours, :in-support:`door-human ci arq+s_psi` pass.
:succeeded:`door-human ci arq+s_psi` had success.

.. table-a4:: Caption

.. table-2:: Totals

.. table-own:: Ours

.. table-legend::

.. table-files::
"""
DOOR = "Title\n=====\n\n.. table-a4:: Caption\n   :datasets: door-human-v0\n"
RUN = dict(
    task="door-human",
    profile="ci",
    method="arq+s_psi",
    variant="released",
    seeds=[0, 1],
    hyper={"n": 30, "log_epsilon": -5.0},
    budget={"score_steps": 1000, "precision": "bfloat16"},
    dataset=dict(
        sha256="0" * 64,
        fidelity="rebuilt",
        source="demos <of> DAPG",
        transitions=6704,
        notes=["last ones dropped"],
    ),
    steps=[
        dict(
            step="q",
            seconds=12.4,
            files=[dict(file="q-ab.safetensors", sha256="ab" * 32, seconds=12.4)],
            device="another",
            commit="abd",
            notebook="evidence/door-human.ci/q.ipynb",
        ),
        dict(
            step="policy",
            seconds=3.0,
            files=[],
            device="another",
            commit="abd",
            notebook="evidence/door-human.ci/policy.ipynb",
        ),
    ],
    device="a processor",
    commit="abc",
    versions={"python": "3.11"},
    created="2026-01-31T12:00:00+00:00",
    wall_s=4321.0,
    energy_j=98765.0,
    energy_source="RAPL package counters",
)
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Q <b>"]},
        {
            "cell_type": "code",
            "source": "print(1 < 2)",
            "outputs": [
                {"output_type": "stream", "text": ["\x1b[31mTrue\x1b[0m\n"]},
                {"output_type": "display_data", "data": {"image/png": "xx"}},
            ],
        },
    ],
    "metadata": {},
}


def make_book(folder, page=PAGE):
    """A book with one job that has a record of its run, and one that has none."""
    file(folder / "book/conf.py", "extensions = ['arq_core.book.values']\nhtml_theme = 'basic'\n")
    file(folder / "book/index.rst", page)
    for name in ("published.csv", "tasks.csv"):
        file(folder / "data" / name, (ROOT / "data" / name).read_text(encoding="utf-8"))
    kept = folder / "data/results"
    write_rows(kept / NAME, rows([[10.0, 12.0], [8.0, 6.0]]))
    write_rows(kept / OLD, rows([[9.0], [9.5]], method="s_psi"))
    file(kept / "evidence/door-human.ci/q.ipynb", json.dumps(NOTEBOOK))
    records.write_run(kept / NAME, RUN)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = make_book(tmp_path_factory.mktemp("evidence"))
    assert sphinx(folder) == (0, "")
    return folder / "out"


def section(built, job):
    text = (built / "evidence/door-human.html").read_text(encoding="utf-8")
    found = re.search(rf'<section id="{re.escape(job)}">(.*?)</section>', text, re.S)
    return html.unescape(re.sub("<[^>]*>", " ", found[1])), found[1]


def test_a_number_leads_to_its_job_in_one_click(built):
    page = (built / "index.html").read_text(encoding="utf-8")
    # of the table, where smoke tests are folded
    links = set(re.findall(r'<a href="(evidence/door-human\.html#[^"]+)">Evidence</a>', page))
    # the number in a sentence
    assert re.search(
        rf'href="evidence/{re.escape(evidence.address(NAME.removesuffix(".jsonl")))}">9\.0 '
        r""
        r"± 2\.8",
        page,
    )
    assert ">50%</a> pass" in page
    assert ">0%</a> had success" in page  # no score is above 50
    assert "± 2.8 (smoke test)</a>" in page  # profile ci ranks nothing on the door
    assert links == {f"evidence/{evidence.address(Path(name).stem)}" for name in (NAME, OLD)}
    for link in links:
        path, anchor = link.split("#")
        assert f'id="{anchor}"' in (built / path).read_text(encoding="utf-8")


def test_every_link_of_the_results_and_of_the_evidence_leads_somewhere(built):
    for path in [built / "index.html", *sorted((built / "evidence").rglob("*.html"))]:
        for link in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', path.read_text(encoding="utf-8")):
            # the page of the book that this small one lacks
            if "results.html" not in link and "_static" not in link:
                assert (path.parent / html.unescape(link)).exists(), (path.name, link)


def test_a_job_has_its_configuration_seeds_commit_data_device_time_and_energy(built):
    told, markup = section(built, NAME.removesuffix(".jsonl"))
    for text in (
        "9.00 ± 2.83",
        "smoke test: it ran from end to end",
        "2 × 2",
        "log_epsilon",
        "-5.0",
        "score_steps",
        "1,000",
        "bfloat16",
        "0" * 64,
        "demos <of> DAPG",
        "6,704 transitions",
        "last ones dropped",
        "a processor",
        "abc",
        "python 3.11",
        "4,321 s",
        "98,765 J (RAPL package counters)",
        "2026-01-31T12:00:00+00:00",
        "11.000",
        "7.000",
        "q-ab.safetensors",
        "abababab",
        "another, abd",
        "12.4",
    ):
        assert text in told, text
    assert (
        'href="door-human.ci/q.html">read</a>' in markup
        and 'href="door-human.ci/q.ipynb" download' in markup
    )
    assert "not kept" in told and "policy.html" not in markup
    assert (built / "evidence" / NAME).exists() and (
        built / "evidence" / records.run_path(NAME).name
    ).exists()


def test_rows_without_a_record_of_their_run_say_so(built):
    told, markup = section(built, OLD.removesuffix(".jsonl"))
    assert (
        told.count("not recorded") == 4
        and "energy  not recorded" in told
        and ".run.json" not in markup
        and "9.25" in told
    )


def test_an_executed_notebook_can_be_read_and_taken_along(built):
    text = (built / "evidence/door-human.ci/q.html").read_text(encoding="utf-8")
    for part in (
        "<h1>Q &lt;b&gt;</h1>",
        "print(1 &lt; 2)",
        ">True\n(image",
        "(image/png: in the notebook itself)",
        "evidence.css",
    ):
        assert part in text, part
    assert (
        json.loads((built / "evidence/door-human.ci/q.ipynb").read_text(encoding="utf-8"))
        == NOTEBOOK
    )


def test_the_tables_as_files_are_in_the_book(built):
    assert (
        NAME in (built / "tables/table_a4.csv").read_text(encoding="utf-8")
        and (built / "tables/tables.tex").exists()
    )


@pytest.mark.parametrize(
    "touch, told",
    [
        (
            lambda text: text.replace('"score": 12.0', '"score": 99.0'),
            f"{NAME}:2: saw a line that is not the one its run wrote",
        ),
        (lambda text: text[:-40], f"{NAME}:4: saw a line that is not JSON"),
    ],
)
def test_a_touched_row_fails_the_build_by_file_and_line(tmp_path, touch, told):
    path = make_book(tmp_path, DOOR) / "data/results" / NAME
    path.write_text(touch(path.read_text(encoding="utf-8")), encoding="utf-8")
    status, said = sphinx(tmp_path)
    assert status != 0 and told in said, said


def test_a_failed_cell_is_marked_in_the_page(tmp_path):
    failed = dict(
        task="door-human",
        profile="ci",
        method="arq+pi",
        variant="released",
        step="policy",
        notebook="n.ipynb",
        error="Out <of> memory\nmore",
        log="policy.log",
    )
    make_book(tmp_path, DOOR)
    file(tmp_path / "_build/grid/failed.json", json.dumps([failed]))
    assert sphinx(tmp_path) == (0, "")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert (
        page.count('<td class="arq-failed"') == 1
        and "Out &lt;of&gt; memory" in page
        and "policy.log" in page
    )


def test_the_pages_are_made_again_when_a_record_a_notebook_or_a_failure_changes(tmp_path):
    make_book(tmp_path)
    missing = [name for name in pages.PAGE_INPUTS if not (tmp_path / name).exists()]
    with pytest.raises(RunError, match=f"{missing[0]}: saw nothing there"):
        pages._page_key(tmp_path)
    for name in missing:
        file(tmp_path / name if "." in name else tmp_path / name / "a.py")
    keys = [pages._page_key(tmp_path)]
    for name in (
        f"data/results/{records.run_path(NAME).name}",
        "data/results/evidence/door-human.ci/q.ipynb",
        "_build/grid/failed.json",
    ):
        file(tmp_path / name, "[]")
        keys.append(pages._page_key(tmp_path))
    assert len(set(keys)) == len(keys)
    for name in pages.PAGE_INPUTS:
        assert (ROOT / name).exists(), name


def test_committed_jobs_have_a_page_each():
    found = evidence.jobs(DATA / "results")
    assert sum(map(len, found.values())) == len(list((DATA / "results").glob("*.jsonl")))
    for task, some in found.items():
        text = evidence.body(task, some, DATA / "results")
        assert all(f'<section id="{job.name}">' in text for job in some)
    assert tables.read_runs(DATA / "results").keys() <= {
        job.name for some in found.values() for job in some
    }
