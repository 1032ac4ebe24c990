"""Finished cells go to the results; rows of other data that lie there stay."""

import pytest
from example_rows import rows

from arq_core.grid import plan
from arq_core.grid.plan import Cell
from arq_core.grid.publish import publish
from arq_core.results import records
from arq_core.results.rows import write_rows


@pytest.mark.parametrize("task, method", [("maze", "bc"), ("pen-human-v0", "arq+pi")])
def test_rows_of_other_data_are_kept_and_the_reason_is_told(tmp_path, monkeypatch, task, method):
    cell, folder = Cell(task, method, "ci"), tmp_path / "results"
    made = lambda sha256: rows([[1.0, 2.0]], task=task, method=method, dataset_sha256=sha256)
    write_rows(tmp_path / plan.rows(cell), made("b" * 64))
    there = write_rows(folder / f"{cell.job}.jsonl", made("a" * 64))
    records.write_run(there, {"seeds": [0]})
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(plan, "finished", lambda root, cell: True)
    said = publish(tmp_path, [cell], folder)
    assert said["written"] == [] and len(said["kept"]) == 1
    assert "rows of other data are never replaced" in said["kept"][0] and "aaaa" in said["kept"][0]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
