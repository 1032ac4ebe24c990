"""The tables of results as HTML: readable as it is, sorted and filtered by `book/_static/tables.js` where scripts run.

A block is a dataset: the paper's line and ours below it. A number of ours links to its evidence; the word below it opens the verdict's reason.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

import pandas as pd

from arq_core.book.evidence import address
from arq_core.config.labels import GROUPS, METHODS, OWN_SUITES
from arq_core.results.verdicts import WORDS

SIGNS = {"reproduced": "✓", "not reproduced": "≠", "not comparable": "○", "failed": "✕", "not run": ""}


def number(x: float, digits: int, sign: bool = False) -> str:
    """A true minus sign, and never minus zero."""
    text = f"{x:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text.lstrip("+−")


def _known(x) -> bool:
    return x is not None and not math.isnan(x)


def _said(mean, std, digits: int) -> str:
    return number(mean, digits) + (f" ± {number(std, 1)}" if _known(std) else "")


def facts(cell) -> str:
    """A cell of ours in one sentence: ours, the paper's, the difference, and what ours rests on."""
    paper = f"; paper {_said(cell.paper_mean, cell.paper_std, 0)}" if _known(cell.paper_mean) else ""
    apart = f"; difference {number(cell.difference, 1, True)} combined spreads" if _known(cell.difference) else ""
    return (f"Ours {_said(cell.mean, cell.std, 1)} ({cell.seeds} seeds × {cell.episodes} episodes, profile {cell.profile}, {cell.fidelity} data)"
            f"{paper}{apart}.")


def _class(state: str) -> str:
    return f"arq-{state.replace(' ', '-')}"


def _verdict(cell, links: str = "") -> str:
    told = f"{facts(cell)} {cell.reason}" if cell.state == "value" else cell.reason
    sign = f'<span aria-hidden="true">{SIGNS[cell.verdict]} </span>' if SIGNS[cell.verdict] else ""
    return (f'<details class="arq-verdict {_class("is-" + cell.verdict)}"><summary title="{escape(cell.reason)}">{sign}{cell.verdict}</summary>'
            f"<p>{escape(told)}{links}</p></details>")


def _ours(cell, evidence: str) -> str:
    """A cell of ours. One job: the number is the link; a total links to the evidence of all it adds up."""
    if cell.state == "not run":
        return f'<td class="arq-not-run" title="{escape(cell.reason)}">not run</td>'
    if cell.state == "failed":
        return f'<td class="arq-failed">{_verdict(cell)}</td>'
    links = [f'<a href="{escape(evidence + address(job))}">{escape(job.split(".")[0])}</a>' for job in cell.jobs]
    text = f"<b>{number(cell.mean, 1)}</b>" + (f" ± {number(cell.std, 1)}" if _known(cell.std) else "")
    if len(cell.jobs) == 1:
        text = f'<a href="{escape(evidence + address(cell.jobs[0]))}">{text}</a>'
    apart = f"<small>Δ {number(cell.difference, 1, True)}</small>" if _known(cell.difference) else ""
    keys = f' data-mean="{cell.mean:.6g}"' + (f' data-difference="{cell.difference:.6g}"' if _known(cell.difference) else "")
    more = f" Evidence: {', '.join(links)}." if len(links) > 1 else f' <a href="{escape(evidence + address(cell.jobs[0]))}">Evidence</a>'
    return f'<td class="arq-value"{keys}>{text}<small>{cell.n}</small>{apart}{_verdict(cell, more)}</td>'


def _paper(cell, notes: dict[str, int]) -> str:
    text = {"not reported": '<span aria-hidden="true">–</span><span class="arq-hidden">not reported</span>'}.get(cell.state, cell.state)
    if cell.state == "value":
        text = f"<b>{number(cell.mean, 0)}</b>"
    if _known(cell.std):
        text += f" ± {number(cell.std, 1)}"
    if cell.note:
        text += f"<sup>{notes.setdefault(cell.note, len(notes) + 1)}</sup>"
    key = f' data-mean="{cell.mean:.6g}"' if cell.state == "value" else ""
    return f'<td class="{_class(cell.state)}"{key}>{text}</td>'


def _line(head: str, part: pd.DataFrame, shown: list[str], notes: dict[str, int], evidence: str) -> str:
    cells = {cell.method: cell for cell in part.itertuples()}
    first = next(iter(cells.values()))
    row = f'<tr class="arq-{"ours" if first.line == "ours" else "paper"}"'
    if first.line != "ours":
        return f'{row}><th scope="row">{head}</th>' + "".join(_paper(cells[m], notes) for m in shown) + "</tr>"
    words = set(part["verdict"]) - {"not run"} or {"not run"}
    keys = {"profile": first.profile, "fidelity": first.fidelity, "verdict": "|".join(sorted(words))}
    row += "".join(f' data-{key}="{escape(value)}"' for key, value in keys.items()) + f'><th scope="row">{head}</th>'
    if words == {"not run"}:
        most = max(part["reason"], key=list(part["reason"]).count)
        return f'{row}<td class="arq-not-run" colspan="{len(shown)}"><span>not run. {escape(most)}</span></td></tr>'
    return row + "".join(_ours(cells[m], evidence) for m in shown) + "</tr>"


def _blocks(cells: pd.DataFrame, shown: list[str], notes: dict[str, int], evidence: str) -> Iterable[str]:
    group = None
    for (g, dataset), block in cells.groupby(["group", "dataset"], sort=False):
        label = escape((GROUPS | OWN_SUITES).get(g, dataset))
        if g and g != group:
            yield (f'<tbody class="arq-heads"><tr class="arq-group"><th scope="rowgroup" colspan="{len(shown) + 1}"><span>{label}</span></th></tr>'
                   "</tbody>")
            group = g
        lines = []
        for (line, detail), part in block.groupby(["line", "detail"], sort=False):
            about = ", ".join(filter(None, [line, detail]))
            called = f'<span class="arq-hidden">{escape(dataset)}: </span>' if lines else f"{escape(dataset)}<br>"    # seen once a block
            lines.append(_line(f"{called}<small>{escape(about)}</small>", part, shown, notes, evidence))
        yield f'<tbody data-dataset="{escape(dataset)}" data-group="{label}">{"".join(lines)}</tbody>'


def to_html(cells: pd.DataFrame, caption: str, name: str, evidence: str = "evidence/") -> str:
    """An accessible table: heads with scope, a caption, a focusable region that scrolls sideways, notes below; on paper all reasons as a list.

    `name` is its id, `evidence` the way from its page to the folder of the evidence.
    """
    notes: dict[str, int] = {}
    shown = [m for m in METHODS if cells.loc[cells["method"] == m, "state"].isin(["value", "illegible", "failed"]).any()] or list(METHODS)
    body = "".join(_blocks(cells, shown, notes, evidence))
    head = '<th scope="col">dataset</th>' + "".join(f'<th scope="col">{METHODS[m]}</th>' for m in shown)
    told = [f"<li>{escape(c.dataset)}, {METHODS[c.method]}: {c.verdict}. {escape(facts(c) if c.state == 'value' else '')} {escape(c.reason)}</li>"
            for c in cells.itertuples() if c.verdict not in ("", "not run")]
    foot = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (f'<figure class="arq-table arq-results" id="{name}"><figcaption id="{name}-caption">{escape(caption)}</figcaption>'
            f'<div class="arq-scroll" role="region" tabindex="0" aria-labelledby="{name}-caption"><table><thead><tr>{head}</tr></thead>'
            f"{body}</table></div>" + (f'<ol class="arq-notes">{foot}</ol>' if foot else "")
            + (f'<ul class="arq-notes arq-printed">{"".join(told)}</ul>' if told else "") + "</figure>")


def legend_html() -> str:
    """What a cell can look like, and what it then means."""
    lines = [('<td class="arq-value"><b>9.4</b> ± 1.2<small>3 × 100</small><small>Δ +0.3</small></td>',
              "Ours: mean ± spread over seeds; seeds × episodes; Δ is the difference from the paper's number in combined spreads. The number leads to "
              "its evidence, the word below it opens the reason of the verdict.")]
    for word, meaning in WORDS.items():
        verdict = f'<td><span class="arq-verdict {_class("is-" + word)}"><span aria-hidden="true">{SIGNS[word]}</span> {word}</span></td>'
        lines.append(('<td class="arq-not-run">not run</td>' if word == "not run" else verdict, f"{meaning[0].upper()}{meaning[1:]}."))
    lines += [('<td class="arq-illegible">illegible</td>', "The paper has a number here that cannot be read in the copy this book was made from."),
              ('<td class="arq-not-reported"><span aria-hidden="true">–</span><span class="arq-hidden">a dash</span></td>',
               "The paper reports nothing here.")]
    body = "".join(f"<tr>{cell}<td>{escape(meaning)}</td></tr>" for cell, meaning in lines)
    return ('<figure class="arq-table arq-legend"><figcaption>How to read a cell</figcaption><table><thead><tr><th scope="col">a cell</th>'
            f'<th scope="col">what it says</th></tr></thead><tbody>{body}</tbody></table></figure>')
