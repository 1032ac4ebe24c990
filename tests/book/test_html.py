"""Every table of the book can be read without seeing it, whoever wrote it.

Checked on the numbers and the datasets that the repository holds.
"""

from html.parser import HTMLParser

import pytest
from example_rows import rows
from jinja2 import UndefinedError
from markupsafe import Markup

from arq_core.book import catalogue, evidence, html, notebook
from arq_core.book import tables as tables_html
from arq_core.book.html import Row
from arq_core.config.paths import DATA
from arq_core.results import rows as results
from arq_core.results import tables, totals
from arq_core.results.equivalence import Compared, Equivalence, Untested, compared

RESULTS = DATA / "results"
EMPTY = {"br", "wbr"}
FAILED = dict(
    task="door-human",
    profile="ci",
    method="iql",
    variant="released",
    step="q",
    notebook="n",
    error="a <b> & 'c'",
    log="q.log",
)


class Page(HTMLParser):
    """The elements of a page as [tag, attributes, parent, text], checked to be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(str(text))  # pieces of a Markup would escape what is added to them
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), self.open[-1] if self.open else None, ""])
        if tag not in EMPTY:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[3] += data

    def of(self, *tags):
        return [element for element in self.elements if element[0] in tags]

    def around(self, element, tag):
        while element and element[0] != tag:
            element = element[2]
        return element


def equivalences():
    """A cell of each verdict, one of our own small problems, and one that was not tested."""
    about = dict(variant="released", first="fast", second="full")
    counts = dict(first_seeds=3, second_seeds=5, first_episodes=100, second_episodes=50)
    cell = lambda task, method, first, reach, margin, equivalent: Equivalence(
        task=task,
        method=method,
        first_mean=first,
        second_mean=10.0,
        difference=first - 10,
        low=first - 10 - reach,
        high=first - 10 + reach,
        p=0.5,
        margin=margin,
        equivalent=equivalent,
        **about,
        **counts,
    )
    tested = [
        cell("door-human", "arq+s_psi", 11, 2, 5.0, True),
        cell("door-human", "arq+pi", 3, 2, 5.0, False),
        cell("door-human", "my <method>", 8, 9, 5.0, False),
        cell("maze", "bc", 10.01, 0.02, 0.05, True),
    ]
    untested = [Untested("door-human", "iql", "paper", "saw one seed <of two>")]
    return tables_html.equivalences_html(
        Compared(tested, untested), "fast", "full", "A caption", "eq", "../evidence/"
    )


def pages():
    rows, runs, names = results.read_rows(RESULTS), tables.read_runs(RESULTS), tables.task_names()
    more = dict(runs=runs, failures=[FAILED])
    cells = {
        "a4": tables.table_a4(rows, names, **more),
        "t2": totals.table_2(rows, names, **more),
        "own": tables.table_own(rows, **more),
        "empty": tables.table_a4([], names),
    }
    yield from (tables_html.to_html(some, "A caption", name) for name, some in cells.items())
    yield equivalences()
    yield from (evidence.body(task, jobs, RESULTS) for task, jobs in evidence.jobs(RESULTS).items())
    yield catalogue.comparison(catalogue.cards(), catalogue.published())
    yield from (tables_html.legend_html(), catalogue.overview(), catalogue.passports())
    yield from map(catalogue.versions_table, ("d4rl", "robomimic"))
    yield from (
        catalogue.facts_table(catalogue.card_facts(card), name)
        for name, card in catalogue.cards().items()
    )


def test_every_table_has_a_caption_heads_with_scope_rows_of_one_width_and_named_regions():
    found = 0
    for page in map(Page, pages()):
        captions = {id(page.around(c, "figure")): c for c in page.of("figcaption")}
        for table in page.of("table"):
            found += 1
            caption = captions[id(page.around(table, "figure"))]
            assert caption[3].strip()
            heads = [e for e in page.of("th") if page.around(e, "table") is table]
            assert {head[1].get("scope") for head in heads} <= {"row", "col", "rowgroup"}
            assert all(head[3].strip() for head in heads)
            widths = {}
            for cell in page.of("td", "th"):
                if page.around(cell, "table") is table:
                    row = id(page.around(cell, "tr"))
                    widths[row] = widths.get(row, 0) + int(cell[1].get("colspan", 1))
            assert len(set(widths.values())) == 1
            region = table[2]
            if region[0] == "div":
                assert region[1] == {
                    "class": "arq-scroll",
                    "role": "region",
                    "tabindex": "0",
                    "aria-labelledby": caption[1]["id"],
                }
        ids = [e[1]["id"] for e in page.elements if "id" in e[1]]
        assert len(ids) == len(set(ids))
    assert found > 100


def test_a_table_escapes_texts_and_keeps_ready_html():
    rows = [Row("<i>"), Row("a & b", [Markup("<b>1</b>"), 2], "arq-ours")]
    text = html.table("<caption>", rows, ["<h>", "x", "y"], label="l", name="n", notes=["<n>"])
    page = Page(text)
    assert [e[3] for e in page.of("th")] == ["<h>", "x", "y", "<i>", "a & b"]
    assert [e[3] for e in page.of("td")] == ["1", "2"] and len(page.of("b")) == 1
    assert page.of("figcaption")[0][3] == "<caption>" and page.of("li")[0][3] == "<n>"
    assert page.of("figure")[0][1] == {"class": "arq-table", "id": "n"}


def test_equivalences_say_what_was_shown_and_lead_to_their_rows():
    page = Page(equivalences())
    heads, *lines = (
        [cell[3] for cell in page.of("th", "td") if page.around(cell, "tr") is row]
        for row in page.of("tr")
    )
    assert heads == ["dataset, method", "verdict", "difference", "90% interval", "fast", "full"]
    interval = "+1.0", "−1.0 to +3.0", "11.03 × 100", "10.05 × 50"
    assert lines[0] == ["door-humanARQ + sψ", "equivalent within 5", *interval]
    assert [line[1] for line in lines[1:]] == [
        "differs by −7.0",
        "not shown",
        "equivalent within 0.05",
        "not tested1",
    ]
    assert lines[2][0] == "door-humanmy <method>" and lines[3][2] == "+0.010"
    assert lines[4][0] == "door-humanIQL, paper"
    assert [note[3] for note in page.of("li")] == ["saw one seed <of two>"]
    links = [link[1]["href"] for link in page.of("a")]
    name = "../evidence/door-human.html#door-human.{}.arq+s_psi.released"
    assert links[:2] == [name.format("fast"), name.format("full")]


def test_the_tables_of_equivalences_follow_the_rows():
    for task, first in (("door-human", 50), ("maze", 0.5)):
        sides = [
            rows([[first + shift], [first - shift], [first]], task=task, profile=profile)
            for profile, shift in (("fast", 0.001), ("full", 0.002))
        ]
        made = tables_html.equivalences_html(
            compared([*sides[0], *sides[1]]), "fast", "full", "A caption", "eq"
        )
        assert f"equivalent within {5 if task == 'door-human' else 0.05}<" in made


def test_a_template_that_lacks_something_says_so():
    with pytest.raises(UndefinedError, match="rows"):
        html.figure("table", "A caption")


def test_a_notebook_that_shows_such_a_table_runs_again_when_a_template_changes(tmp_path):
    source = DATA.parent / "notebooks/12_dataset.ipynb"
    found = notebook.dependencies(DATA.parent, notebook.Job(source, tmp_path / "done.ipynb"))
    assert set(html.TEMPLATES.glob("*.html")) <= set(found)
