"""Pages are made from any valid set of rows: none, one method, several profiles and variants, own
data, methods and profiles that nobody knows any more, rows without scores.
"""

import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from example_rows import rows
from row_sets import SETS, checkout, run_cells, scores
from sphinx_books import ROOT, file, sphinx

from arq_core.config import settings
from arq_core.experiments import experiment
from arq_core.figures import common
from arq_core.results import equivalence, export, tables

ROLES = [
    (ROOT / "book/results.md").read_text(encoding="utf-8"),
    (ROOT / "book/introduction.md").read_text(encoding="utf-8"),
    (ROOT / "book/status.md").read_text(encoding="utf-8"),
    (ROOT / "book/own_data.md").read_text(encoding="utf-8"),
    "{score}`door-human lite arq+s_psi paper`, {score}`pen-human-v0 paper arq+s_psi`",
    "{score}`door-human ci dqp-brac-kl`, {in-support}`door-human ci bc`",
]
CONF = "extensions = ['arq_core.book.values']\nhtml_theme = 'basic'\n"
PAGE = """Title
=====

{roles}

.. results-strip::

.. results-dots:: paper

.. results-dots:: own

.. table-a4:: Caption
   :folded:
   :anchors:

.. table-a4:: Caption
   :datasets: door-human-v0

.. table-2:: Totals

.. table-own:: Ours

.. table-equivalence:: Quick and whole

.. table-legend::

.. table-files::
"""


SLOW = pytest.mark.slow(
    reason="a page, or a build of Sphinx, each; their tables are made as files besides, and those "
    "of the project by `make book`"
)
# of the others, which are made into files by the same tables, pages are made in the slow tests
FIRST = ("none", "own data")
MORE = (
    "two variants",
    "no scores",
    "those of the project, and one more",
    "one method at the paper's profile",
    "an unknown method",
    "one seed",
    "no shares",
)
SHOWN = [name if name in FIRST else pytest.param(name, marks=SLOW) for name in SETS]
BUILT = (*FIRST, *(pytest.param(name, marks=SLOW) for name in MORE))
TABLED = [name if name in (*FIRST, *MORE) else pytest.param(name, marks=SLOW) for name in SETS]
# each set on one of the tasks; on the others in the slow tests
TASKS = ("door-human", "pen-human-v0", "maze")
TRAINED = [
    pytest.param(name, task, marks=[SLOW] * (at % len(TASKS) != i))
    for at, name in enumerate(SETS)
    for i, task in enumerate(TASKS)
]


@pytest.fixture(params=SETS)
def made(request, tmp_path, monkeypatch):
    """A checkout with a set of rows, to which all code is sent."""
    some = SETS[request.param]()
    folder = checkout(tmp_path / "it's a copy", some)
    monkeypatch.setenv("ARQ_ROOT", str(folder))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw() and plt.close("all"))
    yield folder, some
    plt.close("all")


@pytest.mark.parametrize("made", TABLED, indirect=True)
def test_the_page_of_tables_is_made(made):
    _, rows = made
    shown = run_cells("15_tables.ipynb")
    measured = {row["method"] for row in shown["rows"]}
    assert measured <= {row["method"] for row in rows if row["task"] == "door-human"}
    assert set(shown["table"].index[shown["table"]["ours"] == "not run"]) == (
        set(shown["methods"]) - measured
    )
    settings = {(row["profile"], row["variant"]) for row in shown["rows"]}
    assert len(settings) <= 1


@pytest.mark.parametrize("made", SHOWN, indirect=True)
def test_the_page_of_statistics_is_made(made, monkeypatch):
    from arq_core.results import bootstrap

    folder, rows = made
    monkeypatch.setattr(bootstrap, "coverage", lambda *args, **given: 0.5)
    monkeypatch.setattr(bootstrap, "REPS", 50)
    shown = run_cells("16_statistics.ipynb", results=str(folder / "data/results"))
    assert len(shown["rows"]) == len(rows)


@pytest.mark.parametrize("made, task", TRAINED, indirect=["made"])
def test_the_page_that_trains_shows_rows_where_it_cannot(made, monkeypatch, task):
    monkeypatch.setattr(experiment, "missing", lambda name: "its data are not here")
    shown = run_cells("14_train_evaluate.ipynb", task=task)
    assert {row["task"] for row in shown["rows"]} <= {task}


# cells of the page on supports that read the rows, or what they read
ABOUT_ROWS = ("measured_row = ", "import Dimension", "import brentq")


def test_the_page_of_supports_is_made(made):
    lines, seeds = torch.linspace(-8, 0, 9), 2
    kept = torch.full((9, seeds), 0.4)
    given = dict(
        np=np, common=common, settings=settings, lines=lines, log_epsilon=-5.0,
        kept=kept, recorded=kept, moments=[0], often=[0],
        actions=torch.zeros(1), profile="ci", glue=lambda *args, **given: None, torch=torch,
        hand=SimpleNamespace(seeds=(0, 1), budget=SimpleNamespace(score_steps=10)),
        cloned=SimpleNamespace(of_action=lambda x: torch.ones(2, 2, 4, 3)),
        g=torch.Generator().manual_seed(0),
    )  # fmt: skip
    shown = run_cells("05_support.ipynb", chosen=ABOUT_ROWS, **given)
    assert 0 <= shown["hand_share"] <= 1 and shown["said"].count("%") >= 1


@pytest.mark.parametrize("made", BUILT, indirect=True)
def test_roles_tables_and_evidence_are_built(made):
    folder, rows = made
    named = r"\{((?:score|in-support|succeeded|published|headline))\}(`[^`]+`)"
    roles = re.findall(named, " ".join(ROLES))
    assert len(roles) > 10 and {"published", "headline"} < {name for name, _ in roles}
    text = ", ".join(f":{name}:{what}" for name, what in roles)
    file(folder / "book/conf.py", CONF)
    file(folder / "book/index.rst", PAGE.format(roles=text))
    assert sphinx(folder) == (0, "")
    page = (folder / "out/index.html").read_text(encoding="utf-8")
    assert ">not run</span>" in page and "nan" not in page
    pairs = any(equivalence.compared(rows))
    assert ("There are none yet: no cell has committed rows at both" in page) is not pairs
    assert ('<figure class="arq-table" id="table-equivalence-' in page) is pairs
    assert page.count('<li><a class="arq-square ') == 40
    jobs = {(r["task"], r["profile"], r["method"], r["variant"]) for r in rows}
    assert f"{len(jobs)} jobs of" in (folder / "out/evidence/index.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("made", sorted(set(SETS) - {*FIRST, *MORE}), indirect=True)
def test_tables_are_written_as_files(made, tmp_path):
    folder, rows = made
    results = folder / "data/results"
    paths = export.export(tmp_path / "out", results, rows, tables.read_runs(results), [])
    assert all(path.stat().st_size for path in paths)


MISTYPED = {
    ":score:`door-humn ci arq+s_psi`": "task: saw 'door-humn'",
    ":score:`pen-human-v1 lite bc`": "task: saw 'pen-human-v1'",
    ":score:`door-human light bc`": "profile: saw 'light'",
    ":score:`maze ci arq+spsi`": "method: saw 'arq+spsi'",
    ":in-support:`maze ci bc best`": "variant: saw 'best'",
    ":published:`door-human-v0 arq`": "method: saw 'arq'",
    ":published:`door-human-v0`": "published 'door-human-v0': saw",
    ":score:`maze ci`": "saw 2 words",
    ":headline:`bridge pepper`": "saw ['pepper'], expected bridge or maze or paper or datasets",
}


def test_mistyped_names_still_fail_the_build(tmp_path):
    folder = checkout(tmp_path / "x", [])
    file(folder / "book/conf.py", CONF)
    file(folder / "book/index.rst", "Title\n=====\n\n" + "\n\n".join(MISTYPED) + "\n")
    status, told = sphinx(folder)
    assert status != 0
    for seen in MISTYPED.values():
        assert seen in told


def test_a_method_without_rows_is_said_not_to_have_been_run():
    table = common.comparison(rows(scores(1, 2), method="bc"), ["s_psi", "bc"])
    assert table.loc["s_ψ", "score"] == "not run" and "±" not in table.loc["BC", "score"]
    assert table.loc["BC", "seeds × episodes"] == "1 × 2"


def test_of_several_settings_one_is_shown():
    some = [
        *rows(scores(), method="bc"),
        *rows(scores(), method="bc", variant="paper"),
        *rows(np.full((3, 4), 7.0), method="bc", profile="lite"),
        *rows(scores(), method="bc", profile="another"),
    ]
    table = common.comparison(some, ["bc", "s_psi"])
    assert table.loc["BC", "score"] == "7.00 ± 0.00"
    assert table.loc["BC", "seeds × episodes"] == "3 × 4"
    figure, ax = plt.subplots()
    common.draw_seed_scores(ax, some, ["bc", "s_psi"])
    assert [patch.get_width() for patch in ax.patches] == [7.0]
    assert [text.get_text() for text in ax.texts] == ["not run"]
    plt.close(figure)
