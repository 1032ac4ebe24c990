"""The paper's own cells, as published."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from arq_core.config.files import read_text
from arq_core.config.labels import METHODS
from arq_core.config.paths import DATA
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


def paper_lines(cells: pd.DataFrame) -> list[dict]:
    out = []
    for (group, dataset), rows in cells.groupby(["group", "dataset"], sort=False):
        rows = rows.set_index("method")
        for method in METHODS:
            line = BLANK | dict(group=group, dataset=dataset, line="paper", method=method)
            if method not in rows.index:
                out.append(line | dict(state="not reported"))
                continue
            cell = rows.loc[method]
            out.append(
                line
                | dict(
                    state="illegible" if pd.isna(cell["mean"]) else "value",
                    mean=cell["mean"],
                    std=cell["std"],
                    note=cell["note"],
                )
            )
    return out


def paper_cells(lines: Iterable[dict]) -> dict[tuple[str, str], Paper]:
    """The paper's cells by (dataset, method)."""
    none = lambda x: None if x is None or math.isnan(x) else float(x)
    return {
        (c["dataset"], c["method"]): Paper(c["state"], none(c["mean"]), none(c["std"]))
        for c in lines
    }
