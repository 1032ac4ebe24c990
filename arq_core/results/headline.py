"""What was reproduced, in sentences that are read off the rows: README's line, (shorter) the book's
first screen, and its status.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from arq_core.results import overview
from arq_core.results.rows import summary
from arq_core.results.tables import table_a4, table_own, task_names

PARTS = ("bridge", "maze", "paper", "datasets", "beside", "own")
OWN = "ci"  # the profile at which the maze and the bridge are solved in full


def parts(
    rows: Sequence[dict],
    runs: Mapping[str, dict] | None = None,
    failures: Sequence[dict] = (),
) -> dict[str, str]:
    """Markdown, a sentence each without its full stop: `bridge`, `maze` and `paper`, and of
    `overview`, at more length, `datasets`, `beside` and `own`. `rows` as of `read_rows`; `runs` as
    of `tables.read_runs`, `failures` as of `tables.read_failures`.

    What has no numbers is left out.
    """
    own = [row for row in rows if row["profile"] == OWN and row["task"] in ("bridge", "maze")]
    lines = [line for line in summary(own).itertuples() if line.variant == "released"]
    scores = {(line.task, line.method): line.score for line in lines}

    def said(task: str, *methods: str) -> list[str]:
        found = [scores.get((task, method)) for method in methods]
        if any(score is None or math.isnan(score) for score in found):
            return []
        return [f"{score:.2f}".replace("-", "−") for score in found]

    told = {}
    if bridge := said("bridge", "arq+s_psi", "arq+s_psi unfiltered", "s_psi", "arq+pi"):
        told["bridge"] = (
            "on the bridge, where the filter decides, ARQ's implicit policy earns {} of 1 with it "
            "and {} without (its clone alone: {}; its explicit policy: {}; profile ".format(*bridge)
            + f"{OWN})"
        )
    if maze := said("maze", "arq+pi", "arq+s_psi", "q_beta+s_psi", "s_psi", "bc"):
        told["maze"] = (
            "on the maze {} and {} of 1 by its two policies, where one step of improvement earns "
            "{}, the clone {} and behaviour cloning {}".format(*maze)
        )
    cells = table_a4(rows, task_names(), runs=runs, failures=failures)
    ours = cells[cells["line"] == "ours"]
    judged = [word for word in ("reproduced", "not reproduced") if (ours["verdict"] == word).any()]
    counts = [f"{(ours['verdict'] == word).sum()} {word}" for word in judged]
    told["paper"] = (
        f"Cells of Table A.4: {', '.join(counts)}"
        if counts
        else "No cell of Table A.4 has a verdict yet: none of ours has the paper's data and the "
        "paper's budget"
    )
    found = overview.datasets(cells)
    ours_alone = overview.own(overview.datasets(table_own(rows, runs=runs)))
    more = dict(datasets=overview.sentence(found), beside=overview.beside(found), own=ours_alone)
    return told | {name: said.removesuffix(".") for name, said in more.items() if said}


def headline(
    rows: Sequence[dict],
    runs: Mapping[str, dict] | None = None,
    shown: Sequence[str] = ("bridge", "maze", "paper"),
    failures: Sequence[dict] = (),
) -> str:
    """The sentences of `parts` that are `shown`, as Markdown; ValueError for an unknown name."""
    return sentences(parts(rows, runs, failures), shown)


def sentences(told: Mapping[str, str], shown: Sequence[str]) -> str:
    """Of what `parts` told, those that are `shown`; ValueError for an unknown name."""
    if unknown := set(shown) - set(PARTS):
        raise ValueError(f"headline: saw {sorted(unknown)}, expected {' or '.join(PARTS)}.")
    problems = "; ".join(told[name] for name in PARTS[:2] if name in shown and name in told)
    said = [problems[:1].upper() + problems[1:]]
    said += [told[name] for name in PARTS[2:] if name in shown and name in told]
    return " ".join(f"{sentence}." for sentence in said if sentence)
