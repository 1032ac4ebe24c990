"""What the notebooks assert: every `assert` in their cells, with the conditions around it.

    python benchmarks/claims.py              all of them
    python benchmarks/claims.py REVISION     + what is asserted only here, - only in that commit

A claim is compared as code: how it is broken into lines does not matter.
"""

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from arq_core.book.kernel import python
from arq_core.config.files import read_text
from arq_core.config.paths import root


def claims(notebook: str) -> Counter[str]:
    """The asserts of a notebook, given as its text: how often each stands there."""
    cells = [c for c in json.loads(notebook)["cells"] if c["cell_type"] == "code"]
    trees = [ast.parse(python("".join(cell["source"]))) for cell in cells]
    return Counter(claim for tree in trees for claim in _asserts(tree.body, ()))


def _asserts(body: list[ast.stmt], around: tuple[str, ...]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.Assert):
            yield ": ".join([*around, f"assert {ast.unparse(statement.test)}"])
        for inner in ("body", "orelse", "finalbody"):
            head = ast.unparse(statement).split("\n")[0].rstrip(":")
            under = f"not ({head})" if inner == "orelse" else head
            yield from _asserts(getattr(statement, inner, []), (*around, under))


def main(revision: str = "") -> None:
    for path in sorted((root() / "notebooks").rglob("*.ipynb")):
        here, name = claims(read_text(path)), path.relative_to(root()).as_posix()
        if revision:
            there = claims(_at(revision, name))
            told = [f"+ {claim}" for claim in (here - there).elements()]
            told += [f"- {claim}" for claim in (there - here).elements()]
            told += [f"  {(here & there).total()} unchanged"]
        else:
            told = list(here.elements())
        print(name, *told, sep="\n  ")


def _at(revision: str, name: str) -> str:
    """The text of a file in a commit; a notebook without cells where it has none."""
    asked = ["git", "-C", str(Path(root())), "show", f"{revision}:{name}"]
    shown = subprocess.run(asked, capture_output=True, text=True, encoding="utf-8")
    return '{"cells": []}' if shown.returncode else shown.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
