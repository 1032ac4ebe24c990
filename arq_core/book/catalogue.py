"""The datasets of `data/tasks.csv` as tables of the book: what each is, whether it can be had here,
and what a collected one is like.

Nothing is fetched or collected: what is at hand is asked of the cache alone. Numbers come from the
table, from committed cards (data/cards/*.json) and from `data/published_datasets.csv`, whose every
line names its source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup, escape

from arq_core.book import html
from arq_core.book.html import Row
from arq_core.config.files import files_in, read_csv, read_text
from arq_core.config.labels import SUITES
from arq_core.config.paths import DATA
from arq_core.config.tasks import Task, task, tasks
from arq_core.datasets import at_hand
from arq_core.datasets import passports as passports_of_tasks

LAYOUTS = {
    "robomimic": "robomimic's HDF5",
    "ogbench": "OGBench's npz",
    "minari": "Minari's HDF5",
    "ours": "none: computed",
}  # all others are D4RL's
STATES = {
    "here": "at hand",
    "computed": "computed here",
    "stand-in": "a collected stand-in is at hand",
    "download": "by download",
    "collect": "by one command",
}
COMPARED = {
    "transitions": "steps",
    "episodes": "episodes",
    "return_mean": "mean return",
    "return_std": "its std",
    "return_max": "best return",
}


def state(row: Task) -> str:
    """A key of STATES: how the task's data can be had on this machine."""
    if row.made == "compute":
        return "computed"
    if at_hand.file_of(row):
        return "here"
    if row.made == "collect":
        return "collect"
    stand_ins = [name for name in at_hand.stand_ins(row) if at_hand.file_of(task(name))]
    return "stand-in" if stand_ins else "download"


def layout(row: Task) -> str:
    """The layout of its file, and with it the reader."""
    return (
        LAYOUTS.get(row.suite, "D4RL's HDF5")
        if row.fidelity != "rebuilt"
        else "a pickle, read by name"
    )


def _suite(row: Task) -> str:
    return "recollected" if row.made == "collect" else row.suite


def scale(row: Task) -> str:
    """The returns that score 0 and 100, in as many digits as tell them apart."""
    return f"{row.score_min:,.6g} to {row.score_max:,.6g}".replace("-", "−")


def shown(name: str, small: str) -> Markup:
    """A heading of a row: a name that may break after a hyphen, and a word below it."""
    breaks = escape(name).replace("-", Markup("-<wbr>"))
    return Markup("{}<br><small>{}</small>").format(breaks, small)


def overview(rows: Iterable[Task] | None = None) -> Markup:
    """One line a dataset, by suite, with a box that filters them (filter.js)."""
    rows = list(tasks().values() if rows is None else rows)
    heads = (
        "dataset",
        "how to have it here",
        "layout",
        "simulator",
        "state, action",
        "horizon",
        "scores 0 to 100 at",
        "licence of the data",
    )
    body = []
    for suite in SUITES:
        some = [r for r in rows if _suite(r) == suite]
        if some:
            body.append(Row(f"{SUITES[suite]}, {len(some)}"))
        for r in some:
            cells = (
                _bold(STATES[state(r)]),
                layout(r),
                r.simulator,
                f"{r.state_dim}, {r.action_dim}",
                f"{r.horizon:,}",
                scale(r),
                r.licence or "not stated",
            )
            body.append(Row(shown(r.task, r.fidelity), cells))
    caption = (
        "The datasets of the paper's Table A.4, of two later benchmarks and our own, and what can "
        "be had on the machine that made this page"
    )
    return _table(
        "datasets-overview", caption, heads, body, kind="arq-catalogue", filtered="datasets"
    )


def _bold(text: str) -> Markup:
    return Markup("<b>{}</b>").format(text)


def _table(name: str, caption: str, heads: Sequence[str], body: Iterable[Row], **about) -> Markup:
    return html.table(caption, body, heads, name=name, label=f"{name}-caption", **about)


def facts_table(facts: Mapping[str, str], caption: str) -> Markup:
    """Two columns: what, and its value."""
    name = "facts-" + "".join(c if c.isalnum() else "-" for c in caption.lower())
    body = (Row(k, [_linked(v)]) for k, v in facts.items() if v)
    return _table(name, caption, (), body, kind="arq-facts")


def _linked(text: str) -> Markup:
    """Escaped text whose addresses are links."""
    link = r'<a href="\g<0>">\g<0></a>'
    return Markup(re.sub(r"https?://[^\s<>&]*[^\s<>&.,;:)]", link, str(escape(text))))


def passport_facts(row: Task) -> dict[str, str]:
    """How to have it and what an episode is, here; then its passport as published
    (datasets.passports).
    """
    here = {
        "how to have it here": STATES[state(row)],
        "stand-in": ", ".join(at_hand.stand_ins(row)),
        "layout": layout(row),
        "where episodes end": f"by the rule {row.cuts}" if row.cuts else "",
        "simulator": row.simulator,
        "an episode": f"at most {row.horizon:,} steps; it ends earlier: {row.termination}",
        "recorded reward": row.reward,
    }
    return here | dict(passports_of_tasks.of(row).lines())


def passport(name: str) -> Markup:
    """A dataset's facts as a table."""
    return facts_table(passport_facts(task(name)), f"Passport of {name}")


def passports(rows: Iterable[Task] | None = None) -> Markup:
    """Every passport, folded, with a box that filters them (filter.js)."""
    rows = tasks().values() if rows is None else rows
    one = Markup(
        '<details class="arq-passport" id="passport-{0}"><summary>{0} <small>{1}</small>'
        "</summary>{2}</details>"
    )
    folded = Markup().join(one.format(r.task, STATES[state(r)], passport(r.task)) for r in rows)
    return Markup(
        '<figure class="arq-table arq-passports" data-filter="passports">{}</figure>'
    ).format(folded)


def counts(rows: Iterable[Task] | None = None) -> dict[str, int]:
    """How many datasets of the paper are in each state of STATES."""
    found = [state(r) for r in (tasks().values() if rows is None else rows) if r.published_name]
    return {word: found.count(key) for key, word in STATES.items() if key in found}


def published(path: Path = DATA / "published_datasets.csv") -> list[dict[str, str]]:
    """What publishers state of their datasets: dataset, version, statistic (a key of COMPARED),
    value, source.
    """
    return read_csv(path, "dataset")


def card_numbers(card: Mapping) -> dict[str, float]:
    """The statistics of COMPARED from a collected dataset's card."""
    r = card["returns"]
    return {
        "transitions": card["transitions"],
        "episodes": card["episodes"],
        "return_mean": r["mean"],
        "return_std": r["std"],
        "return_max": r["max"],
    }


def comparison(cards: Mapping[str, Mapping], said: Sequence[Mapping[str, str]]) -> Markup:
    """Ours beside the published: a line for each collected dataset, then one for each dataset
    that it stands for (column `for`).
    """
    body, notes = [], {}
    for name, card in cards.items():
        ours = card_numbers(card)
        cells = [_bold(_amount(ours[k])) for k in COMPARED]
        body.append(Row(shown(name, "ours"), cells, "arq-ours"))
        for dataset in dict.fromkeys(s["dataset"] for s in said if s["for"] == name):
            lines = {s["statistic"]: s for s in said if (s["for"], s["dataset"]) == (name, dataset)}
            cells = [_published_cell(lines.get(k), notes) for k in COMPARED]
            body.append(Row(shown(dataset, "published"), cells, "arq-paper"))
    caption = "Collected datasets beside what is published of those that they stand for"
    heads = ("dataset", *COMPARED.values())
    sources = [_linked(note) for note in notes]
    return _table("datasets-compared", caption, heads, body, notes=sources)


def _amount(x: float) -> str:
    """A count in full, any other number in five digits."""
    return f"{x:,.0f}" if float(x).is_integer() else f"{x:,.5g}"


def _published_cell(line: Mapping[str, str] | None, notes: dict[str, int]) -> Markup:
    if line is None:
        return html.dash("not reported")
    number = notes.setdefault(line["source"], len(notes) + 1)
    return Markup("{}<sup>{}</sup>").format(_amount(float(line["value"])), number)


def cards(folder: Path = DATA / "cards") -> dict[str, dict]:
    """Committed cards of collected datasets, by name."""
    return {p.stem: json.loads(read_text(p)) for p in files_in(folder, "*.json")}


def card_facts(card: Mapping) -> dict[str, str]:
    """A collected dataset's card in words: counts, returns, then its own texts."""
    r, t = card["returns"], card["lengths"]
    ends = f"{card['terminals']:,} ended, {card['timeouts']:,} were cut"
    return {
        "holds": f"{card['transitions']:,} steps, {card['episodes']:,} episodes: {ends}",
        "returns": f"{r['mean']:,.5g} ± {r['std']:,.4g}, from {r['min']:,.5g} to {r['max']:,.5g}",
        "steps of an episode": f"{t['min']:,} to {t['max']:,}",
        "SHA-256": card["sha256"],
    } | dict(card["card"])


def versions_table(family: str, path: Path = DATA / "dataset_versions.csv") -> Markup:
    """Files that go by one name ("d4rl" or "robomimic"): what is different, and who says so."""
    rows = [r for r in read_csv(path, "family") if r["family"] == family]
    body = (Row(r["files"], [r["what is different"], _source(r["source"])]) for r in rows)
    heads = ("files", "what is different", "who says so")
    return _table(f"versions-{family}", "Files of one name", heads, body, kind="arq-versions")


def _source(address: str) -> Markup:
    """A link that shows whose page it is."""
    host = address.removeprefix("https://").split("/")[0]
    return Markup('<a href="{}">{}</a>').format(address, host)
