"""Two one-sided tests of two profiles' rows: they are the textbook's, err as seldom as they say,
and refuse what cannot be compared.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from example_rows import rows
from scipy import stats

from arq_core.config.paths import DATA
from arq_core.results.equivalence import (
    CONFIDENCE,
    DIFFERENT,
    EQUIVALENT,
    LEVEL,
    MARGIN,
    NOT_SHOWN,
    compared,
    equivalence,
    equivalences,
    two_one_sided,
)
from arq_core.results.measured import measured
from arq_core.results.records import ResultsError
from arq_core.results.rows import file_name, write_rows
from arq_core.results.significance import Mean

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from equivalence import measure  # noqa: E402


def fast(scores, **changes):
    return rows(scores, **{"profile": "fast"} | changes)


def full(scores, **changes):
    return rows(scores, **{"profile": "full"} | changes)


def column(*scores):
    """A score a seed, of one episode each."""
    return np.array(scores, float)[:, None]


@pytest.mark.parametrize("margin", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 3)])
def test_they_are_welch_s_tests_of_the_shifted_samples(margin, seeds):
    rng = np.random.default_rng(seeds)
    x, y = rng.normal(52, 2, seeds[0]), rng.normal(50, 1, seeds[1])
    found = equivalence(fast(x[:, None]), full(y[:, None]), margin)
    above = stats.ttest_ind(x + margin, y, equal_var=False, alternative="greater")
    below = stats.ttest_ind(x - margin, y, equal_var=False, alternative="less")
    assert found.p == pytest.approx(max(above.pvalue, below.pvalue), rel=1e-9)
    interval = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-9)
    assert found.difference == pytest.approx(x.mean() - y.mean())
    assert (found.first_mean, found.second_mean) == pytest.approx((x.mean(), y.mean()))
    assert (found.first_seeds, found.second_seeds) == seeds
    assert pytest.approx(0.90) == CONFIDENCE


def test_a_score_of_a_seed_is_the_mean_of_its_episodes_and_more_of_them_are_no_more_seeds():
    scores = np.array([[40.0, 44.0], [50.0, 54.0], [60.0, 64.0]])
    few = equivalence(fast(scores), full(scores + 1))
    many = equivalence(fast(np.tile(scores, 50)), full(np.tile(scores + 1, 25)))
    assert few.p == pytest.approx(many.p) and few.low == pytest.approx(many.low)
    alone = stats.ttest_ind([42, 52, 62], [43, 53, 63], equal_var=False)
    assert few.high == pytest.approx(alone.confidence_interval(0.90).high)
    assert (few.first_episodes, many.first_episodes, many.second_episodes) == (2, 100, 50)


def test_seeds_that_agree_by_luck_are_as_uncertain_as_their_episodes():
    scores = [[0.0, 100.0, 0.0, 100.0]] * 2
    found = equivalence(fast(scores), full(scores))
    assert found.difference == 0 and found.verdict == NOT_SHOWN and found.high > 50


def test_seeds_of_one_number_are_no_pairs():
    x, y = [10.0, 20.0, 30.0], [11.0, 21.0, 31.0]
    in_step = equivalence(fast(column(*x)), full(column(*y)))
    assert in_step == equivalence(fast(column(*x)), full(column(*y[::-1])))
    # as pairs they would differ by exactly one point
    assert in_step.verdict == NOT_SHOWN


@pytest.mark.parametrize(
    "seeds, spreads", [((3, 3), (1, 1)), ((2, 2), (1, 0.1)), ((3, 5), (1, 0.3))]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_difference_of_the_margin_is_called_equivalent_as_seldom_as_stated(seeds, spreads, sign):
    rng, n = np.random.default_rng(seeds[0]), 800
    sides = [
        rng.normal(level, spread, (n, count))
        for level, spread, count in zip((sign * MARGIN, 0), spreads, seeds)
    ]
    means = [
        [Mean(x.mean(), x.var(ddof=1) / count, count - 1) for x in side]
        for side, count in zip(sides, seeds)
    ]
    called = [two_one_sided(a, b, MARGIN).p < LEVEL for a, b in zip(*means)]
    assert np.mean(called) <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / n)
    assert np.mean(called) > LEVEL / 2


@pytest.mark.parametrize("seeds, spread", [(2, 1.2), (3, 2.1), (5, 3.1)])
def test_half_of_the_cells_that_do_not_differ_show_it_at_the_spread_as_stated(seeds, spread):
    rng, n = np.random.default_rng(seeds), 400
    draw = lambda: rng.normal(0, spread, seeds)
    mean = lambda x: Mean(x.mean(), x.var(ddof=1) / seeds, seeds - 1)
    shown = [two_one_sided(mean(draw()), mean(draw()), MARGIN).p < LEVEL for _ in range(n)]
    assert np.mean(shown) == pytest.approx(0.5, abs=0.03 + 3 * 0.5 / np.sqrt(n))


def test_equivalent_is_that_the_interval_lies_inside_the_margin():
    rng, seen = np.random.default_rng(0), set()
    for _ in range(60):
        x, y = rng.normal(rng.uniform(-8, 8), 2, (3, 1)), rng.normal(0, 2, (3, 1))
        found = equivalence(fast(x), full(y))
        inside = -MARGIN < found.low and found.high < MARGIN
        assert found.equivalent is inside is (found.p < LEVEL)
        assert (found.verdict == EQUIVALENT) is inside
        assert (found.verdict == DIFFERENT) is (not inside and not found.low <= 0 <= found.high)
        seen.add(found.verdict)
    assert seen == {EQUIVALENT, DIFFERENT, NOT_SHOWN}


def test_a_small_difference_that_is_sure_is_still_equivalent():
    found = equivalence(fast(column(52.0, 52.1, 51.9)), full(column(50.0, 50.1, 49.9)))
    assert found.low > 0 and found.verdict == EQUIVALENT


@pytest.mark.parametrize("apart, p", [(0.0, 0), (4.9, 0), (-4.9, 0), (5.0, 1), (-7.0, 1)])
def test_scores_without_any_spread_are_as_far_apart_as_they_are(apart, p):
    found = equivalence(fast(np.full((3, 4), 50 + apart)), full(np.full((3, 4), 50.0)))
    assert found.p == p and found.low == found.high == found.difference
    assert found.verdict == (EQUIVALENT if p == 0 else DIFFERENT)


def test_the_margin_of_a_score_from_0_to_1_is_a_hundredth_a_point():
    x, y = column(0.50, 0.51, 0.52), column(0.40, 0.41, 0.42)
    of_one = equivalence(fast(x, task="maze"), full(y, task="maze"))
    of_hundred = equivalence(fast(100 * x), full(100 * y))
    assert of_one.margin == pytest.approx(0.05) and of_hundred.margin == 5
    assert of_one.verdict == of_hundred.verdict == DIFFERENT
    assert of_one.p == pytest.approx(of_hundred.p)


GOOD = [[50.0, 51.0], [52.0, 53.0]]
NO_SCORE = [row | {"score": None} for row in fast(GOOD)]


@pytest.mark.parametrize(
    "first, second, margin, message",
    [
        (fast(GOOD[:1]), full(GOOD), 5, "at fast: saw one seed, expected two or more"),
        (fast(GOOD), full(GOOD[:1]), 5, "at full: saw one seed, expected two or more"),
        ([], full(GOOD), 5, "saw a side without rows"),
        (fast(GOOD), full(GOOD, task="pen-human-v0"), 5, "field 'task'"),
        (fast(GOOD), full(GOOD, method="bc"), 5, "field 'method'"),
        (fast(GOOD), full(GOOD, variant="paper"), 5, "field 'variant'"),
        (fast(GOOD), full(GOOD, fidelity="official"), 5, "field 'fidelity'"),
        (fast(GOOD), full(GOOD, dataset_sha256="1" * 64), 5, "field 'dataset_sha256'"),
        (fast(GOOD), fast(GOOD), 5, "saw 'fast' on both sides"),
        (fast(GOOD) + full(GOOD), full(GOOD), 5, "field 'profile': saw 'full' too"),
        (fast(GOOD), full(GOOD) + full(GOOD, method="bc"), 5, "field 'method': saw 'bc' too"),
        (NO_SCORE, full(GOOD), 5, "seed 0, episode 0: saw the score None"),
        (fast([[1.0, np.nan], [1.0, 2.0]]), full(GOOD), 5, "episode 1: saw the score nan"),
        (fast(GOOD), full([[1.0, 2.0], [np.inf, 2.0]]), 5, "seed 1, episode 0: saw the score inf"),
        (fast(GOOD), full(GOOD), 0, "margin: saw 0, expected"),
        (fast(GOOD), full(GOOD), -5, "margin: saw -5, expected"),
        (fast(GOOD), full(GOOD), np.nan, "margin: saw nan, expected"),
        (fast(GOOD), full(GOOD), np.inf, "margin: saw inf, expected"),
        (fast(GOOD, profile="ci"), full(GOOD), 5, "at ci: saw a smoke test"),
    ],
)
def test_what_cannot_be_compared_is_refused(first, second, margin, message):
    with pytest.raises(ResultsError) as refused:
        equivalence(first, second, margin)
    assert message in str(refused.value)


def write(folder, *jobs):
    for job in jobs:
        names = (job[0][name] for name in ("task", "profile", "method", "variant"))
        write_rows(folder / file_name(*names), job)
    return folder


@pytest.fixture
def folder(tmp_path):
    """Rows of three cells that can be tested, of one at one profile only, and of two that no test
    can be made of.
    """
    near, far = np.array(GOOD), np.array(GOOD) + 40
    return write(
        tmp_path,
        *(fast(near, method=method) for method in ("arq+s_psi", "bc", "iql", "s_psi", "dt")),
        *(full(far, method=method) for method in ("arq+s_psi", "bc")),
        full(near[:1], method="s_psi"),
        full(near, method="dt", dataset_sha256="1" * 64),
        fast(near, task="maze", fidelity="recollected"),
        full(near, task="maze", fidelity="recollected"),
        fast(near, profile="lite"),
    )


def test_every_cell_at_both_profiles_is_compared_in_the_order_of_the_tables(folder):
    found = equivalences(folder)
    tested = [("maze", "arq+s_psi"), ("door-human", "bc"), ("door-human", "arq+s_psi")]
    assert [(cell.task, cell.method) for cell in found.tested] == tested
    assert [cell.difference for cell in found.tested] == [0, -40, -40]
    assert {(cell.first, cell.second) for cell in found.tested} == {("fast", "full")}
    assert [(cell.method, cell.reason.split(": ", 1)[0]) for cell in found.untested] == [
        ("s_psi", "door-human s_psi at full"),
        ("dt", "door-human dt at fast and door-human dt at full"),
    ]
    turned = equivalences(folder, "full", "fast")
    assert [cell.difference for cell in turned.tested] == [0, 40, 40]
    lite = equivalences(folder, "lite", "full")
    assert [(cell.method, cell.difference) for cell in lite.tested] == [("arq+s_psi", -40)]


def test_the_margin_that_is_asked_for_is_that_of_every_cell(folder):
    assert [cell.margin for cell in equivalences(folder, margin=50).tested] == [0.5, 50, 50]


def test_no_rows_no_cells_and_a_wrong_question_is_an_error_all_the_same(tmp_path):
    assert equivalences(tmp_path / "nowhere") == ([], [])
    with pytest.raises(ResultsError, match="on both sides"):
        compared([], "fast", "fast")
    with pytest.raises(ResultsError, match="margin: saw 0"):
        compared([], margin=0)


def test_what_is_written_names_the_files_and_their_hashes(folder, tmp_path):
    found = json.loads(json.dumps(measure(folder), allow_nan=False))
    assert [cell["verdict"] for cell in found["cells"]] == [NOT_SHOWN, DIFFERENT, DIFFERENT]
    names = [f"door-human.{profile}.bc.released.jsonl" for profile in ("fast", "full")]
    assert list(found["cells"][1]["files"]) == names
    assert all(len(sha256) == 64 for sha256 in found["cells"][1]["files"].values())
    assert (found["margin"], found["level"], len(found["untested"])) == (5, 0.05, 2)
    empty = measure(tmp_path / "nowhere")
    assert empty["cells"] == empty["untested"] == []


def test_the_stored_equivalences_are_those_of_the_committed_rows():
    stored, now = measured("equivalence"), measure(DATA / "results")
    assert stored["commit"] and stored["untested"] == now["untested"]
    for name in ("first", "second", "margin", "level"):
        assert stored[name] == now[name]
    # run benchmarks/equivalence.py where rows were added
    assert [cell.pop("files") for cell in stored["cells"]] == [
        cell.pop("files") for cell in now["cells"]
    ]
    for was, cell in zip(stored["cells"], now["cells"], strict=True):
        near = lambda x: pytest.approx(x, rel=1e-6, abs=1e-9) if isinstance(x, float) else x
        assert was == {name: near(x) for name, x in cell.items()}
