"""The strip of forty squares and the dots with whiskers say what the rows say."""

import functools
import re

import numpy as np
import pytest
from example_rows import FAILURE, committed, rows

from arq_core.book import minute
from arq_core.book.tables import ARQ, anchor, to_html
from arq_core.config.labels import GROUPS
from arq_core.results import overview, tables

NAMES = tables.task_names()


def scores(mean, seeds=3, episodes=100, spread=1.0):
    around = mean + spread * np.linspace(-1, 1, seeds)[:, None]
    return np.repeat(around, episodes, axis=1)


def job(task, profile, method="s_psi", mean=50.0, fidelity="official", **more):
    return rows(scores(mean, **more), task=task, profile=profile, method=method, fidelity=fidelity)


MADE = [
    *job("hopper-expert-v2", "paper", mean=89.0),
    *job("pen-human-v0", "paper", mean=1.0),
    *job("door-human", "lite", mean=8.0),
    *job("door-human", "lite", "arq+s_psi", mean=-4.0),
    *job("lift-ph", "ci"),
]
SETS = {"committed": committed, "made up": lambda: MADE, "none": list}


@functools.cache
def found():
    """The datasets with the rows that were made up."""
    return overview.datasets(cells(MADE))


def cells(some):
    return tables.table_a4(some, NAMES, failures=[FAILURE])


@pytest.mark.parametrize("some", SETS.values(), ids=SETS)
def test_forty_squares_have_the_words_of_their_rows_and_lead_to_their_lines(some):
    shown = cells(some())
    text = minute.strip(overview.datasets(shown))
    squares = re.findall(
        r'<li><a class="arq-square arq-is-([a-z-]+)" href="#([^"]+)">.*?<b>([^<]+)</b>: ([a-z ]+)',
        text,
    )
    assert len(squares) == len({name for _, _, name, _ in squares}) == 40
    ours = shown[shown["line"] == "ours"]
    table = to_html(shown, "caption", "t", anchors=True)
    for kind, where, name, word in squares:
        verdicts = set(ours.loc[ours["dataset"] == name, "verdict"])
        # the strictest of its cells
        order = [w for w in overview.DECIDING if w in verdicts]
        assert kind.replace("-", " ") == word == order[0], name
        assert where == anchor(name) and table.count(f'id="{where}"') == 1
    counted = dict(re.findall(r"<span>([a-z ]+): (\d+)</span></li>", text))
    words = [word for *_, word in squares]
    assert {word: int(n) for word, n in counted.items() if int(n)} == {
        word: words.count(word) for word in words
    }
    assert set(counted) >= {"reproduced", "not reproduced", "not comparable", "not run"}


def test_the_squares_of_a_group_stand_together_under_its_name():
    text = minute.strip(found())
    heads = re.findall(r'<p id="arq-strip-\d">([^<]+)</p>', text)
    assert heads == list(GROUPS.values())
    sizes = [part.count("arq-square") for part in text.split('<p id="arq-strip-')[1:]]
    assert sizes[:4] == [12, 8, 3, 6]


def test_a_square_says_our_numbers_the_papers_and_the_profile():
    text = minute.strip(found())
    told = re.search(r"<b>door-human-v0</b>(.*?)</span></a>", text, re.S)[1]
    assert "profile lite" in told and "8.0 ± 1.0 (paper 9 ± 0.9)" in told
    assert told.index("−4.0") < told.index("8.0 ± 1.0")  # ARQ's first
    smoke = re.search(r"<b>lift-ph</b>(.*?)</span></a>", text, re.S)[1]
    assert smoke == ": smoke test."


def test_a_square_names_our_own_set_that_stands_for_its_dataset():
    own = overview.datasets(
        tables.table_own(job("lift-ph-recollected", "lite", fidelity="recollected"))
    )
    for paper, told in (("lift-ph", True), ("can-ph", False)):
        alike = {paper: f"{paper}-recollected"}
        text = minute.strip(overview.datasets(cells([])), own, alike)
        assert ("stands for it has numbers: lift-ph-recollected" in text) is told


def drawn(some, own=False):
    made = tables.table_own(some) if own else cells(some)
    return minute.dots(overview.datasets(made))


def lines(text):
    """The rows of a figure by their heads."""
    found = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', text, re.S)
    return {re.sub("<[^>]*>", "", head): line for head, line in found}


def places(text, kind):
    """Left edges of marks, by the heads of their lines."""
    mark = re.compile(rf'<i class="{kind}" style="left:(-?[\d.]+)%')
    return {head: [float(x) for x in mark.findall(line)] for head, line in lines(text).items()}


def test_dots_lie_at_their_means_on_one_axis_and_whiskers_a_spread_to_both_sides():
    text = drawn(job("door-human", "lite", mean=8.0) + job("door-human", "lite", "bc", mean=2.0))
    own, theirs = places(text, "arq-dot arq-own"), places(text, "arq-dot arq-theirs")
    ticks = re.findall(r'<i style="left:([\d.]+)%">([−\d]+)</i>', text)
    (x0, _), (x1, t1) = ticks[0], ticks[1]
    assert ticks[0][1] == "0"
    place = lambda value: float(x0) + (float(x1) - float(x0)) * value / float(t1)
    assert own["sψ"] == [pytest.approx(place(8.0), abs=0.02)]
    assert own["BC"] == [pytest.approx(place(2.0), abs=0.02)]
    assert theirs["ARQ + sψ"] == [pytest.approx(place(10.0), abs=0.02)]
    mark = r'arq-whisker arq-own" style="left:([\d.]+)%;width:([\d.]+)%'
    (whisker,) = re.findall(mark, lines(text)["sψ"])
    left, width = map(float, whisker)
    assert left == pytest.approx(place(7.0), abs=0.02)
    assert width == pytest.approx(place(2.0) - place(0.0), abs=0.03)


def test_arqs_lines_come_first_and_what_only_the_paper_has_is_one_line():
    text = drawn(job("door-human", "lite"))
    assert list(lines(text))[: len(ARQ) + 1] == ["ARQ + sψ", "ARQ + πϕ", "sψ"]
    (others,) = re.findall(r"(\d+) others</th>", text)
    assert len(places(text, "arq-dot arq-theirs")[f"{others} others"]) == int(others)


def test_the_profile_is_named_and_the_largest_is_drawn():
    text = drawn(job("door-human", "lite", mean=3.0) + job("door-human", "paper", mean=5.0))
    (caption,) = re.findall(r"<figcaption>.*?</figcaption>", text)
    assert "profile paper" in caption and "3 × 100" in caption
    assert "In the table also: profile lite" in caption
    assert "<b>5.0</b>" in text and "<b>3.0</b>" not in text


def test_smoke_tests_and_what_was_not_run_are_not_drawn():
    assert "<figure" not in drawn(job("door-human", "ci")) and "<figure" not in drawn([])
    assert "more than a smoke test" in drawn([])
    text = minute.dots(found())
    names = re.findall(r'<figure class="arq-table arq-dots" id="dots-([^"]+)"', text)
    assert names == ["hopper-expert-v2", "pen-human-v0", "door-human-v0"]


def test_datasets_of_our_own_stand_in_groups_of_their_own_without_the_paper():
    some = job("lift-ph-recollected", "lite", fidelity="recollected")
    some += job("maze", "lite", fidelity="recollected", mean=0.5, spread=0.0)
    text = drawn(some, own=True)
    assert re.findall("<h3[^>]*>([^<]+)</h3>", text) == [
        "Robot arm, scripted controllers",
        "Two small problems of this book; the score is the return",
    ]
    assert "<b>50.0</b>" in text and "<b>0.50</b>" in text  # the digits that their axes need
    assert "arq-theirs" not in text and ">paper<" not in text and ">verdict<" not in text


@pytest.mark.parametrize(
    "values, ticks",
    [
        ([3.0, 111.0], ["0", "25", "50", "75", "100"]),
        ([-1.0, 0.97], ["−1.0", "−0.5", "0.0", "0.5", "1.0"]),
        ([0.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.1], ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]),
    ],
)
def test_ticks_are_round_and_few_with_the_digits_they_need(values, ticks):
    axis = minute.Axis(values)
    assert [minute.number(tick, axis.digits) for tick in axis.ticks] == ticks


@pytest.mark.parametrize("values", [[-1e9, 5e12], [1e-9], [-0.3], [0.0, float("nan")], []])
def test_every_value_lies_on_its_axis(values):
    axis = minute.Axis(values)
    assert 2 <= len(axis.ticks) <= 7
    assert all(0 <= float(axis.at(x)) <= 100 for x in [0.0, *values, *axis.ticks] if x == x)
