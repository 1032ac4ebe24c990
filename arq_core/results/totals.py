"""Table 2: the paper's totals over groups of datasets, what its own Table A.4 adds up to, and
ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from arq_core.config.labels import GROUPS
from arq_core.results import verdicts
from arq_core.results.paper import BLANK, CELL, paper_cells, paper_lines, published
from arq_core.results.tables import judged, table_a4
from arq_core.results.verdicts import Ours, Paper


def members(aggregate: str) -> dict[str, list[str]]:
    """Which groups a total of Table 2 adds up, and which part of a dataset's name it asks for
    (none: all).
    """
    d4rl = [g for g in GROUPS if g.startswith("d4rl")]
    if aggregate.startswith("adroit-"):
        return {"groups": ["d4rl-adroit"], "parts": [aggregate.removeprefix("adroit")]}
    groups = {"d4rl": d4rl, "d4rl+robomimic": [*d4rl, "robomimic"]}.get(aggregate, [aggregate])
    return {"groups": groups, "parts": [""]}


def table_2(
    rows: Sequence[dict] = (),
    tasks: Mapping[str, str] | None = None,
    *,
    runs: Mapping[str, dict] | None = None,
    failures: Sequence[dict] = (),
) -> pd.DataFrame:
    """Cells of Table 2: the paper's totals, the totals of its own Table A.4, and ours where every
    dataset of a total was run.
    """
    cells = published()
    totals, single = cells[cells["table"] == "2"], cells[cells["table"] == "a4"]
    ours = table_a4(rows, tasks or {}, runs=runs, failures=failures)
    ours = ours[ours["line"] == "ours"]
    shown = list(dict.fromkeys(ours["method"]))
    borrowed = paper_cells(paper_lines(single, shown))
    out = []
    for aggregate in dict.fromkeys(totals["group"]):
        which = members(aggregate)
        part = single[
            single["group"].isin(which["groups"])
            & single["dataset"].str.contains(which["parts"][0], regex=False)
        ]
        names = list(dict.fromkeys(part["dataset"]))
        paper, added = (
            paper_lines(totals[totals["group"] == aggregate], shown),
            _sum_paper(part, len(names), shown),
        )
        spreads = {
            m: _spread(rows["std"]) for m, rows in part.groupby("method") if len(rows) == len(names)
        }
        papers = {
            m: replace(cell, std=spreads.get(m), unfit=_unfit(borrowed, names, m))
            for (_, m), cell in paper_cells(paper).items()
        }
        lines = paper + added + _sum_ours(ours[ours["dataset"].isin(names)], names, papers)
        out += [c | dict(group="", dataset=f"{aggregate} ({len(names)} datasets)") for c in lines]
    return pd.DataFrame(out, columns=CELL)


def _unfit(cells: Mapping[tuple[str, str], Paper], names: Sequence[str], method: str) -> str:
    """Why a total of a method may not be judged: what is to be said against its parts."""
    parts = [cells.get((name, method)) for name in names]
    n = sum(bool(part and part.unfit) for part in parts)
    return f"{n} of the total's {len(names)} cells may not be judged (Table A.4)" if n else ""


def _spread(stds: pd.Series) -> float | None:
    """The std of a sum of independent numbers; None where one of them is missing."""
    return None if stds.isna().any() else float((stds.astype(float) ** 2).sum() ** 0.5)


def _sum_paper(cells: pd.DataFrame, n: int, methods: Sequence[str]) -> list[dict]:
    """Each method's means over n datasets added up; no number where one of them is missing."""
    out = []
    for method in methods:
        part = cells[cells["method"] == method]
        known = len(part) == n and part["mean"].notna().all()
        state = "value" if known else "illegible" if len(part) == n else "not reported"
        mean, std = (part["mean"].sum(), _spread(part["std"])) if known else (None, None)
        out.append(
            BLANK | dict(line="Table A.4 added up", method=method, state=state, mean=mean, std=std)
        )
    return out


def _sum_ours(cells: pd.DataFrame, names: Sequence[str], papers: Mapping[str, Paper]) -> list[dict]:
    """Our totals: a line for each profile and variant that has one, or a line of `not run` that
    says how far it is.

    Of a dataset that was run from official and from rebuilt data, the official run counts.
    """
    methods = list(dict.fromkeys(cells["method"]))
    # official comes before rebuilt
    out, values = [], cells[cells["state"] == "value"].sort_values("fidelity", kind="stable")
    for (profile, variant), run in values.groupby(["profile", "variant"], sort=False):
        run = run.drop_duplicates(["dataset", "method"])
        data = sorted(set(run["fidelity"]))
        detail = f"profile {profile}, {variant}, {' and '.join(data)} data"
        head = BLANK | dict(
            line="ours", profile=profile, variant=variant, fidelity=data[-1], detail=detail
        )
        line = [
            _total(head | dict(method=m), run[run["method"] == m], len(names), papers.get(m))
            for m in methods
        ]
        out += line if any(c["state"] == "value" for c in line) else []
    if out:
        return out
    none = BLANK | dict(line="ours")
    return [
        _total(
            none | dict(method=m),
            values[values["method"] == m].drop_duplicates("dataset"),
            len(names),
            papers.get(m),
        )
        for m in methods
    ]


def _total(head: dict, part: pd.DataFrame, n: int, paper: Paper | None) -> dict:
    """One total of ours from the cells of its datasets; `not run` where one of the n is missing."""
    if len(part) < n or not head["profile"]:
        return judged(head, None, paper, None) | dict(
            reason=f"{len(part)} of its {n} datasets were run."
        )
    joined = {
        k: tuple(dict.fromkeys(x for items in part[k] for x in items))
        for k in ("jobs", "commits", "data", "short")
    }
    total = Ours(
        part["mean"].astype(float).sum(),
        _spread(part["std"]),
        int(part["seeds"].min()),
        int(part["episodes"].min()),
        head["profile"],
        head["fidelity"],
        joined["short"],
        verdicts.SMOKE_TEST in set(part["verdict"]),
    )
    return judged(head | joined, total, paper, None)
