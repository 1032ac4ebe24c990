"""A notebook that is opened in its own folder, as JupyterLab and VS Code do, or in any other, finds
the checkout's files: nothing is named from where it runs.
"""

import ast
import json
import re
from pathlib import Path

import forked
import pytest

from arq_core.book.notebook import code_cells
from arq_core.grid import steps

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
# a path below the root of the checkout, and nothing besides
BELOW = re.compile(r"(\./)?(data|book|notebooks|_build|workflow|benchmarks)(/[\w.*{}+-]+)*/?")
OPENS = re.compile(r"(^|\.)(Path|open|glob|iglob|read_csv|read_json|read_rows|read_runs|load)$")


def relative(code):
    """Literals of a code that name a file from where it runs: below the root of the checkout, and
    not behind `root() /`; or relative in a call that opens files.
    """
    tree = ast.parse(code)
    joined = [
        node.right
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    ]
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and "/" in node.value
        and BELOW.fullmatch(node.value)
        and not any(node is part for part in joined)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and OPENS.search(ast.unparse(node.func)) and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found |= {first.value} - {v for v in [first.value] if v.startswith("/")}
    return found


@pytest.mark.parametrize(
    "code, found",
    [
        ('read_rows("data/results")', {"data/results"}),
        ('rows.read_rows("results")', {"results"}),
        ('p = "book/_toc.yml"\nx.read_text(p)', {"book/_toc.yml"}),
        ('Path("mine.json").exists()', {"mine.json"}),
        ('open(root() / "data/tasks.csv")\nDATA / "cards"', set()),
        ('print("`data/results` is empty"); x = "a/b"', set()),
    ],
)
def test_a_name_from_where_a_notebook_runs_is_found(code, found):
    assert relative(code) == found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_notebook_names_a_file_from_where_it_runs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tagged = [
        "parameters" in c["metadata"].get("tags", []) for c in cells if c["cell_type"] == "code"
    ]
    code = code_cells(path)
    rest = [cell for cell, skip in zip(code, tagged, strict=True) if not skip]
    assert not set().union(*map(relative, rest))
    # a parameter is a path from the root: notebooks join it, the grid's steps do so themselves
    for cell in (cell for cell, is_parameters in zip(code, tagged, strict=True) if is_parameters):
        for name in re.findall(r"^(\w+) = \"[\w.]+/", cell, re.M):
            assert path.parent.name == "grid" or any(f"root() / {name}" in c for c in rest), name


def test_no_module_opens_a_file_from_where_it_runs():
    for path in [*(ROOT / "arq_core").rglob("*.py"), *(ROOT / "book").glob("*.py")]:
        found = relative(path.read_text(encoding="utf-8"))
        opened = [name for name in found if f'Path("{name}")' in path.read_text(encoding="utf-8")]
        # of the grid: joined with the root wherever it is used
        assert not [name for name in opened if name != "_build/grid"], path


# cells (by number among the code cells) that load what a page shows
LOADS = {
    "10_forty_datasets": (0, 4),
    "15_tables": (0, 1, 2, 3),
    "16_statistics": (0, 1, 2),
    "17_speed": (0, 1),
}


@pytest.mark.parametrize(
    "name, folder", [*((name, "notebooks") for name in LOADS), ("15_tables", "elsewhere")]
)
def test_what_a_notebook_loads_is_found_from_any_folder(tmp_path, monkeypatch, name, folder):
    cells = code_cells(ROOT / "notebooks" / f"{name}.ipynb")
    wanted = ["import os; from IPython.display import display", *(cells[i] for i in LOADS[name])]
    monkeypatch.setenv("ARQ_ROOT", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "agg")
    there = ROOT / "notebooks" if folder == "notebooks" else tmp_path
    assert forked.answer(forked.ran, "\n".join(wanted), folder=there)[0]
    assert not list(tmp_path.iterdir())


def test_a_step_that_is_opened_by_hand_writes_below_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "opened").mkdir()
    monkeypatch.chdir(tmp_path / "opened")
    monkeypatch.setattr(steps, "root", lambda: tmp_path)
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    code = "\n".join(code_cells(ROOT / "notebooks/grid/dataset.ipynb"))
    exec(compile(code, "dataset.ipynb", "exec"), {})
    assert (
        json.loads((tmp_path / "_build/receipt.json").read_text(encoding="utf-8"))["step"]
        == "dataset"
    )
    assert not list((tmp_path / "opened").iterdir())
