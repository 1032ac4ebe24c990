"""What a visitor meets first: README in one screen, its line of results, its picture; the
containers that it names; and the book's first screen.
"""

import json
import re

import pytest
from example_rows import committed
from sphinx_books import ROOT

from arq_core.config.paths import DATA
from arq_core.results import overview, tables
from arq_core.results.headline import headline
from arq_core.results.tables import read_runs

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST = (ROOT / "book/introduction.md").read_text(encoding="utf-8")


def everything():
    """(all rows, all records of runs) of the project: read when a test asks for them."""
    return list(committed()), read_runs(DATA / "results")


def without(task, method):
    return [row for row in committed() if (row["task"], row["method"]) != (task, method)]


def test_the_line_of_results_is_what_the_rows_say():
    """A change of rows: `python book/cover.py` writes it anew. Rows that `make table` made again
    may round in other places.
    """
    (told,) = re.findall(r"<!-- results[^>]*-->\n(.*)\n<!-- end of results -->", README)
    said, number = headline(*everything()), re.compile(r"−?\d+\.\d+")
    assert number.sub("", told) == number.sub("", said)
    told, said = (
        [float(x.replace("−", "-")) for x in number.findall(text)] for text in (told, said)
    )
    assert said and told == pytest.approx(said, abs=0.05)


def test_a_number_without_rows_is_not_said():
    assert "bridge" not in headline(without("bridge", "s_psi"), everything()[1])
    assert "maze" not in headline(without("maze", "bc"), everything()[1])
    assert headline([]).startswith("No cell of Table A.4 has a verdict yet")


@pytest.mark.parametrize("score, said", [(0.5, "earns 0.50 of 1"), (-0.25, "earns −0.25 of 1")])
def test_the_numbers_come_from_the_rows(score, said):
    changed = [
        row | {"score": score} if row["method"] == "arq+s_psi" and row["task"] == "bridge" else row
        for row in committed()
    ]
    assert said in headline(changed, everything()[1])


def test_the_first_screen_says_a_part_of_it():
    whole, part = headline(*everything()), headline(*everything(), ["bridge", "paper"])
    bridge, paper = part.split(". ", 1)
    assert bridge in whole and whole.endswith(paper) and "maze" not in part and "On the b" in part
    with pytest.raises(ValueError, match="saw .'pepper'., expected bridge or maze or paper"):
        headline(*everything(), ["bridge", "pepper"])


def test_the_status_says_what_the_strip_of_results_says():
    found = overview.datasets(
        tables.table_a4(committed(), tables.task_names(), runs=everything()[1])
    )
    said = headline(*everything(), ["datasets", "beside", "own"])
    assert said.startswith(overview.sentence(found)) and overview.beside(found) in said
    assert re.search(r"Besides, \d+ datasets of our own have numbers", said)
    assert headline([], shown=["beside", "own"]) == ""


def test_the_first_screen_is_a_figure_three_lines_and_four_ways_on():
    before, after = FIRST.split("```{arq-widget} arq_core.widgets.hero:Hero\n```")
    assert len(before.split()) < 130  # the figure is in sight
    lines, cards = after.split("::::{grid}")[0], re.findall(r":link: (\S+)", after)
    assert lines.count("\n- ") == 3 and "{headline}`bridge paper`" in lines
    assert "git clone" in lines and "make book" in lines
    listed = (ROOT / "book/_toc.yml").read_text(encoding="utf-8").split()
    assert len(cards) == 4 and set(cards) <= set(listed)


def test_the_readme_is_one_screen():
    assert len(README.splitlines()) <= 60


def test_its_picture_says_in_words_what_it_shows():
    (alt,) = re.findall(r"!\[([^]]*)\]\(book/_static/cover.svg\)", README)
    told = (ROOT / "book/_static/cover.svg").read_text(encoding="utf-8")
    assert alt in re.sub(r"\s+", " ", told)


def test_the_containers_know_each_other():
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    build = container["build"]
    assert (ROOT / ".devcontainer" / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert f"AS {build['target']}\n" in docker
    targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for command in re.findall(r"\bmake (?!g\+\+)([\w./-]+)", docker + json.dumps(container)):
        assert command in targets or command == ".venv/.installed"
