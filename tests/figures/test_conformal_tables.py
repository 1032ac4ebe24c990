"""Tables of the conformal line say what the file holds, and the file holds what it promises."""

import pytest
from scipy.stats import beta

from arq_core.densities.conformal import law_of_dropped
from arq_core.figures import conformal
from arq_core.results.measured import measured

RULE = dict(A=3, density="exact", dropped=dict(mean=0.02, error=0.001, least=0.0, most=0.031))
MADE = dict(
    dropped=[
        RULE | dict(rule="conformal", delta=0.01),
        RULE | dict(rule="conformal", delta=0.05),
        RULE | dict(rule="conformal", delta=0.01, density="one probe", A=4),
        RULE | dict(rule="fixed"),
    ],
    tasks=dict(
        bridge=dict(
            splits=[
                dict(
                    delta=0.01,
                    beta=dict(mean=0.0099, std=0.002),
                    episodes=dict(mean=0.01, std=0.004),
                    actions=dict(mean=0.0101, std=0.002),
                )
            ],
            lines={
                "delta 0.01": dict(
                    log_epsilon=dict(mean=-3.456),
                    dropped_of_learned=dict(mean=0.008),
                    candidates_kept=dict(mean=0.95),
                    score=dict(mean=0.9),
                    success=1.0,
                ),
                "none": dict(
                    log_epsilon=None,
                    dropped_of_learned=dict(mean=0.0),
                    candidates_kept=dict(mean=1.0),
                    score=dict(mean=-0.5),
                    success=0.25,
                ),
            },
        )
    ),
)


def test_a_cell_is_the_mean_with_the_least_and_the_largest_seed():
    table = conformal.dropped_table(MADE, 0.01)
    assert table.loc[3, "held-out actions"] == "2.0% (0.0 to 3.1)" == table.loc[3, "e⁻⁵"]
    assert table.loc[4, "held-out actions, one probe"] and table.loc[4, "held-out actions"] == ""
    assert conformal.farthest(MADE, "conformal", 0.05) == pytest.approx(0.03)


def test_splits_and_returns_are_rows_of_their_task():
    (row,) = conformal.splits_table(MADE).to_dict("records")
    assert row == {
        "episodes apart": "1.00% ± 0.40%",
        "actions apart": "1.01% ± 0.20%",
        "Beta law": "0.99% ± 0.20%",
    }
    returns = conformal.returns_table(MADE)
    line = returns.loc[("bridge", "δ = 1.0%")].to_dict()
    assert list(line.values()) == ["-3.46", "0.8%", "5.0%", "0.90", "100%"]
    assert returns.loc[("bridge", "none"), "log ε"] == ""


def test_what_was_measured_keeps_the_promise_on_average():
    found = measured("conformal")
    n = found["size"]["held"]
    assert {line["A"] for line in found["dropped"]} == set(found["size"]["actions"])
    for line in found["dropped"]:
        if line["rule"] == "conformal":
            law = beta(*law_of_dropped(n, line["delta"]))
            spread = law.var() + line["delta"] / found["size"]["fresh"]
            error = (spread / found["size"]["seeds"]) ** 0.5
            assert abs(line["dropped"]["mean"] - law.mean()) < 4 * error, line
