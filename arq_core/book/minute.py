"""The results page in a minute: a paragraph and a strip of squares for the paper's datasets, and
each dataset's numbers as dots and whiskers.

All of it is HTML and CSS: it stands without scripts, in both themes and on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from arq_core.book import html
from arq_core.book.evidence import address
from arq_core.book.tables import ARQ, SIGNS, anchor, facts, heads, known, number, said
from arq_core.config.labels import GROUPS, OWN_SUITES
from arq_core.results import overview
from arq_core.results.overview import Dataset

FINE = 10.0  # an axis that is not longer has numbers with two decimals
MARGIN = 0.03  # of an axis, left free at both ends
RULE = (
    "The word of a dataset is the strictest of its cells': not reproduced where one cell with a "
    "verdict is not, reproduced where all that have one are."
)


class Axis:
    """An axis over zero and `values`: round `ticks`, and where a value lies, in percent."""

    def __init__(self, values: Iterable[float]):
        finite = [0.0, *(x for x in values if math.isfinite(x))]
        low, high = min(finite), max(finite)
        span = high - low or 1.0
        self.low, self.span = low - MARGIN * span, (1 + 2 * MARGIN) * span
        power = 10.0 ** math.floor(math.log10(span / 5))
        step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= span / 5.001)
        inside = range(math.ceil(self.low / step), math.floor((self.low + self.span) / step) + 1)
        self.ticks = [k * step for k in inside]
        # as many decimals as the step needs
        self.digits = next(d for d in range(300) if math.isclose(step, round(step, d)))

    def at(self, x: float) -> str:
        """Percent of the axis from its left end."""
        return f"{100 * (x - self.low) / self.span:.2f}"

    def wide(self, x: float) -> str:
        """Percent of the axis that a length takes."""
        return f"{100 * x / self.span:.2f}"


def _ends(cell) -> list[float]:
    spread = cell.std if known(cell.std) else 0.0
    return [cell.mean - spread, cell.mean + spread]


def _grouped(found: Iterable[Dataset]) -> dict[str, list[Dataset]]:
    """By the head of their group."""
    groups: dict[str, list[Dataset]] = {}
    for dataset in found:
        head = (GROUPS | OWN_SUITES).get(dataset.group, dataset.group)
        groups.setdefault(head, []).append(dataset)
    return groups


def _numbers(dataset: Dataset) -> Markup:
    """What the square of a dataset says besides its word."""
    if not dataset.ours:
        return Markup("")
    names = heads(cell.method for cell in dataset.ours)
    order = sorted(dataset.ours, key=lambda cell: list(names).index(cell.method))
    told = Markup("; ").join(
        Markup("{} {}{}").format(
            names[cell.method],
            said(cell.mean, cell.std, 1),
            f" (paper {said(cell.paper_mean, cell.paper_std, 0)})"
            if known(cell.paper_mean)
            else "",
        )
        for cell in order
    )
    return Markup(". Ours, {}: {}").format(dataset.detail, told)


def strip(
    found: Sequence[Dataset], own: Sequence[Dataset] = (), alike: dict[str, str] | None = None
) -> Markup:
    """The paragraph, and a square for each of the paper's datasets `found`. `own` are our datasets;
    `alike` names, by one of the paper's, ours that was made to stand for it.
    """
    has = {dataset.name for dataset in own if dataset.ours}

    def words(dataset: Dataset) -> Markup:
        other = (alike or {}).get(dataset.name)
        more = f". A set of our own that stands for it has numbers: {other}" if other in has else ""
        return _numbers(dataset) + more + "."

    told = filter(None, (overview.beside(found), overview.own(own)))
    counts = overview.counts(found)
    always = ("reproduced", "not reproduced", "not comparable", "not run")
    return Markup("<p><b>{}</b> {}</p>").format(
        overview.sentence(found), " ".join(told)
    ) + html.figure(
        "strip",
        f"The paper's {len(found)} datasets, a square each. {RULE}",
        groups=_grouped(found),
        counts={word: n for word, n in counts.items() if n or word in always},
        signs=SIGNS,
        words=words,
        anchor=anchor,
    )


def dots(found: Sequence[Dataset], evidence: str = "evidence/") -> Markup:
    """A figure for each dataset that has numbers of ours that mean something, under the head of its
    group.
    """
    groups = _grouped(dataset for dataset in found if dataset.ours)
    if not groups:
        return Markup("<p>No number of ours yet that is more than a smoke test.</p>")
    out = Markup("")
    for head, some in groups.items():
        figures = Markup("").join(_figure(dataset, evidence) for dataset in some)
        kind = "arq-beside" if any(d.paper for d in some) else "arq-alone"
        out += Markup(
            '<h3 class="arq-panels-head">{}</h3><div class="arq-panels {}">{}</div>'
        ).format(head, kind, figures)
    return out


def _figure(dataset: Dataset, evidence: str) -> Markup:
    axis = Axis(x for cell in (*dataset.ours, *dataset.paper.values()) for x in _ends(cell))
    ours = {cell.method: cell for cell in dataset.ours}
    # a line each; what only the paper has shares one
    methods = heads([*ours, *dataset.paper])
    drawn = [m for m in methods if m in ours or m in ARQ]
    scale = Markup('<span class="arq-axis">{}</span>').format(
        Markup("").join(
            Markup('<i style="left:{}%">{}</i>').format(axis.at(tick), number(tick, axis.digits))
            for tick in axis.ticks
        )
    )
    sizes = " or ".join(dict.fromkeys(cell.n for cell in dataset.ours))
    others = "; ".join(dataset.others)
    caption = Markup('<a href="#{}">{}</a> <small>{}, {} (seeds × episodes).{}</small>').format(
        anchor(dataset.name),
        dataset.name,
        dataset.detail,
        sizes,
        f" In the table also: {others}." if others else "",
    )
    beside = [Markup("ours"), *(["paper", "verdict"] if dataset.paper else [])]
    return html.figure(
        "dots",
        caption,
        ["method", Markup('<span class="arq-hidden">score</span>') + scale, *beside],
        name=f"dots-{dataset.name}",
        kind="arq-dots",
        lines=[(m, ours.get(m), dataset.paper.get(m)) for m in drawn],
        more=[cell for m, cell in dataset.paper.items() if m not in drawn],
        beside=bool(dataset.paper),
        methods=methods,
        axis=axis,
        number=number,
        digits=1 if axis.span > FINE else 2,
        known=known,
        evidence=evidence,
        address=address,
        signs=SIGNS,
        facts=facts,
    )
