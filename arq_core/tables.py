"""The paper's tables beside ours. One frame of cells, rendered as a table that can be read on a phone and by a screen reader.

A cell is `value`, `illegible` (the paper has it, the available copy does not show it), `not reported` (the paper leaves it empty) or
`not run` (ours). Only a value has a number: a cell that was not run can never look like a zero.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from arq_core.results import DATA, summary

METHODS = {                                # column heads of Table A.4, in its order; those after DT learn or use a value function
    "bc": "BC", "ibc": "Implicit BC", "s_psi": "<i>s</i><sub>ψ</sub>",
    "one_step": "One-step", "q_beta+s_psi": "<i>Q</i><sup>β</sup> + <i>s</i><sub>ψ</sub>",
    "dt": "DT", "awac": "AWAC", "td3+bc": "TD3+BC", "bcq": "BCQ", "cql": "CQL", "iql": "IQL",
    "arq+pi": "ARQ + <i>π</i><sub>ϕ</sub>", "arq+s_psi": "ARQ + <i>s</i><sub>ψ</sub>",
}
GROUPS = {"d4rl-locomotion": "D4RL locomotion", "d4rl-adroit": "D4RL Adroit", "d4rl-kitchen": "D4RL kitchen",
          "d4rl-antmaze": "D4RL AntMaze", "robomimic": "Robomimic"}
OWN_SUITES = {"recollected-locomotion": "Locomotion, our own policies", "recollected-adroit": "Adroit hand, our own clone",
              "recollected-pointmaze": "Point mazes, planner and controller", "recollected-antmaze": "Ant mazes, planner and controller",
              "recollected-robomimic": "Robot arm, scripted controllers"}    # suite in tasks.csv: the group's head in `table_own`
COMPARABLE = ("official", "rebuilt")       # fidelities whose rows may stand beside the paper's number
CELL = ["group", "dataset", "line", "detail", "method", "state", "mean", "std", "n", "note"]


def published(path: str | Path = DATA / "published.csv") -> pd.DataFrame:
    """The paper's cells: table ("a4" or "2"), group, dataset, method, mean, std, source, note. An empty mean is an illegible one."""
    return pd.read_csv(path, dtype={"table": str}).fillna({"note": "", "source": ""})


def members(aggregate: str) -> dict[str, list[str]]:
    """Which groups a total of Table 2 adds up, and which part of a dataset's name it asks for (none: all)."""
    d4rl = [g for g in GROUPS if g.startswith("d4rl")]
    if aggregate.startswith("adroit-"):
        return {"groups": ["d4rl-adroit"], "parts": [aggregate.removeprefix("adroit")]}
    groups = {"d4rl": d4rl, "d4rl+robomimic": [*d4rl, "robomimic"]}.get(aggregate, [aggregate])
    return {"groups": groups, "parts": [""]}


def task_names(path: str | Path = DATA / "tasks.csv") -> dict[str, str]:
    """Our task names and the paper's names of the same datasets, for the tasks that the paper has."""
    rows = pd.read_csv(path, dtype=str).fillna("")
    return {task: name for task, name in zip(rows["task"], rows["published_name"], strict=True) if name}


def _paper_lines(cells: pd.DataFrame) -> list[dict]:
    out = []
    for (group, dataset), rows in cells.groupby(["group", "dataset"], sort=False):
        rows = rows.set_index("method")
        for method in METHODS:
            line = dict(group=group, dataset=dataset, line="paper", detail="", method=method, n="")
            if method not in rows.index:
                out.append(line | dict(state="not reported", mean=None, std=None, note=""))
                continue
            cell = rows.loc[method]
            out.append(line | dict(state="illegible" if pd.isna(cell["mean"]) else "value", mean=cell["mean"], std=cell["std"],
                                   note=cell["note"]))
    return out


def _our_lines(rows: Sequence[dict], tasks: Mapping[str, str], groups: Mapping[str, str]) -> list[dict]:
    """Ours for `tasks` {our name: name shown}, a line for each fidelity, profile and variant that was run."""
    out = []
    frame = summary([r for r in rows if r["task"] in tasks])
    for (task, fidelity, profile, variant), jobs in frame.groupby(["task", "fidelity", "profile", "variant"], sort=False):
        jobs, dataset = jobs.set_index("method"), tasks[task]
        for method in METHODS:
            line = dict(group=groups[dataset], dataset=dataset, line="ours", detail=f"{profile}, {variant}, {fidelity} data",
                        method=method, note="")
            if method not in jobs.index or pd.isna(jobs.loc[method, "score"]):
                out.append(line | dict(state="not run", mean=None, std=None, n=""))
                continue
            job = jobs.loc[method]
            out.append(line | dict(state="value", mean=job["score"], std=job["score_std"], n=f"{job['seeds']} × {job['episodes']}"))
    return out


def table_a4(rows: Sequence[dict], tasks: Mapping[str, str], datasets: Sequence[str] = (), groups: Sequence[str] = ()) -> pd.DataFrame:
    """Cells of Table A.4: under each dataset the paper's line and, where we ran it, ours. `tasks` maps our task names to the paper's.

    `datasets` or `groups` (the paper's names) choose a part of the table; a name that is not in it is refused.
    """
    cells = published()
    cells = cells[cells["table"] == "a4"]
    for column, wanted in (("dataset", datasets), ("group", groups)):
        if unknown := sorted(set(wanted) - set(cells[column])):
            raise ValueError(f"Table A.4: {column}: saw {unknown[0]!r}, expected one of {', '.join(sorted(set(cells[column])))}.")
        cells = cells[cells[column].isin(wanted)] if wanted else cells
    order = {name: i for i, name in enumerate(dict.fromkeys(cells["dataset"]))}
    shown = {task: name for task, name in tasks.items() if name in order}
    groups_of = dict(zip(cells["dataset"], cells["group"], strict=True))
    comparable = [row for row in rows if row["fidelity"] in COMPARABLE]
    out = pd.DataFrame(_paper_lines(cells) + _our_lines(comparable, shown, groups_of), columns=CELL)
    return out.sort_values("dataset", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def table_own(rows: Sequence[dict], path: str | Path = DATA / "tasks.csv") -> pd.DataFrame:
    """Our lines for datasets that the paper does not have: no number of the paper's is beside them, since none is of the same data."""
    listed = pd.read_csv(path, dtype=str).fillna("")
    listed = listed[listed["suite"].isin(OWN_SUITES)]
    suites = dict(zip(listed["task"], listed["suite"], strict=True))
    lines = _our_lines(rows, {name: name for name in suites}, suites)
    listed = listed.sort_values("suite", key=lambda suites: suites.map(list(OWN_SUITES).index), kind="stable")
    order = {name: i for i, name in enumerate(listed["task"])}
    return pd.DataFrame(lines, columns=CELL).sort_values("dataset", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def table_2(rows: Sequence[dict] = (), tasks: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Cells of Table 2: the paper's totals, the totals of its own Table A.4, and ours where every dataset of a total was run."""
    cells = published()
    totals, single = cells[cells["table"] == "2"], cells[cells["table"] == "a4"]
    ours = table_a4(rows, tasks or {})
    ours = ours[(ours["line"] == "ours") & (ours["state"] == "value")]
    out = []
    for aggregate in dict.fromkeys(totals["group"]):
        which = members(aggregate)
        part = single[single["group"].isin(which["groups"]) & single["dataset"].str.contains(which["parts"][0], regex=False)]
        n = part["dataset"].nunique()
        mine = ours[ours["dataset"].isin(part["dataset"])]
        out += [c | dict(group="", dataset=f"{aggregate} ({n} datasets)")
                for c in _paper_lines(totals[totals["group"] == aggregate]) + _sum_line(part, "Table A.4 added up", n, "not reported")]
        for detail, run in mine.groupby("detail", sort=False):
            sums = _sum_line(run, "ours", n, "not run")
            if any(c["state"] == "value" for c in sums):
                out += [c | dict(group="", dataset=f"{aggregate} ({n} datasets)", detail=detail) for c in sums]
    return pd.DataFrame(out, columns=CELL)


def _sum_line(cells: pd.DataFrame, line: str, n: int, absent: str) -> list[dict]:
    """The sum over n datasets of each method's means; no number where one of them is missing."""
    out = []
    for method in METHODS:
        means = cells.loc[cells["method"] == method, "mean"]
        state = "value" if len(means) == n and means.notna().all() else "illegible" if len(means) == n else absent
        out.append(dict(line=line, detail="", method=method, state=state, mean=means.sum() if state == "value" else None, std=None, n="",
                        note=""))
    return out


def _number(x: float, digits: int) -> str:
    """A true minus sign, and never minus zero."""
    text = f"{x:.{digits}f}".replace("-", "−")
    return text.lstrip("−") if not text.strip("−0.") else text


def _cell(cell, notes: dict[str, int]) -> str:
    if cell.state != "value":
        text = {"not reported": '<span aria-hidden="true">–</span><span class="arq-hidden">not reported</span>'}.get(cell.state, cell.state)
    else:
        digits = 1 if cell.line == "ours" else 0
        text = f"<b>{_number(cell.mean, digits)}</b>"
    if pd.notna(cell.std):
        text += f" ± {_number(cell.std, 1)}"
    if cell.n:
        text += f'<br><small>{cell.n}</small>'
    if cell.note:
        text += f"<sup>{notes.setdefault(cell.note, len(notes) + 1)}</sup>"
    return f'<td class="arq-{cell.state.replace(" ", "-")}">{text}</td>'


def to_html(cells: pd.DataFrame, caption: str, name: str) -> str:
    """An accessible table: heads with scope, a caption, a focusable region that scrolls sideways, notes below. `name` is its id."""
    notes: dict[str, int] = {}
    shown = [m for m in METHODS if (cells.loc[cells["method"] == m, "state"].isin(["value", "illegible"])).any()]
    body, group = [], None
    for (g, dataset, line, detail), part in cells.groupby(["group", "dataset", "line", "detail"], sort=False):
        if g and g != group:
            body.append(f'<tr class="arq-group"><th scope="rowgroup" colspan="{len(shown) + 1}"><span>{escape((GROUPS | OWN_SUITES)[g])}</span></th></tr>')
            group = g
        first = "<br>".join(filter(None, [escape(dataset), f"<small>{escape(', '.join(filter(None, [line, detail])))}</small>"]))
        by_method = {cell.method: cell for cell in part.itertuples()}
        body.append(f'<tr class="arq-{"ours" if line == "ours" else "paper"}"><th scope="row">{first}</th>'
                    + "".join(_cell(by_method[m], notes) for m in shown) + "</tr>")
    head = '<th scope="col">dataset</th>' + "".join(f'<th scope="col">{METHODS[m]}</th>' for m in shown)
    foot = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (f'<figure class="arq-table" id="{name}"><figcaption id="{name}-caption">{escape(caption)}</figcaption>'
            f'<div class="arq-scroll" role="region" tabindex="0" aria-labelledby="{name}-caption"><table><thead><tr>{head}</tr></thead>'
            f'<tbody>{"".join(body)}</tbody></table></div>' + (f'<ol class="arq-notes">{foot}</ol>' if foot else "") + "</figure>")
