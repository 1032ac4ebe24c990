"""The results in a minute: words, counts and numbers are those of the rows."""

import functools
import re

import numpy as np
import pytest
from example_rows import FAILURE, committed, rows

from arq_core.config.paths import DATA
from arq_core.results import overview, tables
from arq_core.results.verdicts import SMOKE_TEST, WORDS

NAMES = tables.task_names()


def at(mean, **job):
    """Three seeds around a mean, 100 episodes each."""
    scores = np.repeat([[mean - 1.0], [mean], [mean + 1.0]], 100, axis=1)
    return rows(scores, **dict(method="s_psi", fidelity="official") | job)


KINDS = {  # a dataset of each kind; the paper has 89 and 58 for the two that are judged
    "reproduced": ("hopper-expert-v2", at(89.0, task="hopper-expert-v2", profile="paper")),
    "not reproduced": ("pen-human-v0", at(1.0, task="pen-human-v0", profile="paper")),
    "not comparable": ("door-human-v0", at(8.0, task="door-human", profile="lite")),
    SMOKE_TEST: ("lift-ph", at(8.0, task="lift-ph", profile="ci")),
}
MADE = [row for _, some in KINDS.values() for row in some]


def found(some, failures=()):
    return overview.datasets(tables.table_a4(some, NAMES, failures=failures))


@functools.cache
def made():
    """The datasets with the rows of each kind, and one that failed."""
    return found(MADE, (FAILURE,))


def word(name, datasets):
    return next(d.word for d in datasets if d.name == name)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_each_kind_give_their_dataset_its_word(kind):
    assert word(KINDS[kind][0], made()) == kind


def test_a_failed_dataset_and_one_without_rows_have_their_words():
    assert word("pen-cloned-v0", made()) == "failed"
    assert word("kitchen-mixed-v0", made()) == "not run"
    assert word("pen-cloned-v0", found(MADE)) == "not run"


def test_one_cell_that_is_not_reproduced_decides():
    more = at(1.0, task="hopper-expert-v2", profile="paper", method="arq+pi")
    assert word("hopper-expert-v2", found(MADE + more)) == "not reproduced"
    lite = at(1.0, task="hopper-expert-v2", profile="lite", method="arq+pi")
    assert word("hopper-expert-v2", found(MADE + lite)) == "reproduced"


def test_every_word_of_a_verdict_can_decide():
    assert set(overview.DECIDING) == set(WORDS)
    assert [overview.word_of([word]) for word in WORDS] == list(WORDS)


def test_the_sentence_counts_what_the_rows_give():
    said = overview.sentence(made())
    assert said == (
        "Of the paper's 40 datasets, 1 is reproduced and 1 is not; 1 has numbers of ours that may "
        "not be judged (a smaller budget, other data or a gap in the paper's table), 1 ran as a "
        "smoke test only, 1 ended in an error, and 35 were not run."
    )
    assert sum(overview.counts(made()).values()) == 40
    none = overview.sentence(found([]))
    assert none == "Of the paper's 40 datasets, none has a verdict yet; 40 were not run."


def test_the_sentence_of_the_committed_rows_is_theirs():
    """Their rows alone, without the frame of cells in between: who has any beyond smoke tests."""
    ours = list(committed())
    cells = tables.table_a4(ours, NAMES, runs=tables.read_runs(DATA / "results"))
    said = overview.sentence(overview.datasets(cells))
    numbers = sum(int(n) for n in re.findall(r"(?<!paper's )\b\d+", said))
    assert numbers == 40
    ran = {row["task"] for row in ours if row["task"] in NAMES}
    assert f"{40 - len(ran)} were not run." in said


def test_numbers_beside_the_papers_are_counted_by_where_they_lie():
    some = [
        *at(89.0, task="hopper-expert-v2", profile="lite"),
        *at(1.0, task="pen-human-v0", profile="lite"),
        *at(99.0, task="door-human", profile="lite"),
    ]
    assert overview.beside(found(some)) == (
        "Of 3 cells with a mean and a spread on both sides, 1 lies within 2 combined spreads of "
        "the paper's, 1 lower and 1 higher."
    )
    assert overview.beside(found([])) == ""
    # a smoke test is set beside nothing
    assert overview.beside(found(KINDS[SMOKE_TEST][1])) == ""


def test_the_largest_budget_that_is_there_is_shown_and_named_and_the_others_too():
    profiles = ("toy", "ci", "lite", "paper")
    some = [row for p in profiles for row in at(9.0, task="door-human", profile=p)]
    shown = next(d for d in found(some) if d.name == "door-human-v0")
    assert [c.profile for c in shown.ours] == ["paper"] and "profile paper" in shown.detail
    assert len(shown.others) == 1 and "profile lite" in shown.others[0]
    without = [row for row in some if row["profile"] != "paper"]
    shown = next(d for d in found(without) if d.name == "door-human-v0")
    assert "profile lite" in shown.detail and not shown.others


def test_our_own_datasets_have_nothing_of_the_papers_beside_them():
    job = dict(task="lift-ph-recollected", profile="lite", fidelity="recollected")
    smoke = dict(task="can-ph-recollected", profile="ci", fidelity="recollected")
    own = overview.datasets(tables.table_own(at(50.0, **job) + at(50.0, **smoke)))
    drawn = [d for d in own if d.ours]
    assert [d.name for d in drawn] == ["lift-ph-recollected"] and not drawn[0].paper
    assert overview.own(own) == (
        "Besides, 1 dataset of our own has numbers, beside which the paper has none."
    )
    assert overview.own(found([])) == ""
