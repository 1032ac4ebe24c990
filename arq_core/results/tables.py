"""The paper's tables beside ours: one frame of cells. `book.tables` shows it in
the book, `export` writes it for papers.

A cell is `value`, `illegible` (the paper has it, the available copy does not show it), `not
reported` (the paper leaves it empty), `not run` or `failed` (ours). Only a value has a number: a
cell that was not run can never look like a zero. Each cell of ours has a verdict (`verdicts`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from arq_core.config import settings
from arq_core.config.files import files_in
from arq_core.config.labels import OWN_SUITES, PROFILES, columns
from arq_core.config.paths import DATA
from arq_core.config.tasks import listed
from arq_core.results import verdicts
from arq_core.results.paper import BLANK, CELL, paper_cells, paper_lines, published
from arq_core.results.records import ResultsError, read_run
from arq_core.results.rows import file_name, summary
from arq_core.results.verdicts import COMPARABLE, Ours, Paper

FAILED = DATA.parent / "_build/grid/failed.json"


def task_names(path: str | Path = DATA / "tasks.csv") -> dict[str, str]:
    """Our task names and the paper's names of the same datasets, for the tasks that the paper
    has.
    """
    return {
        task: row["published_name"] for task, row in listed(path).items() if row["published_name"]
    }


def read_runs(folder: str | Path) -> dict[str, dict]:
    """The recorded provenance of the jobs in a folder, by the stem of their files (none for rows of
    `make row`).
    """
    found = {path.stem: read_run(path) for path in files_in(Path(folder), "*.jsonl")}
    return {job: run for job, run in found.items() if run is not None}


def read_failures(path: str | Path = FAILED) -> list[dict]:
    """Cells that failed in the last run of the grid: task, profile, method, variant, step,
    notebook, error, log. None where no file is.
    """
    if not Path(path).exists():
        return []
    wanted = {"task", "profile", "method", "variant", "step", "notebook", "error", "log"}
    try:
        failures = json.loads(Path(path).read_text(encoding="utf-8"))
        missing = [sorted(wanted - f.keys()) for f in failures if wanted - f.keys()]
    except (json.JSONDecodeError, AttributeError, TypeError) as e:
        raise ResultsError(
            f"{path}: saw {e}, expected a list of objects; run `make table` again, or "
            "delete the file."
        ) from None
    if missing:
        raise ResultsError(
            f"{path}: saw an entry without {', '.join(missing[0])}, expected "
            f"{', '.join(sorted(wanted))}; run `make table` again."
        )
    return failures


def _steps(tasks: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """The training steps of each task that the paper and the neighbours' authors take."""
    steps = {row["group"]: settings.paper_steps(row["group"]) for row in tasks.values()}
    return {task: steps[row["group"]] for task, row in tasks.items()}


def _sources(rows: Iterable[dict]) -> dict[tuple[str, ...], dict]:
    """Commits and dataset hashes of each job's rows."""
    out: dict[tuple[str, ...], dict] = {}
    for row in rows:
        found = out.setdefault(
            (row["task"], row["profile"], row["method"], row["variant"]),
            dict(commits=set(), data=set()),
        )
        found["commits"].add(row["commit"])
        found["data"].add(row["dataset_sha256"])
    return {job: {k: tuple(sorted(v)) for k, v in found.items()} for job, found in out.items()}


def judged(line: dict, ours: Ours | None, paper: Paper | None, failure: Mapping | None) -> dict:
    """A cell of ours with the paper's number, the difference, and the verdict."""
    said = verdicts.verdict(ours, paper, failure)
    cell = line | dict(
        verdict=said.word,
        reason=said.reason,
        paper_mean=paper and paper.mean,
        paper_std=paper and paper.std,
    )
    if ours is None:
        return cell | dict(state=said.word)
    beside = (None, None) if ours.smoke_test else (cell["paper_mean"], cell["paper_std"])
    return cell | dict(
        state="value",
        mean=ours.mean,
        std=ours.std,
        n=f"{ours.seeds} × {ours.episodes}",
        seeds=ours.seeds,
        episodes=ours.episodes,
        short=ours.short,
        difference=verdicts.difference(ours.mean, ours.std, *beside),
    )


def columns_of(rows: Iterable[Mapping]) -> list[str]:
    """The methods that a table of these rows has a column for: those of labels.METHODS, and a
    user's own."""
    return list(columns({row["method"] for row in rows}))


def _our_lines(
    rows: Sequence[dict],
    tasks: Mapping[str, str],
    groups: Mapping[str, str],
    papers: Mapping,
    known: Mapping[str, Mapping[str, str]],
    runs: Mapping[str, dict],
    failures: Sequence[dict],
) -> list[dict]:
    """Ours for `tasks` {our name: name shown}: a line for each fidelity, profile and variant that
    was run or failed, or one of `not run`.

    `known` is tasks.csv; a cell that failed has no rows, so its fidelity is read there.
    """
    shown = columns_of(rows)
    mine = [r for r in rows if r["task"] in tasks and r["method"] in shown]
    jobs = {
        (j.task, j.fidelity, j.profile, j.variant, j.method): j
        for j in summary(mine).itertuples()
        if not math.isnan(j.score)
    }
    failed = {
        (f["task"], known[f["task"]]["fidelity"], f["profile"], f["variant"], f["method"]): f
        for f in failures
        if f["task"] in tasks
    }
    sources, steps, out = _sources(mine), _steps(known) if runs else {}, []
    rank = lambda line: (PROFILES.index(line[1]) if line[1] in PROFILES else len(PROFILES), line)
    for task, dataset in tasks.items():
        for fidelity, profile, variant in sorted(
            {key[1:4] for key in (*jobs, *failed) if key[0] == task}, key=rank
        ) or [("", "", "")]:
            head = BLANK | dict(
                group=groups[dataset],
                dataset=dataset,
                line="ours",
                task=task,
                profile=profile,
                variant=variant,
                fidelity=fidelity,
                detail=f"profile {verdicts.labelled(profile)}, {variant}, {fidelity} data"
                if profile
                else "",
            )
            for method in shown:
                job, failure = (
                    jobs.get(key := (task, fidelity, profile, variant, method)),
                    failed.get(key),
                )
                line, ours = head | dict(method=method), None
                if job:
                    stem = Path(file_name(task, profile, method, variant)).stem
                    run = runs.get(stem, {})
                    short = verdicts.shortfall(
                        run.get("budget", {}), steps.get(task, {}), run.get("hyper"), method
                    )
                    ours = Ours(
                        job.score,
                        job.score_std,
                        job.seeds,
                        job.episodes,
                        profile,
                        fidelity,
                        short,
                        job.smoke_test,
                    )
                    line |= sources[task, profile, method, variant] | dict(jobs=(stem,))
                out.append(judged(line, ours, papers.get((dataset, method)), failure))
    return out


def _in_order(lines: list[dict], datasets: Iterable[str]) -> pd.DataFrame:
    order = {name: i for i, name in enumerate(datasets)}
    # a stable sort: the paper's line stays first
    return pd.DataFrame(sorted(lines, key=lambda c: order[c["dataset"]]), columns=CELL)


def table_a4(
    rows: Sequence[dict],
    tasks: Mapping[str, str],
    datasets: Sequence[str] = (),
    groups: Sequence[str] = (),
    *,
    runs: Mapping[str, dict] | None = None,
    failures: Sequence[dict] = (),
) -> pd.DataFrame:
    """Cells of Table A.4: under each dataset the paper's line, then ours. `tasks` maps our task
    names to the paper's.

    `datasets` or `groups` (the paper's names) choose a part of the table; a name that is not in it
    is refused.
    """
    cells = published()
    cells = cells[cells["table"] == "a4"]
    for column, wanted in (("dataset", datasets), ("group", groups)):
        if unknown := sorted(set(wanted) - set(cells[column])):
            raise ValueError(
                f"Table A.4: {column}: saw {unknown[0]!r}, expected one of "
                f"{', '.join(sorted(set(cells[column])))}."
            )
        cells = cells[cells[column].isin(wanted)] if wanted else cells
    names = list(dict.fromkeys(cells["dataset"]))
    shown = {task: name for task, name in tasks.items() if name in names}
    comparable = [row for row in rows if row["fidelity"] in COMPARABLE and row["task"] in shown]
    paper = paper_lines(cells, columns_of(comparable))
    groups_of = dict(zip(cells["dataset"], cells["group"], strict=True))
    ours = _our_lines(
        comparable, shown, groups_of, paper_cells(paper), listed(), runs or {}, failures
    )
    return _in_order(paper + ours, names)


def table_own(
    rows: Sequence[dict],
    path: str | Path = DATA / "tasks.csv",
    *,
    runs: Mapping[str, dict] | None = None,
    failures: Sequence[dict] = (),
) -> pd.DataFrame:
    """Our lines for datasets that the paper does not have: no number of the paper's is beside them,
    since none is of the same data.
    """
    known = listed(path)
    suites = {task: row["suite"] for task, row in known.items() if row["suite"] in OWN_SUITES}
    suites = dict(sorted(suites.items(), key=lambda item: list(OWN_SUITES).index(item[1])))
    return _in_order(
        _our_lines(rows, {name: name for name in suites}, suites, {}, known, runs or {}, failures),
        suites,
    )
