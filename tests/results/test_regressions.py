"""The check that a method which clearly beat the clone still does: its tests are textbook ones,
noise does not fail it, losses do.
"""

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from arq_core.__main__ import arq
from arq_core.results import regressions
from arq_core.results import rows as results
from arq_core.results.regressions import (
    ALARM,
    KEPT,
    LEVEL,
    LOST,
    MISSING,
    UNDECIDED,
    UNWATCHED,
    compare,
    failures,
    judge,
)
from arq_core.results.significance import Mean, contrast, holm, mean_over_seeds

JOB = dict(
    dataset_sha256="0" * 64,
    fidelity="recollected",
    profile="ci",
    variant="released",
    wall_s=1.0,
    device="a processor",
    commit="abc",
    versions={"python": "3.11"},
    created="2026-01-31T12:00:00+00:00",
)


def cell(rng, level, seeds, spread=3.0, within=20.0, episodes=100):
    """Episodes' scores of one cell: seeds are normal around `level`, episodes around their seed."""
    return list(
        level
        + spread * rng.standard_normal((seeds, 1))
        + within * rng.standard_normal((seeds, episodes))
    )


def world(rng, seeds, levels, **spread):
    """Cells of judge; levels {task: {method: level}}."""
    return {
        (task, "recollected", "released", method): cell(rng, level, seeds, **spread)
        for task, of in levels.items()
        for method, level in of.items()
    }


def write(folder, cells, profile="ci"):
    """The cells as files of rows."""
    for (task, fidelity, variant, method), scores in cells.items():
        scores = np.stack(scores)
        measured = dict(score=scores, length=np.full(scores.shape, 9), success=scores > 50) | {
            "return": scores
        }
        job = JOB | dict(
            task=task, fidelity=fidelity, variant=variant, method=method, profile=profile
        )
        rows = results.episode_rows(measured, range(len(scores)), None, **job)
        results.write_rows(folder / results.file_name(task, profile, method, variant), rows)
    return str(folder)


FOUR = {f"task-{i}": {"bc": 20, "s_psi": 20, "arq+pi": 30, "arq+s_psi": 70} for i in range(4)}


def test_the_contrast_of_two_is_welch_s_t_test():
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 1, 5), rng.normal(0, 4, 3)
    ours = contrast([mean_over_seeds(x[:, None])], [mean_over_seeds(y[:, None])])
    theirs = stats.ttest_ind(x, y, equal_var=False, alternative="greater")
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12) and ours.freedom == pytest.approx(
        theirs.df
    )
    assert ours.value == pytest.approx(x.mean() - y.mean())


def test_two_seeds_that_agree_by_luck_are_as_uncertain_as_their_episodes():
    scores = np.array([[0.0, 100.0, 0.0, 100.0]] * 2)
    assert mean_over_seeds(scores) == Mean(50, scores[0].var(ddof=1) / 4 / 2, 1)


def test_numbers_without_any_spread_are_told_apart_if_they_differ():
    ten, zero = (mean_over_seeds(np.full((2, 5), v)) for v in (10.0, 0.0))
    assert (contrast([ten], [zero]).p, contrast([zero], [zero]).p, contrast([zero], [ten]).p) == (
        0,
        1,
        1,
    )
    assert np.isnan(contrast([mean_over_seeds([np.arange(3.0)])], [zero]).p)


def test_holm_s_correction():
    assert holm([0.01, np.nan, 0.04, 0.03]) == pytest.approx(
        [0.03, np.nan, 0.06, 0.06], nan_ok=True
    )
    assert holm([0.5, 0.9]) == pytest.approx([1, 1]) and len(holm([])) == 0


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.standard_normal(n),
        lambda rng, n: rng.exponential(size=n),
        lambda rng, n: rng.standard_t(3, n),
    ],
    ids=["normal", "skewed", "heavy tails"],
)
@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("spread", [1.0, 0.1])
def test_a_drop_is_seen_in_nothing_at_most_as_often_as_the_level_says(draw, seeds, spread):
    """Advantage stored minus advantage new, 1,500 times, where nothing changed; the clone's seeds
    are as wide as the method's or much narrower.
    """
    rng, n = np.random.default_rng(0), 1_500
    # method, clone; new clone, new method
    sides = [scale * draw(rng, (n, seeds)) for scale in (1.0, spread, spread, 1.0)]
    mean = lambda x: Mean(x.mean(), x.var(ddof=1) / seeds, seeds - 1)
    p = [
        contrast([mean(m), mean(c2)], [mean(c), mean(m2)]).p
        for m, c, c2, m2 in zip(*sides, strict=True)
    ]
    for level in (0.05, ALARM):
        assert np.mean(np.array(p) < level) <= level + 3 * np.sqrt(level / n)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_noise_alone_fails_the_check_no_more_often_than_stated(seeds):
    """40 pairs of runs of unchanged code.

    A check without the test of the drop would fail some of them.
    """
    rng, n = np.random.default_rng(seeds), 40
    # from no advantage to a sure one
    levels = {f"task-{i}": {"bc": 20, "a": 20 + 8 * i, "b": 20 + 16 * i} for i in range(4)}
    found = [judge(world(rng, seeds, levels), world(rng, seeds, levels), "bc") for _ in range(n)]
    assert sum(bool(failures(f)) for f in found) <= stats.binom.ppf(0.999, n, ALARM)
    assert any(x.verdict == UNDECIDED for f in found for x in f) and any(
        x.verdict == KEPT for f in found for x in f
    )


def test_seeds_that_work_or_fail_break_the_promise_as_stated():
    rng, n = np.random.default_rng(0), 800
    works = lambda: [np.full(10, 100.0 * x) + rng.normal(0, 1, 10) for x in rng.integers(0, 2, 2)]
    pair = lambda: {
        ("t", "own", "released", "m"): works(),
        ("t", "own", "released", "bc"): cell(rng, 0, 2, spread=0.3, within=1, episodes=10),
    }
    rate = np.mean([bool(failures(judge(pair(), pair(), "bc"))) for _ in range(n)])
    assert rate == pytest.approx(1 / 16, abs=4 * np.sqrt(1 / 16 / n)) and rate > ALARM


def test_what_is_watched_depends_on_the_seeds_as_stated():
    for seeds, times in ((2, 11), (3, 4), (5, 2.2)):
        assert stats.t.isf(LEVEL / 12, 2 * (seeds - 1)) * np.sqrt(2 / seeds) == pytest.approx(
            times, rel=0.02
        )


def test_a_loss_is_found_and_only_there():
    rng = np.random.default_rng(1)
    changed = FOUR | {"task-2": FOUR["task-2"] | {"arq+s_psi": 20}}
    found = judge(world(rng, 5, FOUR), world(rng, 5, changed), "bc")
    assert [(f.task, f.method) for f in failures(found)] == [("task-2", "arq+s_psi")]
    lost = failures(found)[0]
    assert lost.verdict == LOST and lost.stored_p < LEVEL <= lost.new_p and lost.drop_p < ALARM
    assert lost.stored - lost.new > lost.noticeable > 0
    assert {f.verdict for f in found if f.method == "s_psi"} == {UNWATCHED}


def test_a_clone_that_caught_up_is_a_loss_too():
    rng = np.random.default_rng(2)
    changed = FOUR | {"task-0": FOUR["task-0"] | {"bc": 70}}
    assert {f.task for f in failures(judge(world(rng, 5, FOUR), world(rng, 5, changed), "bc"))} == {
        "task-0"
    }


def test_a_method_trained_alone_is_held_against_the_stored_clone():
    rng = np.random.default_rng(9)
    stored, again = (
        world(rng, 5, FOUR),
        world(rng, 5, FOUR | {"task-1": FOUR["task-1"] | {"arq+s_psi": 20}}),
    )
    alone = {name: scores for name, scores in again.items() if name[3] == "arq+s_psi"}
    found = {f.task: f for f in judge(stored, alone, "bc") if f.method == "arq+s_psi"}
    assert {task: f.verdict for task, f in found.items()} == {
        "task-0": KEPT,
        "task-1": LOST,
        "task-2": KEPT,
        "task-3": KEPT,
    }
    name = ("task-0", "recollected", "released", "arq+s_psi")
    assert found["task-0"].stored - found["task-0"].new == pytest.approx(
        np.mean(stored[name]) - np.mean(alone[name])
    )
    assert {f.verdict for f in judge(stored, again, "bc")} >= {KEPT, LOST}


def test_the_same_rows_again_keep_everything_that_is_watched():
    cells = world(np.random.default_rng(3), 3, FOUR)
    found = judge(cells, cells, "bc")
    assert {f.verdict for f in found} == {KEPT, UNWATCHED} and all(f.drop_p == 1 for f in found)


def test_no_new_rows_of_a_watched_cell_fail_unless_a_part_was_asked_for():
    cells = world(np.random.default_rng(4), 5, FOUR)
    part = {name: scores for name, scores in cells.items() if name[0] != "task-1"}
    found = judge(cells, part, "bc")
    assert {f.task for f in failures(found)} == {"task-1"} and all(
        f.verdict == MISSING and "no new rows" in f.note for f in failures(found)
    )
    assert failures(found, partial=True) == []


def test_one_seed_is_never_watched_and_never_enough():
    cells = world(np.random.default_rng(5), 5, FOUR)
    single = {name: scores[:1] for name, scores in cells.items()}
    assert {f.verdict for f in judge(single, cells, "bc")} == {UNWATCHED}
    assert all("one seed" in f.note for f in failures(judge(cells, single, "bc"))) and failures(
        judge(cells, single, "bc")
    )


def ran(*arguments):
    return CliRunner().invoke(arq, ["compare", *map(str, arguments)])


def test_the_command_passes_fails_and_says_why(tmp_path):
    rng = np.random.default_rng(6)
    stored = write(tmp_path / "stored", world(rng, 5, FOUR))
    same = write(tmp_path / "same", world(rng, 5, FOUR))
    worse = write(
        tmp_path / "worse", world(rng, 5, FOUR | {"task-3": FOUR["task-3"] | {"arq+s_psi": 20}})
    )
    kept, lost = ran(stored, same), ran(stored, worse, "--profile", "ci")
    assert kept.exit_code == 0 and "of 12 cells are watched" in kept.stdout and not kept.stderr
    said = "LOST        task-3 arq+s_psi (released, recollected data): advantage over bc +"
    assert lost.exit_code == 1 and said in lost.stdout and "p of the drop" in lost.stdout
    assert "task-3 arq+s_psi (lost)" in lost.stderr and "expected none" in lost.stderr


def test_what_cannot_be_compared_is_refused(tmp_path):
    rng = np.random.default_rng(7)
    stored = write(tmp_path / "stored", world(rng, 2, FOUR))
    without = write(tmp_path / "without", world(rng, 2, {"task-0": {"arq+pi": 3}}))
    refused = [
        (ran(stored, stored, "--profile", "cii"), "did you mean 'ci'?"),
        (ran(without, stored), "saw none of bc"),
        (ran(stored, tmp_path / "nowhere"), "new rows at ci: saw none"),
    ]
    (tmp_path / "stored" / "broken.jsonl").write_text("{", encoding="utf-8")
    for run, message in [*refused, (ran(stored, stored), "broken.jsonl:1")]:
        assert run.exit_code == 2 and run.stderr.startswith("error: ") and message in run.stderr


def test_profiles_variants_and_fidelities_are_compared_with_themselves_only():
    rng = np.random.default_rng(8)
    base = world(rng, 5, {"task-0": {"bc": 20, "arq+pi": 90}})
    other = {
        (t, "rebuilt", v, m): [s - 90 * (m == "arq+pi") for s in seeds]
        for (t, _, v, m), seeds in base.items()
    }
    found = judge(base, other, "bc")
    assert [f.verdict for f in found] == [MISSING]
    row = dict(JOB, task="t", method="bc", seed=0, episode=0, score=1.0, return_=2.0)
    assert regressions.cells_of([row, row | {"profile": "lite"}], "ci").keys() == {
        ("t", "recollected", "released", "bc")
    }


def test_a_dataset_without_a_score_is_compared_by_its_returns():
    rows = [
        dict(JOB, task="t", method=m, seed=s, episode=0, score=None, return_=value + s)
        for m, value in (("bc", 0.0), ("arq+pi", 500.0))
        for s in range(3)
    ]
    assert [(f.verdict, f.stored) for f in compare(rows, rows, "ci")] == [(KEPT, 500)]
