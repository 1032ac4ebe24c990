"""Estimates against truths: marks lie where the numbers are, and a choice costs what it costs."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import spearmanr

from arq_core.figures import choosing
from arq_core.results.calibration import half_width
from arq_core.results.measured import measured


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def line(estimate, returned, epsilon=-5.0, weighted=1.0):
    heads = [[estimate - 0.1, estimate + 0.1], [estimate - 0.3, estimate + 0.3]]
    return dict(
        method="arq+s_psi",
        changes=dict(log_epsilon=epsilon),
        fqe=heads,
        fqe_at_starts=heads,
        own=[estimate, estimate],
        weighted=[weighted, weighted],
        discounted=[returned / 2, returned / 2],
        **{"return": [returned - 1, returned + 1]},
    )


LINES = {
    "ARQ, one": line(2.0, 5.0, weighted=math.nan),
    "ARQ, two": line(3.0, 4.0, epsilon="off", weighted=0.0),
    "ARQ, three": line(1.0, 9.0, weighted=0.5),
}


def test_a_mark_is_the_estimate_over_the_truth_and_is_open_without_a_filter():
    _, ax = plt.subplots()
    shown = choosing.draw_estimates(ax, dict(lines=LINES))
    marks = [bars.lines[0] for bars in ax.containers]
    places = [(m.get_xdata()[0], m.get_ydata()[0]) for m in marks]
    np.testing.assert_allclose(places, [(2.5, 2.0), (2.0, 3.0), (4.5, 1.0)])
    assert [m.get_markerfacecolor() == "none" for m in marks] == [False, True, False]
    ends = ax.containers[0].lines[2][0].get_segments()[0]
    half = half_width(np.array([1.8, 2.2]))  # the heads' means over seeds
    assert ends[:, 1].tolist() == pytest.approx([2.0 - half, 2.0 + half])
    assert len(shown) == 2 and [name.endswith("no filter") for name in shown] == [False, True]


def test_what_is_chosen_is_the_highest_estimate_and_costs_what_the_best_returns_more():
    found = choosing.chosen(dict(lines=LINES))
    assert (found["first"], found["best"]) == ("ARQ, two", "ARQ, three")
    assert (found["returned"], found["most"], found["regret"], found["range"]) == (4, 9, 5, 5)
    assert found["by_chance"] == 3
    by_weight = choosing.chosen(dict(lines=LINES), "weighted")
    assert by_weight["first"] == "ARQ, three" and by_weight["regret"] == 0  # one of no weight: last


def test_the_table_of_choices_has_a_row_a_task():
    table = choosing.choices(dict(tasks=dict(there=dict(lines=LINES))))
    assert table.loc["there", ["chosen", "best", "regret", "chance's"]].tolist() == [
        "two: 4.00",
        "three: 9.00",
        "5.00",
        "3.00",
    ]


def test_two_tasks_of_one_family_have_rows_of_their_own():
    one = dict(lines=LINES, calibration=FOUND["tasks"]["maze"]["calibration"])
    family = ["hopper-medium-recollected", "hopper-expert-recollected", "hopper-medium-v2"]
    found = dict(tasks=dict.fromkeys(family, one))
    for table in (choosing.errors(found), choosing.choices(found)):
        assert list(table.index) == family
    assert list(choosing.table(found).index.get_level_values("task").unique()) == family


FOUND = measured("choosing_blind")


@pytest.mark.parametrize("name", FOUND["tasks"])
def test_the_measured_calibration_is_that_of_its_own_lines(name):
    task = FOUND["tasks"][name]
    lines = list(task["lines"].values())
    assert len(lines) >= 12
    estimates = [np.mean(x["fqe"]) for x in lines]
    returns = np.array([np.mean(x["return"]) for x in lines])
    c = task["calibration"]["fqe"]
    assert c["rank_correlation"] == pytest.approx(spearmanr(estimates, returns).statistic)
    assert c["regret_at_1"] == pytest.approx(returns.max() - returns[np.argmax(estimates)])
    best3 = returns[np.argsort(estimates)[-3:]].max()
    assert c["regret_at_3"] == pytest.approx(returns.max() - best3)
    begun = task["calibration"]["fqe_at_starts"]
    errors = [np.mean(x["fqe_at_starts"]) - np.mean(x["discounted"]) for x in lines]
    assert begun["mean_error"] == pytest.approx(np.mean(errors))


def test_the_tables_of_the_page_have_every_task_and_estimate():
    assert len(choosing.table(FOUND)) == len(choosing.ESTIMATORS) * len(FOUND["tasks"])
    assert len(choosing.errors(FOUND)) == len(choosing.choices(FOUND)) == len(FOUND["tasks"])
