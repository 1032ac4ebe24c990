"""A run made just now is compared with the committed rows, episode by episode."""

import pytest
from example_rows import rows

from arq_core.results.agreement import Agreement, beside
from arq_core.results.rows import file_name, write_rows


def committed(folder, made):
    first = made[0]
    name = file_name(*(first[k] for k in ("task", "profile", "method", "variant")))
    write_rows(folder / name, made)


def test_rows_of_one_seed_are_shown_with_the_committed_ones_of_all(tmp_path):
    every = rows([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], profile="ci")
    committed(tmp_path, every)
    live = [row | {"profile": "page"} for row in every if row["seed"] == every[0]["seed"]]
    shown, agree = beside(live, folder=tmp_path)
    assert shown == every and agree == Agreement(2, 2) and agree.share == 1
    assert str(agree).startswith("2 of 2 episodes")


def test_a_method_that_was_not_run_is_shown_by_its_committed_rows_and_compared_with_nothing(
    tmp_path,
):
    every = rows([[1.0, 2.0]], profile="ci")
    others = [row | {"method": "unconstrained"} for row in every]
    for made in (every, others):
        committed(tmp_path, made)
    shown, agree = beside(every, ["unconstrained"], tmp_path)
    assert sorted(row["method"] for row in shown) == sorted(
        row["method"] for row in [*every, *others]
    )
    assert agree == Agreement(2, 2)


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda row: row | {"return_": row["return_"] + 0.5}, Agreement(2, 0, 0.5)),
        (
            lambda row: row | {"return_": row["return_"] + 0.5 * (-1) ** row["episode"]},
            Agreement(2, 0),
        ),
        # sums in another order
        (lambda row: row | {"return_": row["return_"] + 1e-9}, Agreement(2, 2)),
        # not the same episode, data or budget: nothing to compare with
        (lambda row: row | {"seed": 77}, Agreement(0, 0)),
        (lambda row: row | {"dataset_sha256": "e" * 64}, Agreement(0, 0)),
        (lambda row: row | {"profile": "lite"}, Agreement(0, 0)),
        (lambda row: row | {"variant": "paper"}, Agreement(0, 0)),
    ],
)
def test_only_the_same_episodes_are_compared(tmp_path, change, expected):
    every = rows([[1.0, 2.0], [3.0, 4.0]], profile="ci")
    committed(tmp_path, every)
    live = [change(row) for row in every if row["seed"] == every[0]["seed"]]
    shown, agree = beside(live, folder=tmp_path)
    assert (agree.episodes, agree.same) == (expected.episodes, expected.same)
    assert agree.difference == pytest.approx(expected.difference, abs=1e-6)
    assert agree.episodes or all(row in shown for row in live)


def test_without_committed_rows_the_run_stands_alone(tmp_path):
    live = rows([[1.0]], profile="page")
    shown, agree = beside(live, folder=tmp_path)
    assert shown == live and agree.share == 1 and "no committed rows" in str(agree)
