"""Public functions, classes and methods say what they give: shapes, units, errors.

A method of a class whose docstring names, in backticks, the protocol that it keeps needs none where
the protocol has it; stubs of a protocol (`...`) need none, as the protocol's own docstring speaks.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "arq_core"
ROOMS = ("algorithm", "engine", "theory", "envs", "datasets", "config")


def classes(tree):
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def functions(node):
    return [f for f in node.body if isinstance(f, ast.FunctionDef) and not f.name.startswith("_")]


def is_stub(function):
    body = function.body[-1]
    return isinstance(body, ast.Expr) and getattr(body.value, "value", None) is ...


@cache
def methods_of_classes():
    """All classes of the package by name, each with the names of its methods."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    return {c.name: {f.name for f in functions(c)} for tree in trees for c in classes(tree)}


def silent(tree, known):
    """(line, name) of what is public in a module and has no docstring."""
    public = [c for c in classes(tree) if not c.name.startswith("_")]
    for node in [*functions(tree), *public]:
        if not ast.get_docstring(node):
            yield node.lineno, node.name
    for c in public:
        kept = re.findall(r"`(?:\w+\.)*(\w+)`", ast.get_docstring(c) or "")
        excused = set().union(*(known.get(name, set()) for name in kept))
        for f in functions(c):
            if not ast.get_docstring(f) and f.name not in excused and not is_stub(f):
                yield f.lineno, f"{c.name}.{f.name}"


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_public_has_a_docstring(room):
    known = methods_of_classes()
    missing = [
        f"{path.relative_to(PACKAGE.parent)}:{line} {name}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for line, name in silent(ast.parse(path.read_text(encoding="utf-8")), known)
    ]
    assert not missing, "\n".join(missing)


def test_what_has_none_is_found():
    tree = ast.parse(
        "def f(): pass\n"
        "def _hidden(): pass\n"
        'class A:\n    """Keeps `store.Store`."""\n'
        "    def load(self): pass\n    def more(self): pass\n"
    )
    assert list(silent(tree, {"Store": {"load"}})) == [(1, "f"), (6, "A.more")]
