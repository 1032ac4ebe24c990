"""From finished cells to data/results: rows, their provenance and the executed notebooks, each
replaced as a whole or left as it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from arq_core.book.notebook import notebook_format
from arq_core.config.files import write_atomic
from arq_core.grid import plan
from arq_core.grid.plan import Cell, evidence
from arq_core.results import records, regressions, rows

# outputs that are not kept with the evidence: pictures and tables that stand as text too
HEAVY = ("image/", "application/vnd", "text/html")


def light(notebook: dict) -> dict:
    """An executed notebook with its text alone."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            for kind in [k for k in output.get("data", {}) if k.startswith(HEAVY)]:
                del output["data"][kind]
    return notebook


def lost(root: Path, cells: Sequence[Cell], folder: Path) -> tuple[list[Cell], str]:
    """(cells that clearly beat behaviour cloning in `folder` and no longer do, what is said of all
    that are watched, and of those that are not): regressions.compare, profile by profile.
    """
    stored = rows.read_rows(folder)
    gone: list[Cell] = []
    said: list[str] = []
    for profile in dict.fromkeys(c.profile for c in cells):
        there = [c for c in cells if c.profile == profile and (root / plan.rows(c)).exists()]
        new = [row for c in there for row in rows.read_file(root / plan.rows(c))]
        smoke = regressions.smoke_tests(new, profile)
        watchable = {c.task for c in there} - set(smoke)
        cloned = {r["task"] for r in stored if (r["method"], r["profile"]) == ("bc", profile)}
        if watchable and cloned - set(regressions.smoke_tests(stored, profile)):
            findings = regressions.compare(stored, new, profile)
            names = {(f.task, f.method, f.variant) for f in regressions.failures(findings, True)}
            gone += [c for c in there if (c.task, c.method, c.variant) in names]
            said.append(regressions.report(findings, smoke=smoke))
        elif watchable:
            said.append(
                f"profile {profile}: no stored rows of behaviour cloning: nothing to compare the "
                "new rows with"
            )
        elif smoke:
            said.append(f"not watched, smoke tests whose scores say nothing: {', '.join(smoke)}")
    return gone, "\n".join(said)


def scores(root: Path, cells: Sequence[Cell]) -> str:
    """Mean and standard deviation over seeds of every finished cell, as text; a score that says
    nothing is marked.
    """
    found = rows.summary(
        [
            row
            for c in cells
            if (path := root / plan.rows(c)).exists()
            for row in rows.read_file(path)
        ]
    )
    found[""] = ["smoke test" if smoke else "" for smoke in found["smoke_test"]]
    return (
        found[["task", "method", "score", "score_std", "seeds", "episodes", ""]]
        .round(2)
        .to_string(index=False)
    )


def publish(root: Path, cells: Sequence[Cell], folder: Path) -> dict[str, list[str]]:
    """Copy each finished cell to `folder`; {"written": jobs, "kept": texts of those that were not
    replaced}.

    A job that would replace a larger one (more seeds or episodes) is not written;
    rows.write_rows says why.
    """
    out: dict[str, list[str]] = {"written": [], "kept": []}
    for cell in cells:
        source, target = root / plan.rows(cell), folder / f"{cell.job}.jsonl"
        if (
            not plan.finished(root, cell)
            or target.exists()
            and target.read_bytes() == source.read_bytes()
        ):
            continue
        try:
            rows.write_rows(target, rows.read_file(source))
        except records.ResultsError as error:
            out["kept"].append(str(error))
            continue
        records.write_run(target, json.loads(records.run_path(source).read_text(encoding="utf-8")))
        for step in cell.steps():
            nbformat = notebook_format()
            notebook = nbformat.read(root / plan.notebook(cell, step), nbformat.NO_CONVERT)
            write_atomic(
                folder / evidence(cell, step),
                (json.dumps(light(notebook), indent=1) + "\n").encode(),
            )
        out["written"].append(cell.job)
    return out
