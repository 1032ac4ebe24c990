"""Sets of valid rows as a reader may have them, each in a checkout of its own."""

import ast
import json
import shutil

import numpy as np
from example_rows import committed, rows
from sphinx_books import ROOT

from arq_core.results.rows import file_name, write_rows

PLAYED = ("s_psi", "q_beta+s_psi", "arq+pi", "arq+s_psi")
RNG = np.random.default_rng(0)


def scores(seeds=2, episodes=3):
    return RNG.normal(5, 3, (seeds, episodes))


def without(field, some):
    return [row | {field: None} for row in some]


def every(**changes):
    return [row for method in PLAYED for row in rows(scores(), method=method, **changes)]


OWN = dict(task="my-file-1a2b3c4d", fidelity="own", dataset_sha256="1a2b3c4d" * 8)
# made where they are asked for: each worker imports this file
SETS = {
    "none": lambda: [],
    "one method at the paper's profile": lambda: rows(scores(3, 100), profile="paper"),
    "another method at the paper's profile": lambda: rows(
        scores(), profile="paper", method="q_beta+s_psi"
    ),
    "one task, not the pages'": lambda: every(task="maze", fidelity="recollected"),
    "two variants": lambda: every(profile="lite") + rows(scores(), profile="lite", variant="paper"),
    "the paper's variant alone": lambda: rows(scores(), variant="paper"),
    "every profile": lambda: every() + every(profile="lite") + every(profile="toy"),
    "a profile that was taken away": lambda: every(profile="night"),
    "an unknown method": lambda: rows(scores(), method="my method") + rows(scores(), method="bc"),
    "own data": lambda: (
        every(**OWN)
        + rows(scores(), method="bc", **OWN)
        + rows(scores(3), profile="fast", **OWN)
        + rows(scores(3), profile="full", **OWN)
    ),
    "a task that was taken away": lambda: every(task="window-human"),
    "one seed": lambda: rows(scores(1, 1), profile="lite", method="s_psi"),
    "no scores": lambda: without("score", every(profile="lite")),
    "scores of one method": lambda: without("score", every()) + rows(scores(), method="bc"),
    "no shares": lambda: without("in_support", every(profile="lite")),
    "all in support": lambda: [row | {"in_support": 1.0} for row in every(profile="lite")],
    "another dataset of the paper, in full": lambda: rows(
        scores(3, 100), task="pen-human-v0", fidelity="official", profile="paper"
    ),
    "the toy profile alone": lambda: (
        every(profile="toy") + rows(scores(), profile="toy", method="bc")
    ),
    "methods of the appendix alone": lambda: (
        rows(scores(), method="dqp bc") + rows(scores(), method="dqp brac-kl", profile="lite")
    ),
    "neither scores nor shares, of own data too": lambda: without(
        "in_support", without("score", every() + every(**OWN))
    ),
    "methods with different seeds": lambda: (
        rows(scores(1), method="bc")
        + rows(scores(4, 1), method="s_psi")
        + rows(scores(2, 7), method="arq+s_psi")
    ),
    "a method whose name is a task's": lambda: rows(scores(), method="maze", profile="door-human"),
    "scores far beyond the table": lambda: (
        rows(scores() * 1e12, method="bc") + rows(scores() * 0 - 1e9, method="arq+s_psi")
    ),
    "those of the project, and one more": lambda: [
        *committed(),
        *rows(scores(), profile="paper"),
    ],
}


def checkout(folder, some):
    """A folder that holds what pages are made from, with these rows alone."""
    (folder / "book").mkdir(parents=True)
    shutil.copytree(
        ROOT / "data", folder / "data", ignore=shutil.ignore_patterns("results", "cache")
    )
    jobs = {}
    for row in some:
        name = file_name(row["task"], row["profile"], row["method"], row["variant"])
        jobs.setdefault(name, []).append(row)
    for name, job in jobs.items():
        write_rows(folder / "data/results" / name, job)
    return folder


def run_cells(notebook, chosen=("",), **given):
    """Run the code cells of a notebook (those that hold one of the texts `chosen`, each in one
    cell) in the names `given`; the names that there are then. What a cell ends with is shown, as
    Jupyter would.
    """
    names = {"__name__": "__main__"} | given
    cells = json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]
    code = {i: "".join(c["source"]) for i, c in enumerate(cells) if c["cell_type"] == "code"}
    for text in filter(None, chosen):
        assert sum(text in source for source in code.values()) == 1, text
    for i, source in code.items():
        if not any(text in source for text in chosen):
            continue
        body = ast.parse(source).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"{notebook} [{i}]", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"{notebook} [{i}]", "eval"), names)
            show = getattr(value, "_repr_html_", None)
            (show or value.__repr__)()
        names.update(given if cells[i]["metadata"].get("tags") == ["parameters"] else {})
    return names
