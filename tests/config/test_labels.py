"""How methods are written: one record each, in config.labels."""

import csv

from arq_core.config.labels import LABELS, METHODS
from arq_core.config.paths import DATA
from arq_core.experiments import methods
from arq_core.figures.style import COLORS
from arq_core.grid import plan


def test_a_label_belongs_to_a_method_of_ours_or_of_the_paper():
    with open(DATA / "published.csv", newline="", encoding="utf-8") as f:
        published = {row["method"] for row in csv.DictReader(f) if row["table"] == "a4"}
    assert set(METHODS) == published and set(LABELS) <= published | set(methods.METHODS)


def test_every_colour_of_a_label_exists_and_no_two_of_our_methods_share_one():
    colors = [label.color for label in LABELS.values() if label.color]
    assert set(colors) <= set(COLORS) and len(set(colors)) == len(colors)


def test_a_method_that_the_grid_knows_can_be_trained_and_the_other_way_round():
    assert set(plan.METHODS) == set(methods.METHODS)
