"""Rows of results: what is refused, what a reader gets, and the mean and std over seeds."""

import json

import numpy as np
import pytest
from example_rows import NAME, rows

from arq_core.config.paths import DATA
from arq_core.results import provenance
from arq_core.results.records import ResultsError
from arq_core.results.rows import read_file, read_rows, summary, validate, write_rows


@pytest.mark.parametrize(
    "field, value",
    [
        ("task", ""),
        ("task", "a/b"),
        ("dataset_sha256", "12"),
        ("fidelity", "copied"),
        ("seed", -1),
        ("seed", True),
        ("episode", 1.0),
        ("return_", float("nan")),
        ("return_", "3"),
        ("length", 0),
        ("success", 1),
        ("score", float("inf")),
        ("in_support", 1.5),
        ("wall_s", -1),
        ("versions", {}),
        ("created", "yesterday"),
        ("created", "2026-01-31T12:00:00"),
    ],
)
def test_an_invalid_field_is_named_with_what_was_seen(field, value):
    row = rows([[1.0]])[0]
    validate(row)
    with pytest.raises(ResultsError, match=field) as e:
        validate(row | {field: value})
    assert repr(value) in str(e.value) and "expected" in str(e.value)


def test_missing_and_unknown_fields_are_refused():
    row = rows([[1.0]])[0]
    with pytest.raises(ResultsError, match="unknown field 'extra'"):
        validate(row | {"extra": 1})
    row.pop("seed")
    with pytest.raises(ResultsError, match="missing field 'seed'"):
        validate(row)


def test_rows_come_back_as_they_were_written(tmp_path):
    written = rows([[1.0, 2.5], [-3.0, 4.0]])
    write_rows(tmp_path / NAME, written)
    assert read_rows(tmp_path) == written
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_a_broken_line_is_named_by_file_and_line(tmp_path):
    path = write_rows(tmp_path / NAME, rows([[1.0, 2.0]]))
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(ResultsError, match=f"{NAME.replace('+', '.')}:2"):
        read_rows(tmp_path)


def test_a_row_written_twice_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="seed 0, episode 0 again"):
        write_rows(tmp_path / NAME, rows([[1.0]]) * 2)


def test_rows_of_two_jobs_in_one_file_are_refused(tmp_path):
    with pytest.raises(ResultsError, match="method"):
        write_rows(tmp_path / NAME, rows([[1.0]]) + rows([[1.0]], method="bc"))
    with pytest.raises(ResultsError, match="expected the file name"):
        write_rows(tmp_path / NAME, rows([[1.0]], method="bc"))


def test_a_refused_write_leaves_the_earlier_file(tmp_path):
    path = write_rows(tmp_path / NAME, rows([[1.0, 2.0]]))
    before = path.read_bytes()
    for worse in (rows([[1.0]]), [], [r | {"length": 0} for r in rows([[1.0, 2.0, 3.0]])]):
        with pytest.raises(ResultsError):
            write_rows(path, worse)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_write_that_is_interrupted_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = write_rows(tmp_path / NAME, rows([[1.0, 2.0]]))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_rows(path, rows([[3.0, 4.0]]))
    assert [r["score"] for r in read_file(path)] == [1.0, 2.0] and len(
        list(tmp_path.iterdir())
    ) == 1


def test_summary_is_mean_over_episodes_then_mean_and_std_over_seeds():
    frame = summary(rows([[0.0, 2.0], [10.0, 20.0], [4.0, 6.0]]))
    means = np.array([1.0, 15.0, 5.0])
    assert len(frame) == 1
    assert frame.loc[0, "score"] == pytest.approx(means.mean())
    assert frame.loc[0, "score_std"] == pytest.approx(np.sqrt(((means - 7.0) ** 2).sum() / 2))
    assert frame.loc[0, "return_"] == pytest.approx(29 * 7.0)
    assert (frame.loc[0, "seeds"], frame.loc[0, "episodes"]) == (3, 2)


def test_summary_weighs_seeds_alike_and_keeps_jobs_apart():
    uneven = rows([[0.0, 0.0, 0.0], [8.0, 8.0, 8.0]])[:4]
    frame = summary(uneven + rows([[1.0]], profile="lite"))
    assert frame.set_index("profile")["score"].to_dict() == {"ci": 4.0, "lite": 1.0}
    assert np.isnan(frame.set_index("profile").loc["lite", "score_std"])


def test_a_task_without_a_scale_has_no_score():
    frame = summary([r | {"score": None} for r in rows([[1.0, 2.0]])])
    assert np.isnan(frame.loc[0, "score"]) and frame.loc[0, "return_"] == pytest.approx(43.5)


def test_provenance_fills_four_fields():
    row = rows([[1.0]])[0] | provenance.provenance()
    validate(row)
    json.dumps(row)


def test_committed_rows_are_valid():
    read_rows(DATA / "results")
