"""The widget of the first screen chooses what the library chooses, and its example is what it says:
a density, a value that is right where there are recordings, and a false peak where there are none.
"""

import browser
import numpy as np
import pytest
import torch

from arq_core.algorithm.policies import implicit_probabilities
from arq_core.algorithm.types import in_support
from arq_core.widgets.base import fixed
from arq_core.widgets.hero import OPENING, PAPER, Hero

LINES = np.arange(-14, 2.25, 0.25).tolist()


@pytest.fixture(scope="module")
def hero():
    return Hero()


def of(widget, name):
    return widget.arrays[name].astype(float)


def inside(widget, line):
    return in_support(torch.from_numpy(widget.arrays["log_prob"]), line)


def test_its_choice_is_that_of_eq_4_and_a_greedy_eq_6(hero):
    chosen = set()
    for line in LINES:
        mask, choice = inside(hero, line), hero.choice(line)
        assert (choice is None) is not mask.any().item()
        if choice:
            p = implicit_probabilities(torch.from_numpy(hero.arrays["q"]), mask, float("inf"))
            at = int(p.argmax())
            assert p[at] == 1
            assert (choice.action, choice.believed, choice.true) == tuple(
                hero.arrays[name][at] for name in ("actions", "q", "truth")
            )
            chosen.add(choice.place()[:4])
    assert chosen == {"stra", "left", "righ"}


def test_the_example_is_a_density_with_two_habits(hero):
    density, actions = np.exp(of(hero, "log_prob")), of(hero, "actions")
    assert np.trapezoid(density, actions) == pytest.approx(1, abs=1e-3)
    tops = (density[1:-1] > density[:-2]) & (density[1:-1] > density[2:])
    assert tops.sum() == 2


def test_q_is_right_where_there_are_recordings_and_has_its_peak_where_there_are_none(hero):
    error, density = of(hero, "q") - of(hero, "truth"), np.exp(of(hero, "log_prob"))
    weight = density / density.sum()
    assert error.min() >= 0 and (weight * error).sum() < 0.001
    at = of(hero, "q").argmax()
    assert error[at] > 1 and weight[at] * len(weight) < 1e-3


def test_it_opens_where_the_false_peak_is_chosen_and_the_papers_line_takes_it_away(hero):
    opened, paper = hero.choice(OPENING), hero.choice(PAPER)
    assert hero.log_epsilon == OPENING and opened == hero.choice()
    assert opened.believed > 1 > 0 > opened.true
    best = of(hero, "truth").argmax()
    assert paper.action == hero.arrays["actions"][best]
    assert paper.believed == pytest.approx(paper.true, abs=0.01)


def test_the_sentence_says_both_choices_and_what_is_kept():
    hero = Hero(log_epsilon=PAPER)
    kept = inside(hero, PAPER).numpy()
    density = np.exp(of(hero, "log_prob"))
    for share in (kept.mean(), density[kept].sum() / density.sum()):
        assert f"{fixed(100 * share, 1)}%" in hero.finding()
    for choice in (hero.choice(), hero.choice(PAPER)):
        told = f"believes in {fixed(choice.believed, 2)} and gets {fixed(choice.true, 2)}"
        assert f"({fixed(choice.action, 2)}), {told}" in hero.finding()


def test_a_line_above_every_action_leaves_nothing_and_says_so():
    hero = Hero(log_epsilon=2.0)
    assert not inside(hero, 2.0).any() and hero.choice(2.0) is None
    assert "nothing is left to choose from" in hero.finding()
    assert "believes" not in hero.finding() and "gets" not in hero.finding()


def test_without_scripts_the_papers_line_is_drawn_and_said(hero):
    drawn = hero.picture()
    assert drawn.startswith("<noscript>") and hero.said(PAPER) in drawn
    assert "NaN" not in drawn and "nan" not in drawn
    assert hero.finding() in hero.to_html() and drawn in hero.to_html()


PICKED = """() => {
  const count = (kind) => document.querySelectorAll(kind).length;
  const bars = [...document.querySelectorAll(".arq-plots svg:last-of-type")].at(-1);
  return [count("path.arq-dots.arq-truth"), count("path.arq-hollow"),
          bars.querySelectorAll("path.arq-dots").length];
}"""


@pytest.mark.parametrize("line, drawn", [(OPENING, [2, 0, 2]), (PAPER, [2, 1, 2]), (2, [0, 1, 0])])
def test_what_is_drawn_is_what_is_left(chromium, line, drawn):
    """Dots and bars of the choice; a ring for the free choice where it is another."""
    with chromium.new_context() as context:
        page = context.new_page()
        page.set_content("<!doctype html>" + Hero(log_epsilon=float(line)).to_html())
        assert page.evaluate(PICKED) == drawn


def test_beside_the_styles_of_tables_a_slider_stands_on_the_line_of_its_name(chromium):
    styles = (browser.ROOT / "book/_static/tables.css").read_text(encoding="utf-8")
    with chromium.new_context() as context:
        page = context.new_page()
        page.set_content(f"<!doctype html><style>{styles}</style>{Hero().to_html()}")
        name, slider, number = (
            page.locator(f".arq-control {part}").bounding_box()
            for part in ("label", "input", "output")
        )
        page.close()
    for part in (name, number):
        assert slider["y"] < part["y"] + part["height"] / 2 < slider["y"] + slider["height"]


def test_a_finger_moves_the_line(chromium):
    with chromium.new_context(has_touch=True, viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.set_content("<!doctype html>" + Hero().to_html())
        plot = page.locator("svg.arq-pick")
        plot.scroll_into_view_if_needed()
        box, finger = plot.bounding_box(), context.new_cdp_session(page)
        x, low = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.6
        touch = lambda kind, *points: finger.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": x, "y": y} for y in points]},
        )
        touch("touchStart", low)
        for up in (15, 30, 45):
            touch("touchMove", low - up)
        touch("touchEnd")
        page.evaluate(browser.DRAWN)
        stands = float(page.locator("[name=log_epsilon]").input_value())
        page.close()
    assert OPENING + 2 < stands
