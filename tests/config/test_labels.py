"""How methods are written: one record each, in config.labels."""

import csv

from arq_core.config.hyper import NEIGHBOURS
from arq_core.config.labels import LABELS, METHODS, OURS, PUBLISHED, TODAY, YOURS, columns
from arq_core.config.paths import DATA
from arq_core.experiments import methods
from arq_core.figures.style import COLORS
from arq_core.grid import plan


def test_a_label_belongs_to_a_method_of_ours_or_of_the_paper():
    with open(DATA / "published.csv", newline="", encoding="utf-8") as f:
        published = {row["method"] for row in csv.DictReader(f) if row["table"] == "a4"}
    ours = {*methods.METHODS, *NEIGHBOURS}
    assert set(PUBLISHED) == published and set(LABELS) <= published | ours


def test_a_column_that_the_paper_has_not_says_so_in_its_head():
    assert set(METHODS) - set(PUBLISHED) == {"bc-mse", "bc-gmm", "ibc-small", "idql", "rebrac"}
    for method in set(METHODS) - set(PUBLISHED):
        assert LABELS[method].apart in (OURS, TODAY) and LABELS[method].apart in METHODS[method]
    assert METHODS["ibc"] != METHODS["ibc-small"]
    assert set(NEIGHBOURS) <= set(METHODS)


def test_what_has_no_label_is_a_users_own_and_gets_a_column_and_no_row_of_table_1_does():
    shown = columns(["mine", "dqp brac-kl", "random", "bc"])
    assert list(shown) == [*METHODS, "mine"] and YOURS in shown["mine"]
    assert {f"dqp {row}" for row in methods.ROWS} == {m for m in LABELS if m.startswith("dqp ")}


def test_every_colour_of_a_label_exists_and_no_two_of_our_methods_share_one():
    colors = [label.color for label in LABELS.values() if label.color]
    assert set(colors) <= set(COLORS) and len(set(colors)) == len(colors)


def test_a_method_that_the_grid_knows_can_be_trained_and_the_other_way_round():
    assert set(plan.METHODS) == set(methods.METHODS)
