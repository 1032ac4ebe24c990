"""Table A.4, Table 2 and the table of our own datasets as CSV, LaTeX and Markdown, for use in
papers.

CSV has a line for each cell of ours, run or not, with everything needed to find the rows it was
made from. LaTeX (longtable, booktabs) and Markdown have the tables' layout, without our lines that
were not run; each ends with the files of rows, their hashes, commits and data. `tables.tex` is a
document that shows the three.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from arq_core.config.files import sha256_of, write_atomic
from arq_core.config.labels import GROUPS, OWN_SUITES, columns
from arq_core.results.rows import STD_DDOF
from arq_core.results.tables import table_a4, table_own, task_names
from arq_core.results.totals import table_2

COLUMNS = (
    "table",
    "group",
    "dataset",
    "task",
    "method",
    "profile",
    "variant",
    "fidelity",
    "state",
    "job_file",
    "rows_sha256",
    "commits",
    "dataset_sha256",
    "seeds",
    "episodes",
    "mean",
    "std",
    "std_ddof",
    "paper_state",
    "paper_mean",
    "paper_std",
    "paper_note",
    "paper_source",
    "difference",
    "verdict",
    "reason",
)
CAPTIONS = {
    "table_a4": "Table A.4: normalised score by dataset and method, the paper's and ours.",
    "table_2": "Table 2: normalised scores added up over groups of datasets, the paper's and ours.",
    "own_datasets": "Our own datasets: normalised score. No number of the paper is of the same "
    "data.",
}
MARKS = {
    "reproduced": "r",
    "not reproduced": "n",
    "smoke test": "s",
    "not comparable": "c",
    "failed": "f",
}
EXPLAINED = (
    "Mean ± standard deviation over seeds (ours with divisor n − 1). In the "
    "names of our lines: seeds × episodes, the least of the line; "
    + ", ".join(f"{mark}: {word}" for word, mark in MARKS.items())
    + "."
)
SYMBOLS = {
    "<i>s</i><sub>ψ</sub>": r"$s_\psi$",
    "<i>Q</i><sup>β</sup>": r"$Q^\beta$",
    "<i>π</i><sub>ϕ</sub>": r"$\pi_\phi$",
}
SIGNS = str.maketrans({"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "–": "--"})
DOCUMENT = r"""% longtable finds the widths of its columns in the second run of pdflatex.
\documentclass[a4paper,landscape]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=8mm]{geometry}
\usepackage{booktabs,longtable}
\setlength{\tabcolsep}{2pt}
\setlength{\LTcapwidth}{\textwidth}
\begin{document}
\tiny
TABLES
\end{document}
"""


def _plain(x: float | None, form: str = ".10g") -> str:
    return "" if x is None or pd.isna(x) else format(float(x), form)


def _sha256(jobs: Iterable[str], results: Path) -> dict[str, str]:
    return {job: sha256_of(results / f"{job}.jsonl") for job in jobs}


def to_csv(name: str, cells: pd.DataFrame, hashes: Mapping[str, str]) -> str:
    """A line for each cell of ours. Several jobs of a total are separated by spaces."""
    out = io.StringIO()
    write = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    write.writeheader()
    papers = {(c.dataset, c.method): c for c in cells.itertuples() if c.line == "paper"}
    for c in cells[cells["line"] == "ours"].itertuples():
        paper = papers.get((c.dataset, c.method))
        write.writerow(
            dict(
                table=name,
                group=c.group,
                dataset=c.dataset,
                task=c.task,
                method=c.method,
                profile=c.profile,
                variant=c.variant,
                fidelity=c.fidelity,
                state=c.state,
                job_file=" ".join(f"{job}.jsonl" for job in c.jobs),
                rows_sha256=" ".join(hashes[job] for job in c.jobs),
                commits=" ".join(c.commits),
                dataset_sha256=" ".join(c.data),
                seeds=c.seeds or "",
                episodes=c.episodes or "",
                mean=_plain(c.mean),
                std=_plain(c.std),
                std_ddof=STD_DDOF if c.state == "value" else "",
                paper_state=paper.state if paper else "no such dataset",
                paper_mean=_plain(c.paper_mean),
                paper_std=_plain(c.paper_std),
                paper_note=paper.note if paper else "",
                paper_source=paper.source if paper else "",
                difference=_plain(c.difference, ".6g"),
                verdict=c.verdict,
                reason=c.reason,
            )
        )
    return out.getvalue()


def _number(cell) -> str:
    """What a cell shows: unmarked for the paper, marked by its verdict for ours."""
    if cell.state != "value":
        return {"not reported": "–"}.get(cell.state, cell.state)
    mean = f"{cell.mean:.{1 if cell.line == 'ours' else 0}f}"
    return (mean + (f" ± {cell.std:.1f}" if not pd.isna(cell.std) else "")).replace("-", "−")


def _lines(cells: pd.DataFrame) -> Iterable[tuple[str, str, list]]:
    """(group, head, cells) of each line that has something to show."""
    for (group, dataset, line, detail), part in cells.groupby(
        ["group", "dataset", "line", "detail"], sort=False
    ):
        if set(part["state"]) == {"not run"}:
            continue
        counts = part.loc[part["state"] == "value", ["seeds", "episodes"]]
        size = (
            f", {counts['seeds'].min()} × {counts['episodes'].min()}"
            if line == "ours" and len(counts)
            else ""
        )
        yield (
            (GROUPS | OWN_SUITES).get(group, ""),
            f"{dataset}: {line}{f' ({detail}{size})' if detail else ''}",
            list(part.itertuples()),
        )


def _shown(cells: pd.DataFrame) -> list[str]:
    return [
        m
        for m in dict.fromkeys(cells["method"])
        if cells.loc[cells["method"] == m, "state"].isin(["value", "illegible", "failed"]).any()
    ]


def _sources(cells: pd.DataFrame, hashes: Mapping[str, str]) -> list[str]:
    ours = cells[(cells["line"] == "ours") & (cells["jobs"].map(len) == 1)]
    return [
        f"{c.jobs[0]}.jsonl: SHA-256 {hashes[c.jobs[0]]}, commit "
        f"{', '.join(c.commits)}, data {', '.join(c.data)}"
        for c in ours.itertuples()
    ]


def _text(cell) -> str:
    """What a cell shows, with the mark of its verdict behind a number of ours."""
    marked = cell.verdict and cell.state == "value"
    return _number(cell) + (f" ({MARKS[cell.verdict]})" if marked else "")


def _table(rows: dict[str, list[str]], heads: Sequence[str]) -> pd.DataFrame:
    """Lines by their heads, or a line that says that there are none."""
    return pd.DataFrame.from_dict(
        rows or {"nothing was run": [""] * len(heads)}, orient="index", columns=list(heads)
    )


def to_markdown(
    name: str, shown: Sequence[str], lines: Sequence[tuple], sources: Sequence[str]
) -> str:
    """A table of pipes, as GitHub and Pandoc read it.

    `lines` are those of `_lines`, `shown` the methods that have a column.
    """
    rows = {head: [_text(c) for c in line if c.method in shown] for _, head, line in lines}
    heads = [re.sub("<.*?>", "", columns(shown)[m]) for m in shown]
    text = _table(rows, heads).to_markdown(
        colalign=["left"] + ["right"] * len(shown), disable_numparse=True
    )
    listed = (f"- {source}" for source in sources)
    return "\n".join([f"{CAPTIONS[name]} {EXPLAINED}", "", text, "", *listed, ""])


def _tex(escaped: str) -> str:
    """Our signs in a text whose special characters are escaped; a mark is raised."""
    return re.sub(r" \((\w)\)$", r"\\textsuperscript{\1}", escaped.translate(SIGNS))


def _tex_method(method: str) -> str:
    head = columns([method])[method].replace("_", r"\_")
    for html, symbol in SYMBOLS.items():
        head = head.replace(html, symbol)
    return re.sub("</?small>", "", head)


def to_latex(
    name: str, shown: Sequence[str], lines: Sequence[tuple], sources: Sequence[str]
) -> str:
    """A longtable with booktabs, to be read by \\input; a line without numbers heads each group."""
    rows: dict[str, list[str]] = {}
    for group, head, line in lines:
        if group:
            rows.setdefault(group, [""] * len(shown))
        rows[head] = [_text(c) for c in line if c.method in shown]
    groups = {group for group, _, _ in lines}
    style = _table(rows, [_tex_method(m) for m in shown]).style
    style = style.format(_tex, escape="latex").format_index(_tex, escape="latex")
    style = style.map_index(lambda head: "textit:--rwrap;" if head in groups else "")
    text = style.to_latex(
        environment="longtable",
        hrules=True,
        column_format="l" + "r" * len(shown),
        caption=f"{CAPTIONS[name]} {EXPLAINED}".translate(SIGNS),
    )
    return "\n".join([*(f"% {source}" for source in sources), text])


def export(
    folder: str | Path,
    results: str | Path,
    rows: Sequence[dict],
    runs: Mapping[str, dict],
    failures: Sequence[dict],
) -> list[Path]:
    """Write all files into a folder, each whole or not at all; returns their paths."""
    folder, names = Path(folder), task_names()
    made = {
        "table_a4": table_a4(rows, names, runs=runs, failures=failures),
        "table_2": table_2(rows, names, runs=runs, failures=failures),
        "own_datasets": table_own(rows, runs=runs, failures=failures),
    }
    hashes = _sha256(
        {job for cells in made.values() for jobs in cells["jobs"] for job in jobs}, Path(results)
    )
    out = {}
    for name, cells in made.items():
        shown = _shown(cells), list(_lines(cells)), _sources(cells, hashes)
        out |= {
            f"{name}.csv": to_csv(name, cells, hashes),
            f"{name}.md": to_markdown(name, *shown),
            f"{name}.tex": to_latex(name, *shown),
        }
    out["tables.tex"] = DOCUMENT.replace(
        "TABLES", "\n".join(rf"\input{{{name}.tex}}\clearpage" for name in made)
    )
    for name, text in out.items():
        write_atomic(folder / name, text)
    return [folder / name for name in out]
