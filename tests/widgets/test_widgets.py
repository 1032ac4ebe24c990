"""What widgets promise before any browser: bounds, errors in their own frame, thinning that is
said, and a fragment that needs nothing else.
"""

import base64
import importlib
import json
import pkgutil
import re

import browser
import numpy as np
import pytest
import traitlets

from arq_core import widgets
from arq_core.book.offline import Assets
from arq_core.widgets import base
from arq_core.widgets.support_filter import Case, HeldOut, SupportFilter

PLANE = ("across", "up")


def candidates(n=30, states=4, a=2, seed=0):
    actions = np.random.default_rng(seed).standard_normal((states, n, a))
    return actions, -(actions**2).sum(-1)


def plane(actions, log_prob, **position):
    return SupportFilter(
        [Case("normal", [f"state {i}" for i in range(len(actions))], actions, log_prob)],
        coordinates=PLANE,
        **position,
    )


def saved(widget):
    return json.loads(re.search(r'class="arq-spec">(.*?)</script>', widget.to_html(), re.S)[1])


@pytest.mark.parametrize(
    ("x", "digits", "text"),
    [
        (0.5, 0, "1"),
        (-0.5, 0, "−1"),
        (12.25, 1, "12.3"),
        (1.005, 2, "1.00"),
        (-0.001, 2, "0.00"),
        (float("inf"), 1, "∞"),
        (-2.0, 2, "−2.00"),
    ],
)
def test_digits_are_those_of_javascript(x, digits, text):
    assert base.fixed(x, digits) == text


def test_scripts_read_the_numbers_that_python_counts_with():
    widget = plane(*candidates())
    packed = saved(widget)["spec"]["arrays"]["log_prob"]
    read = np.frombuffer(base64.b64decode(packed["f4"]), "<f4").reshape(packed["shape"])
    assert np.array_equal(read, widget.arrays["log_prob"])


def test_finding_counts_the_candidates_above_epsilon():
    actions, log_prob = candidates()
    widget = plane(actions, log_prob)
    for log_epsilon in np.linspace(-8, 0, 20):
        widget.log_epsilon, widget.state_index = round(float(log_epsilon), 2), 2
        kept = int((log_prob[2].astype(np.float32) >= widget.log_epsilon).sum())
        assert f"keeps {kept} of 30 candidates" in widget.finding()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda a, p: (a * np.nan, p), "240 of 240 values that are not finite"),
        (lambda a, p: (a, np.where(p < -3, -np.inf, p)), "minus infinity"),
        (lambda a, p: (a, p + np.inf), "not finite"),
        (lambda a, p: (a[:, :0], p[:, :0]), "no values"),
        (lambda a, p: (a, p[:, 1:]), "shapes"),
        (lambda a, p: (a[:0], p[:0]), "no values"),
    ],
)
def test_data_that_cannot_be_shown_are_named_in_the_frame(spoil, told):
    widget = plane(*spoil(*candidates()))
    assert told in widget.sentence() and told in widget.to_html()
    assert saved(widget)["spec"]["arrays"] == {}


def test_no_case_at_all_is_said_in_the_frame():
    assert "saw none" in SupportFilter([]).sentence()


def test_epsilon_outside_its_range_is_said_at_the_start_and_refused_later():
    assert "log ε: saw 99" in plane(*candidates(), log_epsilon=99).sentence()
    widget = plane(*candidates())
    for value in (99, float("nan"), float("-inf")):
        with pytest.raises(traitlets.TraitError, match="expected a number from -20 to 5"):
            widget.log_epsilon = value
    with pytest.raises(traitlets.TraitError, match="whole number from 0 to 1"):
        widget.x = 2
    assert widget.log_epsilon == -5 and "keeps" in widget.sentence()


def test_the_tick_of_held_out_actions_stands_on_a_step_that_drops_no_more():
    for line, at in ((-3.1, -3.25), (-3.25, -3.25), (0.2, 0.0)):
        tick = plane(*candidates(), held_out=HeldOut(0.01, line, 1234)).words["tick"]
        assert tick["at"] == at and tick["label"] == "1% held out"
        assert (
            "1% of 1,234 held-out actions" in tick["told"] and base.fixed(line, 2) in tick["told"]
        )
    assert plane(*candidates()).words["tick"] == {}


@pytest.mark.parametrize("line", [-20.1, 5.3, float("-inf"), float("nan")])
def test_a_line_of_held_out_actions_off_the_handle_is_named_in_the_frame(line):
    shown = plane(*candidates(), held_out=HeldOut(0.01, line, 99))
    assert "held_out: saw HeldOut(delta=0.01" in shown.sentence()


def test_thousands_of_points_are_thinned_evenly_and_it_says_so():
    widget = plane(*candidates(n=50_000))
    assert widget.arrays["actions"].shape == (1, 4, base.MAX_POINTS, 2)
    assert (
        "2,000 of 50,000 candidates" in widget.words["note"]
        and f"of {base.MAX_POINTS} candidates" in widget.finding()
    )
    assert widget.arrays["log_prob"][0, 0, -1] == np.float32(candidates(n=50_000)[1][0, -1])


def test_the_fragment_needs_nothing_else_and_holds_the_sentence():
    html = plane(*candidates()).to_html()
    page = Assets()
    page.feed(html)
    assert (
        page.problems == []
        and "import " not in html.split("<script>")[1]
        and "http" not in html.replace(base_svg(), "")
    )
    assert plane(*candidates()).finding() in html


def base_svg():
    return "http://www.w3.org/2000/svg"


def test_names_from_data_cannot_end_the_script():
    actions, log_prob = candidates()
    widget = SupportFilter(
        [Case("</script><b>", [str(i) for i in range(4)], actions, log_prob)], coordinates=PLANE
    )
    assert "</script><b>" not in widget.to_html() and saved(widget)["spec"]["words"]["cases"] == [
        "</script><b>"
    ]


def test_live_and_static_outputs_come_together():
    bundle, _ = plane(*candidates())._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} <= bundle.keys()


def test_script_and_style_weigh_little():
    assert len(SupportFilter.code().encode()) + len((base.HERE / "base.css").read_bytes()) < 30_000


def test_the_browser_tests_know_every_widget():
    modules = [
        importlib.import_module(f"{widgets.__name__}.{m.name}")
        for m in pkgutil.iter_modules(widgets.__path__)
    ]
    public = {
        thing.__module__.rpartition(".")[2]
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, base.Widget)
        and thing is not base.Widget
        and not thing.__name__.startswith("_")
    }
    assert public == {name for name, _, _ in browser.WIDGETS}
