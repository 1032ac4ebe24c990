"""From finished cells to data/results: rows, their provenance and the executed notebooks, each replaced as a whole or left as it was."""
from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat

from arq_core import results
from arq_core.files import write_atomic
from arq_core.grid import plan
from arq_core.grid.plan import Cell, evidence

HEAVY = ("image/", "application/vnd", "text/html")          # outputs that are not kept with the evidence: pictures and tables that stand as text too


def light(notebook: dict) -> dict:
    """An executed notebook with its text alone."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            for kind in [k for k in output.get("data", {}) if k.startswith(HEAVY)]:
                del output["data"][kind]
    return notebook


def publish(root: Path, cells: Sequence[Cell], folder: Path) -> dict[str, list[str]]:
    """Copy each finished cell to `folder`; {"written": jobs, "kept": texts of those that were not replaced}.

    A job that would replace a larger one (more seeds or episodes) is not written; results.write_rows says why.
    """
    out: dict[str, list[str]] = {"written": [], "kept": []}
    for cell in cells:
        source, target = root / plan.rows(cell), folder / f"{cell.job}.jsonl"
        if not source.exists() or target.exists() and target.read_bytes() == source.read_bytes():
            continue
        try:
            results.write_rows(target, results.read_file(source))
        except results.ResultsError as error:
            out["kept"].append(str(error))
            continue
        shutil.copyfile(source.with_suffix(".run.json"), partial := target.with_suffix(".run.json.tmp"))
        partial.replace(target.with_suffix(".run.json"))
        for step in cell.steps():
            notebook = nbformat.read((root / plan.place(cell, step)).with_suffix(".ipynb"), nbformat.NO_CONVERT)
            write_atomic(folder / evidence(cell, step), (json.dumps(light(notebook), indent=1) + "\n").encode())
        out["written"].append(cell.job)
    return out
