"""Figures of aggregates: every method of every group is there, what has no value says so, and a
table has the same numbers.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from arq_core.figures import statistics as f


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def line(group, method, value=np.nan, low=np.nan, high=np.nan, tasks=2, missing=0, note=""):
    return dict(
        profile="fast",
        fidelity="rebuilt" if group == "d4rl-adroit" else "recollected",
        group=group,
        method=method,
        value=value,
        low=low,
        high=high,
        tasks=tasks,
        missing=missing,
        note=note,
    )


LINES = pd.DataFrame(
    [
        line("d4rl-adroit", "s_psi", 8.5, 8.2, 8.8),
        line("d4rl-adroit", "arq+s_psi", -0.01, -1.25, 0.04, 1, 1, "without door-human"),
        line("d4rl-kitchen", "awac", tasks=1, missing=2, note="not run on a, b"),
        line("overall", "s_psi", missing=3, note="not run on c"),
    ]
)
WINS = pd.DataFrame([line("d4rl-adroit", "arq+s_psi", 1 / 9, 0, 1 / 3, tasks=1, missing=1)])


def words(ax):
    return [t.get_text() for t in ax.texts]


def test_a_group_is_a_panel_and_a_method_a_line_in_order():
    figure = f.glance_figure(LINES, WINS, "s_psi")
    assert [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes] == [
        "D4RL Adroit (profile fast, rebuilt data)",
        "D4RL kitchen (profile fast)",
        "All groups (profile fast)",
    ]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        f.label("s_psi"),
        f.label("arq+s_psi"),
    ]
    low, high = figure.axes[0].lines[0].get_xdata()
    assert (low, high) == (8.2, 8.8) and figure.axes[0].lines[1].get_xdata()[0] == 8.5
    assert figure.axes[0].yaxis_inverted()


def test_words_stand_where_a_value_is_not_and_say_how_often_a_clone_is_beaten():
    axes = f.glance_figure(LINES, WINS, "s_psi").axes
    assert words(axes[0]) == ["11%", f"beats {f.label('s_psi')}"]
    assert words(axes[1]) == ["not run on 2 of 3"] and len(axes[1].lines) == 0
    height = {t.get_text(): t.get_position()[1] for t in axes[0].texts}
    assert height["11%"] == 1  # beside the second method


def test_what_was_won_at_another_budget_is_not_set_beside_a_mean():
    axes = f.glance_figure(LINES, WINS.assign(profile="lite"), "s_psi").axes
    assert words(axes[0]) == [f"beats {f.label('s_psi')}"]


def test_the_table_has_the_figure_s_numbers_and_no_minus_zero():
    table = f.numbers(LINES, 1)
    assert table["value"].tolist() == ["8.5 (8.2 to 8.8)", "0.0 (−1.2 to 0.0)", "–", "–"]
    assert table["method"].tolist() == ["s_ψ", "ARQ + s_ψ", "AWAC", "s_ψ"]
    assert table["datasets"].tolist() == ["2", "1 of 2", "1 of 3", "2 of 5"]


def test_remarks_name_what_is_left_out_once():
    assert (
        f.remarks(LINES) == "- D4RL Adroit, ARQ + s_ψ: without door-human.\n- D4RL kitchen, AWAC: "
        "not run on a, b."
    )
    assert f.remarks(LINES[:1]) == ""


def test_profiles_have_one_curve_a_method_and_one_legend():
    tau = np.linspace(0, 1, 5)
    curves = pd.concat(
        [
            pd.DataFrame(dict(group=g, method=m, tau=tau, value=1 - tau, low=1 - tau, high=1 - tau))
            for g, m in (("d4rl-adroit", "s_psi"), ("d4rl-adroit", "bc"), ("overall", "s_psi"))
        ]
    )
    figure = f.profile_figure(curves)
    assert [len(ax.lines) for ax in figure.axes] == [2, 1] and np.array_equal(
        figure.axes[0].lines[0].get_ydata(), 1 - tau
    )
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        f.label("s_psi"),
        f.label("bc"),
    ]


def test_coverage_is_drawn_beside_what_is_claimed():
    _, ax = plt.subplots()
    f.draw_coverage(ax, pd.DataFrame({1: {2: 0.5, 3: 0.75}, 4: {2: 0.7, 3: 0.9}}), 0.95)
    assert ax.lines[0].get_ydata().tolist() == [0.5, 0.75] and ax.lines[-1].get_ydata()[0] == 0.95


def test_grey_methods_differ_in_their_dashes():
    styles = f.dashes(["s_psi", "dt", "awac", "td3+bc", "bcq", "cql", "iql", "one_step", "ibc"])
    assert styles["s_psi"] == "-" and len(set(styles.values())) == 9
