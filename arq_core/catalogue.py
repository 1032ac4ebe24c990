"""The datasets of `data/tasks.csv` as tables of the book: what each is, whether it can be had here, and how far a collected one may stand for it.

Nothing is fetched or collected: what is at hand is asked of the cache alone. Numbers come from the table, from committed cards
(data/cards/*.json) and from `data/published_datasets.csv`, whose every line names its source.
"""
from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from arq_core.datasets import FIDELITIES, at_hand
from arq_core.settings import DATA
from arq_core.tables import GROUPS
from arq_core.tasks import Task, task, tasks

SUITES = GROUPS | {"ours": "Our own problems", "recollected": "Collected by us"}
LAYOUTS = {"robomimic": "robomimic's HDF5", "ours": "none: computed"}       # all others are D4RL's
STATES = {"here": "at hand", "computed": "computed here", "stand-in": "a collected stand-in is at hand", "download": "by download", "collect": "by one command"}
COMPARED = {"transitions": "steps", "episodes": "episodes", "return_mean": "mean return", "return_std": "its std", "return_max": "best return"}


def state(row: Task) -> str:
    """A key of STATES: how the task's data can be had on this machine."""
    if row.simulator == at_hand.IN_NUMPY:
        return "computed"
    if at_hand.file_of(row):
        return "here"
    if at_hand.is_collected(row):
        return "collect"
    stand_ins = [name for name in at_hand.stands_for(row) if at_hand.file_of(task(name))]
    return "stand-in" if stand_ins else "download"


def layout(row: Task) -> str:
    """The layout of its file, and with it the reader."""
    return LAYOUTS.get(row.suite, "D4RL's HDF5") if row.fidelity != "rebuilt" else "a pickle, read by name"


def _suite(row: Task) -> str:
    return "recollected" if at_hand.is_collected(row) else row.suite


def scale(row: Task) -> str:
    """The returns that score 0 and 100, in as many digits as tell them apart."""
    return f"{row.score_min:,.6g} to {row.score_max:,.6g}".replace("-", "−")


def shown(name: str) -> str:
    """A name in a heading of a row, that may break after a hyphen."""
    return escape(name).replace("-", "-<wbr>")


def overview(rows: Iterable[Task] | None = None) -> str:
    """One line a dataset, by suite."""
    rows = list(tasks().values() if rows is None else rows)
    heads = ("dataset", "how to have it here", "layout", "simulator", "state, action", "horizon", "scores 0 to 100 at", "licence of the data")
    body = []
    for suite in SUITES:
        some = [r for r in rows if _suite(r) == suite]
        if some:
            body.append(f'<tr class="arq-group"><th scope="rowgroup" colspan="{len(heads)}"><span>{escape(SUITES[suite])}, {len(some)}</span></th></tr>')
        for r in some:
            cells = (f"<b>{escape(STATES[state(r)])}</b>", escape(layout(r)), escape(r.simulator), f"{r.state_dim}, {r.action_dim}", f"{r.horizon:,}",
                     scale(r), escape(r.licence) or "not stated")
            body.append(f'<tr><th scope="row">{shown(r.task)}<br><small>{escape(r.fidelity)}</small></th>' + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return _table("datasets-overview", "The datasets of the paper's Table A.4 and our own, and what can be had on the machine that made this page", heads, body, "arq-catalogue")


def _table(name: str, caption: str, heads: Sequence[str], body: Iterable[str], kind: str = "") -> str:
    head = f'<thead><tr>{"".join(f"""<th scope="col">{escape(h)}</th>""" for h in heads)}</tr></thead>' if heads else ""
    return (f'<figure class="arq-table {kind}" id="{name}"><figcaption id="{name}-caption">{escape(caption)}</figcaption><div class="arq-scroll" role="region" '
            f'tabindex="0" aria-labelledby="{name}-caption"><table>{head}<tbody>{"".join(body)}</tbody></table></div></figure>')


def facts_table(facts: Mapping[str, str], caption: str) -> str:
    """Two columns: what, and its value."""
    name = "facts-" + "".join(c if c.isalnum() else "-" for c in caption.lower())
    return _table(name, caption, (), (f'<tr><th scope="row">{escape(k)}</th><td>{_linked(v)}</td></tr>' for k, v in facts.items() if v), "arq-facts")


def _linked(text: str) -> str:
    """Escaped text whose addresses are links."""
    words = [f'<a href="{escape(w, quote=True)}">{escape(w)}</a>' if w.startswith(("http://", "https://")) else escape(w) for w in text.split(" ")]
    return " ".join(words)


def passport_facts(row: Task) -> dict[str, str]:
    """All that `data/tasks.csv` says of a dataset, in words. A missing hash or count says so."""
    main, *mirrors = row.source.split() if "://" in row.source else [row.source]
    known = f"{row.transitions:,} steps" if row.transitions else "a number of steps that no source states"
    return {"the paper calls it": row.published_name or "nothing: it is not in Table A.4", "what we have": f"{row.fidelity}: {FIDELITIES[row.fidelity]}",
            "how to have it here": STATES[state(row)], "stand-in": ", ".join(at_hand.stands_for(row)), "layout": layout(row), "version": row.version,
            "where episodes end": f"by the rule {row.cuts}" if row.cuts else "", "holds": f"{known}; states of {row.state_dim} and actions of {row.action_dim} numbers",
            "SHA-256": row.sha256 or "never published: recorded at the first download", "source": main, "mirrors": " ".join(mirrors), "also known": row.also_known,
            "other versions": row.other_versions.replace("=", " "), "simulator": row.simulator, "an episode": f"at most {row.horizon:,} steps; it ends earlier: {row.termination}",
            "reward": row.reward, "score 0 to 100": f"return {scale(row)} ({row.score_source})", "licence of the data": row.licence or "not stated by the publisher"}


def passport(name: str) -> str:
    """A dataset's facts as a table."""
    return facts_table(passport_facts(task(name)), f"Passport of {name}")


def passports(rows: Iterable[Task] | None = None) -> str:
    """Every passport, folded."""
    rows = tasks().values() if rows is None else rows
    folded = (f'<details class="arq-passport" id="passport-{escape(r.task)}"><summary>{escape(r.task)} <small>{escape(STATES[state(r)])}</small></summary>{passport(r.task)}</details>' for r in rows)
    return f'<figure class="arq-table arq-passports">{"".join(folded)}</figure>'


def counts(rows: Iterable[Task] | None = None) -> dict[str, int]:
    """How many datasets of the paper are in each state of STATES."""
    found = [state(r) for r in (tasks().values() if rows is None else rows) if r.published_name]
    return {word: found.count(key) for key, word in STATES.items() if key in found}


def published(path: Path = DATA / "published_datasets.csv") -> list[dict[str, str]]:
    """What publishers state of their datasets: dataset, version, statistic (a key of COMPARED), value, source."""
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def card_numbers(card: Mapping) -> dict[str, float]:
    """The statistics of COMPARED from a collected dataset's card."""
    return {"transitions": card["transitions"], "episodes": card["episodes"], "return_mean": card["returns"]["mean"], "return_std": card["returns"]["std"],
            "return_max": card["returns"]["max"]}


def comparison(cards: Mapping[str, Mapping], said: Sequence[Mapping[str, str]]) -> str:
    """Ours beside the published: for each collected dataset a line, and a line for each published dataset that it stands for (column `for`)."""
    body, notes = [], {}
    for name, card in cards.items():
        ours = card_numbers(card)
        body.append(f'<tr class="arq-ours"><th scope="row">{shown(name)}<br><small>ours</small></th>' + "".join(f"<td><b>{ours[k]:,.6g}</b></td>" for k in COMPARED) + "</tr>")
        for dataset in dict.fromkeys(s["dataset"] for s in said if s["for"] == name):
            lines = {s["statistic"]: s for s in said if (s["for"], s["dataset"]) == (name, dataset)}
            cells = (f'<td>{float(lines[k]["value"]):,.6g}<sup>{notes.setdefault(lines[k]["source"], len(notes) + 1)}</sup></td>' if k in lines else
                     '<td class="arq-not-reported"><span aria-hidden="true">–</span><span class="arq-hidden">not reported</span></td>' for k in COMPARED)
            body.append(f'<tr class="arq-paper"><th scope="row">{shown(dataset)}<br><small>published</small></th>' + "".join(cells) + "</tr>")
    foot = "".join(f"<li>{_linked(n)}</li>" for n in notes)
    table = _table("datasets-compared", "Collected datasets beside what is published of those that they stand for", ("dataset", *COMPARED.values()), body)
    return table.replace("</figure>", f'<ol class="arq-notes">{foot}</ol></figure>') if foot else table


def cards(folder: Path = DATA / "cards") -> dict[str, dict]:
    """Committed cards of collected datasets, by name."""
    return {p.stem: json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))}


def versions_table(family: str, path: Path = DATA / "dataset_versions.csv") -> str:
    """Files that go by one name ("d4rl" or "robomimic"): what is different, and who says so."""
    with open(path, newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["family"] == family]
    hosts = {r["source"]: f'<a href="{escape(r["source"], quote=True)}">{escape(r["source"].removeprefix("https://").split("/")[0])}</a>' for r in rows}
    body = (f'<tr><th scope="row">{escape(r["files"])}</th><td>{escape(r["what is different"])}</td><td>{hosts[r["source"]]}</td></tr>' for r in rows)
    return _table(f"versions-{family}", "Files of one name", ("files", "what is different", "who says so"), body, "arq-versions")
