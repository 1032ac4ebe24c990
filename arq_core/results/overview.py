"""The results in a minute: a word for each dataset, a paragraph, and the numbers to be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from arq_core.results.rows import one_setting
from arq_core.results.verdicts import SMOKE_TEST, WORDS

# what the word of a dataset is decided by, the first that one of its cells has
DECIDING = (
    "not reproduced",
    "reproduced",
    "not comparable",
    "failed",
    SMOKE_TEST,
    "not run",
)
SETTING = ["profile", "variant", "fidelity"]
NEAR = 2.0  # combined spreads


@dataclass(frozen=True)
class Dataset:
    """A dataset of a table. The cells are rows of `tables.CELL`.

    `ours` are those with numbers that mean something (no smoke tests), of one setting; `detail`
    names it, and `others` the further settings that have such numbers. `paper` holds the paper's
    cells with numbers by method, none for a dataset of our own.
    """

    name: str
    group: str
    word: str
    ours: Sequence[Any]
    detail: str
    others: Sequence[str]
    paper: Mapping[str, Any]


def word_of(verdicts: Iterable[str]) -> str:
    """One of verdicts.WORDS for a dataset whose cells have these: `reproduced` only where each cell
    that is judged is, and `not run` where there is none.
    """
    return next((word for word in DECIDING if word in {*verdicts, "not run"}), "not run")


def datasets(cells: pd.DataFrame) -> list[Dataset]:
    """Those of a table (`tables.table_a4`, `tables.table_own`), in its order."""
    return [_dataset(name, part) for name, part in cells.groupby("dataset", sort=False)]


def _dataset(name: str, part: pd.DataFrame) -> Dataset:
    valued = part[part["state"] == "value"]
    ours = valued[(valued["line"] == "ours") & (valued["verdict"] != SMOKE_TEST)]
    chosen = ours
    if len(ours):
        first = one_setting(ours.to_dict("records"))[0]
        chosen = ours[(ours[SETTING] == [first[key] for key in SETTING]).all(axis=1)]
    details = list(dict.fromkeys(ours["detail"]))
    detail = next(iter(chosen["detail"]), "")
    return Dataset(
        name,
        part["group"].iloc[0],
        word_of(part.loc[part["line"] == "ours", "verdict"]),
        tuple(chosen.itertuples()),
        detail,
        tuple(other for other in details if other != detail),
        {cell.method: cell for cell in valued[valued["line"] == "paper"].itertuples()},
    )


def counts(found: Iterable[Dataset]) -> dict[str, int]:
    """How many datasets have each of verdicts.WORDS, in their order."""
    counted = Counter(dataset.word for dataset in found)
    return {word: counted[word] for word in WORDS}


def _many(n: int, one: str, more: str) -> str:
    return f"{n or 'none'} {one if n < 2 else more}"


def _listed(parts: Sequence[str]) -> str:
    *first, last = filter(None, parts)
    return f"{', '.join(first)}, and {last}" if first else last


def sentence(found: Sequence[Dataset]) -> str:
    """What was reproduced of the paper's datasets, and what was not."""
    n = counts(found)
    unjudged = "that may not be judged (a smaller budget, other data or a gap in the paper's table)"
    left = {
        "not comparable": f"{_many(n['not comparable'], 'has', 'have')} numbers of ours {unjudged}",
        SMOKE_TEST: f"{n[SMOKE_TEST]} ran as a smoke test only",
        "failed": f"{n['failed']} ended in an error",
        "not run": f"{_many(n['not run'], 'was', 'were')} not run",
    }
    rest = [said for word, said in left.items() if n[word]]
    judged = (
        f"{_many(n['reproduced'], 'is', 'are')} reproduced and "
        f"{_many(n['not reproduced'], 'is', 'are')} not"
        if n["reproduced"] or n["not reproduced"]
        else "none has a verdict yet"
    )
    return f"Of the paper's {len(found)} datasets, {judged}{f'; {_listed(rest)}' if rest else ''}."


def beside(found: Iterable[Dataset]) -> str:
    """Where our numbers lie beside the paper's, whatever their verdict; "" where none can."""
    apart = [c.difference for d in found for c in d.ours if pd.notna(c.difference)]
    if not apart:
        return ""
    below, above = (sum(sign * x > NEAR for x in apart) for sign in (-1, 1))
    near = _many(len(apart) - below - above, "lies", "lie")
    return (
        f"Of {len(apart)} {'cells' if len(apart) > 1 else 'cell'} with a mean and a spread on both "
        f"sides, {near} within {NEAR:.0f} combined spreads of the paper's, {below or 'none'} lower "
        f"and {above or 'none'} higher."
    )


def own(found: Iterable[Dataset]) -> str:
    """How many datasets of our own have numbers; "" where none has."""
    if not (n := sum(bool(d.ours) for d in found)):
        return ""
    return (
        f"Besides, {_many(n, 'dataset', 'datasets')} of our own {'has' if n == 1 else 'have'} "
        "numbers, beside which the paper has none."
    )
