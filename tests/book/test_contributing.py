"""CONTRIBUTING.md and CHANGELOG.md name files and functions that are there."""

import re

import pytest
from sphinx_books import ROOT

TEXTS = ["CONTRIBUTING.md", "CHANGELOG.md"]
EXAMPLES = {"book/name.md", "notebooks/18_name.ipynb", "executed/name"}


@pytest.mark.parametrize("text", TEXTS)
def test_every_path_that_is_named_is_there(text):
    names = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", (ROOT / text).read_text(encoding="utf-8"))
    missing = [name for name in names if not (ROOT / name).exists()]
    assert set(missing) <= EXAMPLES and len(names) > 3


def test_the_names_of_the_recipes_are_there():
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    homes = {
        "arq_core/algorithm/samplers.py": "SAMPLERS",
        "tests/algorithm/test_samplers.py": "ORDERS",
        "arq_core/experiments/methods.py": "METHODS",
        "arq_core/grid/plan.py": "METHODS",
        "arq_core/config/labels.py": "LABELS",
        "arq_core/algorithm/qlearning.py": "policy_evaluation_loss",
        "tests/grid/test_grid.py": "COPIES_ALL",
    }
    for path, name in homes.items():
        assert f"`{path}`" in told and f"`{name}`" in told
        assert re.search(rf"^(def )?{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.M), (
            path
        )


def test_the_checks_are_those_that_run():
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for tool in ("ruff check .", "lint-imports", "pyright"):
        assert re.search(rf"^{re.escape(tool)}\b", told, re.M) or f"\n{tool} " in told
        assert f"/{tool}" in makefile
