"""The cells of the paper's tables as published, and where those come from that it borrowed."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from arq_core.config.files import read_text, read_toml
from arq_core.config.labels import METHODS
from arq_core.config.paths import DATA
from arq_core.config.tasks import listed
from arq_core.results.verdicts import Paper

BLANK = dict(
    group="",
    dataset="",
    line="",
    detail="",
    method="",
    state="",
    mean=None,
    std=None,
    n="",
    note="",
    source="",
    task="",
    profile="",
    variant="",
    fidelity="",
    jobs=(),
    seeds=0,
    episodes=0,
    commits=(),
    data=(),
    short=(),
    paper_mean=None,
    paper_std=None,
    difference=None,
    verdict="",
    reason="",
)
# `note` is what has to be known of a cell of the paper's, `source` where it was borrowed;
# `jobs` are the stems of the files of rows a number was made from, `data` the hashes of their
# datasets
CELL = list(BLANK)


def published(path: str | Path = DATA / "published.csv") -> pd.DataFrame:
    """The paper's cells: table ("a4" or "2"), group, dataset, method, mean, std, source, note.

    An empty mean is an illegible one.
    """
    return pd.read_csv(io.StringIO(read_text(path)), dtype={"table": str}).fillna(
        {"note": "", "source": ""}
    )


@dataclass(frozen=True)
class Source:
    """Where a borrowed cell comes from (data/published_sources.toml)."""

    source: str  # the work, and where in it
    data: str  # version of the data
    runs: str  # seeds, checkpoint, episodes
    unfit: str = ""  # why no number of ours may be judged by it
    algorithm: str = ""  # the method of ours that made it; "": the column's own

    def __str__(self) -> str:
        return f"Borrowed: {self.source}; data {self.data}; {self.runs}."


@cache
def _of_sources() -> dict:
    return read_toml(DATA / "published_sources.toml")


@cache
def sources() -> dict[tuple[str, str], Source]:
    """The source of each borrowed cell of Table A.4, by (dataset, method)."""
    table = published()
    table = table[table["table"] == "a4"]
    there = list(table[["group", "dataset", "method"]].itertuples(index=False, name=None))
    found: dict[tuple[str, str], Source] = {}
    # those that name their datasets come first
    for entry in sorted(_of_sources()["cells"], key=lambda entry: "datasets" not in entry):
        about = {k: v for k, v in entry.items() if k not in ("methods", "group", "datasets")}
        for group, dataset, method in there:
            if group == entry["group"] and method in entry["methods"]:
                if dataset in entry.get("datasets", [dataset]):
                    found.setdefault((dataset, method), Source(**about))
    return found


def normalised(task: str, raw: float) -> float:
    """A return on the scale of a task of data/tasks.csv: 0 and 100 at its two reference returns."""
    low, high = (float(listed()[task][end]) for end in ("score_min", "score_max"))
    return 100 * (raw - low) / (high - low)


def raw_returns(method: str) -> dict[str, float]:
    """Raw returns by dataset that a method's borrowed cells were made from, where they are known;
    {} for a method without."""
    return _of_sources()["raw"].get(method, {})


def doubts() -> dict[tuple[str, str], str]:
    """What the raw returns of a borrowed cell say against it, by (dataset, method): an illegible
    cell's value, or that the cell is further from its return than the paper's other cells, and what
    other return would give it.

    A cell is in doubt where it is more than a point from its own return's score, and within one of
    the score that another dataset's return has by this dataset's scale.
    """
    table = published()
    printed = {(c.dataset, c.method): c.mean for c in table[table["table"] == "a4"].itertuples()}
    told = {}
    for (dataset, method), mean in printed.items():
        raw = raw_returns(method)
        if dataset not in raw:
            continue
        value = normalised(dataset, raw[dataset])
        if math.isnan(mean):
            told[dataset, method] = (
                f"its source's raw return {raw[dataset]:,g} is {value:.0f} on this scale"
            )
            continue
        if abs(mean - value) <= 1:
            continue
        other = min(raw, key=lambda name: abs(normalised(dataset, raw[name]) - mean))
        if abs(normalised(dataset, raw[other]) - mean) <= 1:
            told[dataset, method] = (
                f"its source's raw return {raw[dataset]:,g} is {value:.1f} on this scale; "
                f"{raw[other]:,g}, its return of {other}, would be "
                f"{normalised(dataset, raw[other]):.1f}: the two may have been taken for one "
                "another"
            )
    return told


def paper_lines(cells: pd.DataFrame, columns: Iterable[str] = tuple(METHODS)) -> list[dict]:
    """The paper's lines, a cell for each of `columns`: with what is to be known of it, and where a
    borrowed one comes from."""
    out, columns, borrowed, doubted = [], list(columns), sources(), doubts()
    for (group, dataset), rows in cells.groupby(["group", "dataset"], sort=False):
        reported = {cell["method"]: cell for cell in rows.to_dict("records")}
        for method in columns:
            line = BLANK | dict(group=group, dataset=dataset, line="paper", method=method)
            if method not in reported:
                out.append(line | dict(state="not reported"))
                continue
            cell, source = reported[method], borrowed.get((dataset, method))
            notes = filter(None, [cell["note"], doubted.get((dataset, method), "")])
            out.append(
                line
                | dict(
                    state="illegible" if pd.isna(cell["mean"]) else "value",
                    mean=cell["mean"],
                    std=cell["std"],
                    note="; ".join(notes),
                    source=str(source) if source else "",
                )
            )
    return out


def paper_cells(lines: Iterable[dict]) -> dict[tuple[str, str], Paper]:
    """The paper's cells by (dataset, method), each with why nothing may be judged by it.

    A borrowed cell that another method of ours made than the one of its column is that method's
    too: ours of the column's name is then another algorithm.
    """
    none = lambda x: None if x is None or math.isnan(x) else float(x)
    borrowed: Mapping[tuple[str, str], Source] = sources()
    out: dict[tuple[str, str], Paper] = {}
    for c in lines:
        at, said = (c["dataset"], c["method"]), (c["state"], none(c["mean"]), none(c["std"]))
        source = borrowed.get(at)
        if source and source.algorithm:
            out[c["dataset"], source.algorithm] = Paper(*said, unfit=source.unfit)
            other = f"the cell is of another algorithm, that of {source.algorithm}"
            unfit = "; ".join(filter(None, [other, source.unfit]))
            out[at] = Paper(*said, unfit=unfit)
        elif at not in out:
            out[at] = Paper(*said, unfit=source.unfit if source else "")
    return out
