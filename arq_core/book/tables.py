"""The tables of results as HTML: readable as it is, sorted and filtered by `book/_static/tables.js`
where scripts run.

A block is a dataset: the paper's line and ours below it. A number of ours links to its evidence;
the word below it opens the verdict's reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from markupsafe import Markup, escape

from arq_core.book import html
from arq_core.book.evidence import address
from arq_core.book.html import Row
from arq_core.config.labels import GROUPS, METHODS, OWN_SUITES, VARIANTS, columns
from arq_core.results.equivalence import (
    CONFIDENCE,
    DIFFERENT,
    EQUIVALENT,
    Compared,
    Equivalence,
    Untested,
)
from arq_core.results.rows import file_name
from arq_core.results.verdicts import SMOKE_TEST, WORDS

SIGNS = {
    "reproduced": "✓",
    "not reproduced": "≠",
    "smoke test": "·",
    "not comparable": "○",
    "failed": "✕",
    "not run": "",
}
ARQ = ("arq+s_psi", "arq+pi")  # the paper's subject


def anchor(dataset: str) -> str:
    """The id of a dataset in the table that has such ids."""
    return f"line-{dataset}"


def number(x: float, digits: int, sign: bool = False) -> str:
    """A true minus sign, and never minus zero."""
    text = f"{x:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text.lstrip("+−")


def known(x) -> bool:
    """Whether there is a number."""
    return x is not None and not math.isnan(x)


def said(mean, std, digits: int) -> str:
    """A mean, and its spread where there is one."""
    return number(mean, digits) + (f" ± {number(std, 1)}" if known(std) else "")


def facts(cell) -> str:
    """A cell of ours in one sentence: ours, the paper's, the difference, and what ours rests on."""
    paper = f"; paper {said(cell.paper_mean, cell.paper_std, 0)}" if known(cell.paper_mean) else ""
    apart = (
        f"; difference {number(cell.difference, 1, True)} combined spreads"
        if known(cell.difference)
        else ""
    )
    return (
        f"Ours {said(cell.mean, cell.std, 1)} ({cell.seeds} seeds × "
        f"{cell.episodes} episodes, profile {cell.profile}, {cell.fidelity} "
        f"data){'' if cell.verdict == SMOKE_TEST else paper}{apart}."
    )


def _line(part: pd.DataFrame, shown: list[str]) -> dict:
    """A line of a dataset; only ours has `words`, and `nothing` where no cell of it was run."""
    cells = {cell.method: cell for cell in part.itertuples()}
    first = next(iter(cells.values()))
    about = ", ".join(filter(None, [first.line, first.detail]))
    line = dict(about=about, cells=[cells[m] for m in shown])
    if first.line != "ours":
        return line | dict(words=[])
    words = set(part["verdict"]) - {"not run"}
    reasons = list(part["reason"])
    return line | dict(
        profile=first.profile,
        fidelity=first.fidelity,
        words=sorted(words) or ["not run"],
        nothing="" if words else max(reasons, key=reasons.count),
        folded=words == {SMOKE_TEST},
    )


def _blocks(cells: pd.DataFrame, shown: list[str]) -> Iterator[dict]:
    """The datasets; the first of a group has its heading."""
    group = None
    for (g, dataset), block in cells.groupby(["group", "dataset"], sort=False):
        label = (GROUPS | OWN_SUITES).get(g, dataset)
        lines = block.groupby(["line", "detail"], sort=False)
        yield dict(
            dataset=dataset,
            group=label,
            heading=label if g and g != group else "",
            lines=[_line(part, shown) for _, part in lines],
        )
        group = g or group


def heads(methods: Iterable[str]) -> dict[str, Markup]:
    """How methods with a column are written, ARQ's two first, a user's own last."""
    wanted = set(methods)
    known = columns(wanted)
    return {m: Markup(known[m]) for m in dict.fromkeys([*ARQ, *known]) if m in wanted}


def to_html(
    cells: pd.DataFrame, caption: str, name: str, evidence: str = "evidence/", anchors: bool = False
) -> Markup:
    """An accessible table: heads with scope, a caption, a focusable region that scrolls sideways,
    notes below; on paper all reasons as a list. Smoke tests are folded.

    `name` is its id, `evidence` the way from its page to the folder of the evidence; with
    `anchors`, each dataset has an id, `anchor(dataset)`.
    """
    filled = set(cells.loc[cells["state"].isin(["value", "illegible", "failed"]), "method"])
    methods = heads(filled or METHODS)
    return html.figure(
        "results",
        caption,
        ["dataset", *methods.values()],
        name=name,
        label=f"{name}-caption",
        kind="arq-results",
        notes={},
        blocks=_blocks(cells, list(methods)),
        evidence=evidence,
        methods=methods,
        signs=SIGNS,
        anchor=anchor if anchors else None,
        told=[c for c in cells.itertuples() if c.verdict not in ("", "not run")],
        number=number,
        known=known,
        facts=facts,
        address=address,
    )


def folded(caption: str, table: Markup) -> Markup:
    """A table behind its caption; the way to one of its datasets opens it (tables.js)."""
    return Markup('<details class="arq-folded"><summary>{}</summary>{}</details>').format(
        caption, table
    )


def legend_html() -> Markup:
    """What a cell can look like, and what it then means."""
    return html.figure(
        "legend",
        "How to read a cell",
        ["a cell", "what it says"],
        kind="arq-legend",
        words=WORDS,
        signs=SIGNS,
    )


def _cell_name(cell: Equivalence | Untested) -> Markup:
    """The dataset and, below it, the method as the tables write it."""
    method = Markup(METHODS.get(cell.method, escape(cell.method)))
    variant = "" if cell.variant == VARIANTS[0] else f", {cell.variant}"
    return Markup("{}<br><small>{}{}</small>").format(cell.task, method, variant)


def _equivalence(cell: Equivalence, evidence: str) -> Row:
    digits = 1 if cell.margin >= 1 else 3  # a score from 0 to 1 has a small margin
    said = {
        EQUIVALENT: f"equivalent within {cell.margin:g}",
        DIFFERENT: f"differs by {number(cell.difference, digits, True)}",
    }.get(cell.verdict, cell.verdict)

    def mean(value: float, profile: str, seeds: int, episodes: int) -> Markup:
        job = Path(file_name(cell.task, profile, cell.method, cell.variant)).stem
        return Markup('<a href="{}">{}</a><br><small>{} × {}</small>').format(
            evidence + address(job), number(value, digits), seeds, episodes
        )

    limits = (number(x, digits, True) for x in (cell.low, cell.high))
    return Row(
        _cell_name(cell),
        [
            said,
            number(cell.difference, digits, True),
            " to ".join(limits),
            mean(cell.first_mean, cell.first, cell.first_seeds, cell.first_episodes),
            mean(cell.second_mean, cell.second, cell.second_seeds, cell.second_episodes),
        ],
    )


def equivalences_html(
    compared: Compared,
    first: str,
    second: str,
    caption: str,
    name: str,
    evidence: str = "evidence/",
) -> Markup:
    """A line for each cell that has rows at profiles `first` and `second`: whether they are
    equivalent, the difference and its interval, both means (seeds × episodes) with links to their
    evidence. What could not be tested comes last, the reasons below.

    `name` is the table's id, `evidence` the way from its page to the folder of the evidence.
    """
    rows = [_equivalence(cell, evidence) for cell in compared.tested]
    for i, cell in enumerate(compared.untested, 1):
        said = Markup("not tested<sup>{}</sup>").format(i)
        rows.append(Row(_cell_name(cell), [said, *[html.dash("not tested")] * 4]))
    heads = ["dataset, method", "verdict", "difference", f"{CONFIDENCE:.0%} interval"]
    return html.table(
        caption,
        rows,
        [*heads, first, second],
        name=name,
        label=f"{name}-caption",
        notes=[cell.reason for cell in compared.untested],
    )
