"""Aggregates over runs: closed forms, what is never put together, and agreement with rliable where
it can be imported.

rliable is not needed to use anything: `make peers` fetches it, and `make test` then sets
ARQ_RLIABLE to the folder.
"""

import importlib.util
import os
import sys
import types

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from arq_core.config import settings
from arq_core.config.paths import DATA
from arq_core.results import aggregates, bootstrap
from arq_core.results import rows as results
from arq_core.results.aggregates import AggregateError, groups, interquartile_means, runs, strata
from arq_core.results.bootstrap import improvement, improvement_interval, iqm, iqm_interval

JOB = dict(
    task="hopper-medium-recollected",
    dataset_sha256="0" * 64,
    fidelity="recollected",
    profile="ci",
    method="s_psi",
    variant="released",
    wall_s=1.0,
    device="a processor",
    commit="abc",
    versions={"python": "3.11"},
    created="2026-01-31T12:00:00+00:00",
)


def rows(scores, **changes):
    """Rows of one job with one episode a seed, or as many as `scores` [seeds, episodes] has."""
    scores = np.asarray(scores, float).reshape(len(scores), -1)
    measured = dict(score=scores, length=np.full(scores.shape, 9), success=scores > 50) | {
        "return": scores
    }
    return results.episode_rows(measured, range(len(scores)), None, **JOB | changes)


def some(seed, *sizes):
    """Scores of runs, a task for each size."""
    rng = np.random.default_rng(seed)
    return [rng.normal(rng.uniform(0, 100), 20, n) for n in sizes]


@pytest.fixture(scope="module")
def rliable():
    """(library, metrics) of the reference implementation.

    It needs arch's bootstrap alone; other modules of arch fail with pandas 3, and stay out.
    """
    why = "needs rliable: `make peers` fetches it, `make test` finds it (ARQ_RLIABLE=FOLDER)"
    with pytest.MonkeyPatch.context() as patch:
        if folder := os.environ.get("ARQ_RLIABLE"):
            patch.syspath_prepend(folder)
        if (spec := importlib.util.find_spec("arch")) and "arch" not in sys.modules:
            package = types.ModuleType("arch")
            package.__path__ = spec.submodule_search_locations
            patch.setitem(sys.modules, "arch", package)
        yield (
            pytest.importorskip("rliable.library", reason=why),
            pytest.importorskip("rliable.metrics", reason=why),
        )


def test_iqm_is_the_mean_of_the_middle_half_of_all_runs():
    assert iqm(
        [np.array([-1e9, 2.0, 3.0, 100.0]), np.array([1.0, 4.0, 5.0, 1e9])]
    ) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_a_task_with_more_runs_weighs_no_more():
    assert iqm([np.zeros(3), np.full(2, 8.0)]) == pytest.approx(4.0)
    assert bootstrap.profile([np.zeros(6), np.ones(2)], np.array([0.5])) == pytest.approx(0.5)


def test_improvement_is_mann_whitney_s_u_over_its_largest_value():
    rng = np.random.default_rng(0)
    # full of ties
    x, y = [rng.integers(0, 4, n) for n in (5, 3)], [rng.integers(0, 4, n) for n in (4, 6)]
    expected = np.mean(
        [stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(x, y, strict=True)]
    )
    assert improvement(x, y) == pytest.approx(expected, abs=1e-15) and improvement(
        x, y
    ) + improvement(y, x) == pytest.approx(1)


def test_the_profile_s_area_is_the_mean():
    scores, taus = some(1, 4, 4, 4), np.linspace(0, 200, 40_001)
    scores = [np.abs(s) for s in scores]
    assert bootstrap.profile(scores, taus).sum() * (taus[1] - taus[0]) == pytest.approx(
        np.mean(scores), abs=0.01
    )


def test_the_band_of_one_task_is_the_binomial_s():
    scores = np.arange(20.0)
    low, high = bootstrap.profile_band([scores], np.array([9.5]), reps=20_000)[:, 0]
    assert (low, high) == tuple(stats.binom.ppf([0.025, 0.975], 20, 0.5) / 20)


def test_runs_are_drawn_within_their_task_only():
    apart = [np.full(3, 0.0), np.full(3, 10.0), np.full(3, 20.0)]
    assert iqm_interval(apart) == pytest.approx([10, 10])
    assert bootstrap.profile_band(apart, np.array([5.0]))[:, 0] == pytest.approx([2 / 3, 2 / 3])


def test_the_bootstrap_s_spread_is_the_closed_form():
    """Variance of the mean over T tasks of n runs each: the sum over tasks of (the variance with
    divisor n) / n, over T^2.
    """
    scores = some(2, 40, 40, 40)
    chosen = bootstrap.draws(scores, 20_000, np.random.default_rng(0))
    means = np.mean([s[i].mean(1) for s, i in zip(scores, chosen, strict=True)], axis=0)
    assert means.std() == pytest.approx(np.sqrt(sum(s.var() / 40 for s in scores)) / 3, rel=0.02)
    low, high = bootstrap.interval(means)
    assert (high - low) == pytest.approx(2 * stats.norm.ppf(0.975) * means.std(), rel=0.03)


def test_two_runs_of_one_task_cover_half_of_the_time():
    """Their interval reaches from one to the other, and the truth of symmetric runs lies between
    two of them with probability 1/2.
    """
    assert iqm_interval([np.array([3.0, 7.0])]) == pytest.approx([3, 7])
    assert bootstrap.coverage(2, 1, 400, 100) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 400))


def test_more_seeds_cover_better():
    few, many = bootstrap.coverage(2, 4, 200, 200), bootstrap.coverage(10, 4, 200, 200)
    assert few < 0.85 and many > 0.88


def test_a_seed_fixes_the_intervals():
    x, y = some(3, 5, 5), some(4, 5, 5)
    for interval in (
        lambda seed: iqm_interval(x, seed=seed),
        lambda seed: improvement_interval(x, y, seed=seed),
    ):
        assert np.array_equal(interval(0), interval(0))
    assert not np.array_equal(iqm_interval(x, seed=0), iqm_interval(x, seed=1))


def test_a_run_is_the_mean_over_its_episodes():
    frame = runs(rows([[0, 2], [10, 20]]))
    assert frame["score"].tolist() == [1, 15] and frame["seed"].tolist() == [0, 1]


def test_cells_state_mean_std_and_n_over_seeds():
    cell = aggregates.cells(rows([[0, 2], [10, 20], [4, 6]])).iloc[0]
    assert (cell["mean"], cell["n"], cell["episodes"]) == (7, 3, 2)
    assert cell["std"] == pytest.approx(np.std([1, 15, 5], ddof=results.STD_DDOF))


def test_settings_are_never_put_together():
    for field, other in (("profile", "lite"), ("fidelity", "rebuilt"), ("variant", "paper")):
        apart = rows([1, 2]), rows([50, 60], **{field: other})
        both = interquartile_means([*apart[0], *apart[1]])
        assert sorted(both["value"]) == [1.5, 55] and both[field].nunique() == 2
        with pytest.raises(AggregateError, match=f"2 settings.*{other}|{other}.*2 settings"):
            strata(runs([*apart[0], *apart[1]]), [JOB["task"]], "s_psi")


def test_a_task_that_lacks_a_method_is_named():
    two = (
        rows([1, 2])
        + rows([3, 4], method="arq+pi")
        + rows([5, 6], task="hopper-expert-recollected")
    )
    with pytest.raises(
        AggregateError, match="arq.pi: saw no run on hopper-expert-recollected, expected"
    ):
        strata(runs(two), ["hopper-medium-recollected", "hopper-expert-recollected"], "arq+pi")
    lines = interquartile_means(two).set_index("method")
    assert lines.loc["s_psi", "value"] == 3.5 and lines.loc["s_psi", "note"] == ""
    assert (
        np.isnan(lines.loc["arq+pi", "value"])
        and lines.loc["arq+pi", "note"] == "not run on hopper-expert-recollected"
    )
    line = aggregates.improvements(two, "s_psi").iloc[0]
    assert (line["value"], line["tasks"], line["note"]) == (
        1.0,
        1,
        "without hopper-expert-recollected",
    )


def test_one_seed_has_a_value_and_no_interval():
    line = interquartile_means(rows([[4, 6]])).iloc[0]
    assert (
        line["value"] == 5
        and np.isnan([line["low"], line["high"]]).all()
        and line["note"] == "one seed: no interval"
    )
    line = aggregates.improvements(rows([[4, 6]]) + rows([7, 8], method="bc"), "bc").iloc[0]
    assert line["value"] == 0 and np.isnan(line["low"]) and line["note"] == "one seed: no interval"
    assert np.isnan(bootstrap.profile_band([np.array([1.0])], np.array([0.0]))).all()


def test_no_rows_make_no_lines():
    assert (
        len(interquartile_means([]))
        == len(aggregates.improvements([], "bc"))
        == len(aggregates.cells([]))
        == 0
    )


def test_groups_are_the_tables_and_small_worlds_are_in_no_total():
    of = groups(["maze", "hopper-expert-recollected", "lift-ph-recollected", "a-file-of-my-own"])
    assert of == {
        "recollected-locomotion": ["hopper-expert-recollected"],
        "recollected-robomimic": ["lift-ph-recollected"],
        "ours": ["maze"],
        "overall": ["hopper-expert-recollected", "lift-ph-recollected"],
    }
    assert groups(["maze", "door-human"]).keys() == {"d4rl-adroit", "ours"}
    suites = set(pd.read_csv(DATA / "tasks.csv")["suite"])
    assert suites <= set(aggregates.LABELS)


def test_the_inventory_counts_what_is_not_run():
    table = aggregates.inventory(
        rows([1, 2]) + rows([1, 2], task="door-human", fidelity="rebuilt", profile="lite")
    ).set_index("group")
    assert table.columns.tolist() == [
        "datasets",
        "ci, released, recollected data",
        "lite, released, rebuilt data",
    ]
    assert table.loc["D4RL Adroit"].tolist() == [8, 0, 1] and table["datasets"].sum() == len(
        pd.read_csv(DATA / "tasks.csv")
    )
    assert aggregates.inventory([]).columns.tolist() == ["group", "datasets"]


def test_each_group_is_shown_at_its_largest_budget_alone_and_overall_is_not():
    puzzle = dict(task="maze", method="bc")
    every = (
        rows([1, 2], profile="lite")
        + rows([3, 4], profile="fast")
        + rows([5, 6], profile="lite", task="door-human", fidelity="rebuilt")
        + rows([0, 1], profile="full", **puzzle)
        + rows([0, 1], profile="full", variant="paper", **puzzle)
    )
    shown = aggregates.largest_budgets(interquartile_means(every))
    assert list(zip(shown["group"], shown["profile"], shown["variant"], strict=True)) == [
        ("d4rl-adroit", "lite", "released"),
        ("recollected-locomotion", "fast", "released"),
        ("ours", "full", "released"),
    ]
    assert shown["value"].tolist() == [5.5, 3.5, 0.5]
    assert aggregates.largest_budgets(interquartile_means([])).empty


def test_smoke_tests_tell_nothing():
    smoke, short = rows([1, 2]), rows([1, 2], profile="fast")
    assert aggregates.telling(smoke + short) == short and aggregates.telling([]) == []
    # the maze's budget at ci is no smoke test, where all its seeds were run
    seeds = settings.budget("ci", "maze").seeds
    maze = rows(range(seeds), task="maze")
    assert aggregates.telling(maze) == maze and aggregates.telling(maze[1:]) == []


def test_profiles_fall_from_all_runs_to_none_for_methods_with_all_tasks():
    lines = aggregates.profiles(
        rows([1, 2])
        + rows([3, 4], method="arq+pi")
        + rows([5, 6], task="hopper-expert-recollected")
    )
    assert set(lines["method"]) == {"s_psi"} and set(lines["group"]) == {"recollected-locomotion"}
    assert (
        lines["value"].iloc[0] == 1
        and lines["value"].iloc[-1] == 0
        and (lines["value"].diff().dropna() <= 0).all()
    )
    assert (lines["low"] <= lines["value"]).all() and (lines["value"] <= lines["high"]).all()
    assert set(aggregates.profiles(rows([3, 3]))["value"]) == {0, 1}


def test_a_task_without_a_score_has_no_line():
    assert len(runs([row | {"score": None} for row in rows([1, 2])])) == 0


def monte_carlo_error(interval, *scores, reps):
    """Standard deviation of an interval's ends from one set of draws to another."""
    return np.std([interval(*scores, reps=reps, seed=seed) for seed in range(30)], axis=0)


def test_rliable_has_the_same_interquartile_mean_and_interval(rliable):
    library, metrics = rliable
    # its order: [runs, tasks]
    scores, reps = np.stack(some(5, 5, 5, 5, 5), axis=1), 2_000
    ours = list(scores.T)
    assert iqm(ours) == metrics.aggregate_iqm(scores)
    # its bootstrap draws from the global state
    np.random.seed(0)
    _, theirs = library.get_interval_estimates(
        {"x": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=reps
    )
    assert (
        np.abs(iqm_interval(ours) - theirs["x"][:, 0])
        < 4 * monte_carlo_error(iqm_interval, ours, reps=reps)
    ).all()


def test_rliable_has_the_same_probability_of_improvement_and_interval(rliable):
    library, metrics = rliable
    # rounded, so that there are ties
    x, y = (np.stack(some(seed, 5, 5, 5, 5), axis=1).round(-1) for seed in (6, 7))
    assert any((bootstrap.wins(a, b) == 0.5).any() for a, b in zip(x.T, y.T, strict=True))
    ours, reps = (list(x.T), list(y.T)), 400
    assert improvement(*ours) == pytest.approx(metrics.probability_of_improvement(x, y), abs=1e-15)
    np.random.seed(0)
    _, theirs = library.get_interval_estimates(
        {"x,y": (x, y)},
        lambda a, b: np.array([metrics.probability_of_improvement(a, b)]),
        reps=reps,
    )
    assert (
        np.abs(improvement_interval(*ours) - theirs["x,y"][:, 0])
        < 4 * monte_carlo_error(improvement_interval, *ours, reps=reps)
    ).all()


def test_rliable_has_the_same_performance_profile_and_band(rliable):
    library, _ = rliable
    scores, taus = np.stack(some(8, 5, 5, 5), axis=1), np.linspace(-50, 150, 21)
    np.random.seed(0)
    theirs, bands = library.create_performance_profile({"x": scores}, taus, reps=2_000)
    assert np.abs(bootstrap.profile(list(scores.T), taus) - theirs["x"]).max() < 1e-15
    # ends move by whole runs: at most by one of 15
    assert np.abs(bootstrap.profile_band(list(scores.T), taus) - bands["x"]).max() < 1.01 / 15
