"""The house: who may know whom, what comes without torch, what is public, and what no file does."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import conftest
import pytest

import arq_core

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "arq_core"
PAPER = "types nets sde samplers likelihood behavior support qlearning policies arq".split()
LIGHT = (  # what plans a grid of thousands of jobs, and what reads rows, waits for no torch
    "arq_core",
    "arq_core.config.settings",
    "arq_core.config.tasks",
    "arq_core.results.tables",
    "arq_core.results.export",
    "arq_core.results.aggregates",
    "arq_core.book.notebook",
    "arq_core.book.side_by_side",
    "arq_core.grid.plan",
    "arq_core.grid.driver",
    "arq_core.grid.run",
    "arq_core.__main__",
)


def modules():
    return sorted(PACKAGE.rglob("*.py"))


@cache
def tree(path):
    """A file's code, read once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def calls(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def run(*command, **more):
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", **more)


def test_the_layers_of_pyproject_hold():
    command = run(Path(sys.executable).with_name("lint-imports"))
    assert command.returncode == 0, command.stdout


@pytest.mark.parametrize(
    "room, line",
    [
        ("config/settings.py", "import arq_core.engine.train"),
        ("algorithm/sde.py", "import arq_core.algorithm.behavior"),
        ("theory/bandits.py", "import pandas"),
        ("theory/penalties.py", "import arq_core.theory.theorem1"),
        ("datasets/rewards.py", "import arq_core.algorithm.qlearning"),
        ("collectors/recording.py", "import arq_core.algorithm.behavior"),
        ("algorithm/nets.py", "from arq_core.config import paths"),
    ],
)
def test_an_import_that_runs_upward_or_into_the_world_is_found(tmp_path, room, line):
    for path in modules():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    broken = tmp_path / "arq_core" / room
    broken.write_text(broken.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    command = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert command.returncode == 1 and "1 broken" in command.stdout, command.stdout


def test_what_plans_and_what_reads_rows_comes_without_torch_and_without_all_of_statistics():
    code = f"import sys, {', '.join(LIGHT)}; print(*{{'torch', 'scipy.stats'}} & {{*sys.modules}})"
    command = run(sys.executable, "-c", code)
    assert command.stdout == "\n", command.stderr


def test_the_paper_is_ten_files_and_the_package_eighteen_names():
    assert sorted(p.stem for p in (PACKAGE / "algorithm").glob("*.py")) == sorted(
        [*PAPER, "__init__"]
    )
    lines = {
        p.name: len(p.read_text(encoding="utf-8").splitlines())
        for p in (PACKAGE / "algorithm").glob("*.py")
    }
    assert max(lines.values()) <= 250 and sum(lines.values()) <= 1700, lines
    names = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    assert len(names) <= 18, names


def test_a_room_says_what_it_holds_and_holds_no_code_in_its_init():
    for path in PACKAGE.rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path
        assert path.parent == PACKAGE or len(tree.body) == 1, path


def test_public_names_are_lazy_complete_and_their_near_misses_are_suggested():
    assert set(arq_core.__all__) <= set(dir(arq_core)) and len(arq_core.__all__) == 32
    for name in arq_core.__all__:
        assert getattr(arq_core, name) is not None
    assert callable(arq_core.arq) and arq_core.arq.__name__ == "arq"
    command = run(sys.executable, "-c", "import arq_core; arq_core.fit_behaviour")
    assert "Did you mean: 'fit_behavior'" in command.stderr
    for name in PAPER:
        assert name in arq_core.__doc__


def test_the_front_door_names_every_room():
    rooms = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    said = {line.strip().split(" ")[0] for line in arq_core.__doc__.splitlines()}
    said |= {word for line in arq_core.__doc__.splitlines() for word in line.split("   ")}
    assert not [room for room in rooms if not any(room in text.split() for text in said)]


def test_imports_are_absolute():
    for path in modules():
        for node in ast.walk(tree(path)):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"


def test_notebooks_name_modules_and_no_lazy_names():
    """The runner finds by dotted names what a page depends on; a lazy name would hide it."""
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        assert "import arq_core\\n" not in text and "import arq_core as" not in text, path.name
        for name in arq_core.__all__:
            assert f"from arq_core import {name}" not in text, path.name


def test_nothing_loads_pickles_by_itself():
    for path in [*modules(), *sorted((ROOT / "benchmarks").glob("*.py"))]:
        for node in calls(path):
            # all that is unsafe has a short name
            if not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            call = ast.unparse(node.func)
            unsafe = {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "eval", "exec"}
            tensors_only = call == "torch.load" and any(
                ast.unparse(word) == "weights_only=True" for word in node.keywords
            )
            assert tensors_only or call not in unsafe, f"{path.name}: {call}"


def test_no_path_of_a_machine_is_written_down():
    texts = [
        *(ROOT / "book").glob("*.md"),
        *(ROOT / "notebooks").glob("*.ipynb"),
        ROOT / "Makefile",
    ]
    for path in [*modules(), *sorted(texts)]:
        for start in ("/root/", "/home/", "/work/", "/Users/", "/tmp/"):
            assert start not in path.read_text(encoding="utf-8"), f"{path.name}: {start}"


def _texts_without_encoding(code: str) -> list[str]:
    """Calls that open a text, or read a program's output as one, and do not say its encoding."""
    return _unencoded(node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))


def _unencoded(calls) -> list[str]:
    found = []
    for call in calls:
        given = {word.arg for word in call.keywords}
        function = call.func
        name = getattr(function, "id", getattr(function, "attr", ""))
        plain = isinstance(function, ast.Name)
        owner = "" if plain else getattr(getattr(function, "value", None), "id", "")
        if "encoding" in given or owner in ("os", "zipfile", "tarfile", "tokenize"):
            continue
        modes = [word.value for word in call.keywords if word.arg == "mode"]
        modes += call.args[1:2] if plain or owner == "io" else call.args[:1]
        said = [node.value for mode in modes for node in ast.walk(mode) if hasattr(node, "value")]
        kinds = [word for word in said if isinstance(word, str)]
        # of other things that are opened, such as a page in a browser, the first is no mode
        text = not modes or any(re.fullmatch(r"[rwax]t?\+?t?", kind) for kind in kinds)
        if (
            (name == "open" and text)
            or (name == "read_text" and not call.args and not plain)
            or (name == "write_text" and len(call.args) < 2)
            or {"text", "universal_newlines"} & given
            and name in ("run", "Popen", "check_output")
        ):
            found.append(ast.unparse(call))
    return found


def test_texts_are_opened_with_their_encoding():
    """A system's own encoding need not know Greek: German and Windows' do not."""
    found = {
        str(path.relative_to(ROOT)): lines
        for folder in ("arq_core", "benchmarks", "workflow", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := _unencoded(calls(path)))
    }
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            code = "".join(cell["source"])
            if cell["cell_type"] == "code" and (lines := _texts_without_encoding(code)):
                found[path.name] = lines
    assert not found


@pytest.mark.parametrize(
    "code, missed",
    [
        ("open('x')", 1),
        ("open('x', 'rb')", 0),
        ("p.open('w')", 1),
        ("open(p, 'ab' if more else 'wb')", 0),
        ("open(p, 'a' if more else 'w')", 1),
        ("page.open('x.html')", 0),
        ("p.read_text()", 1),
        ("p.read_text('utf-8')", 0),
        ("read_text(p)", 0),
        ("p.write_text('a')", 1),
        ("p.write_text('a', 'utf-8')", 0),
        ("subprocess.run(x, text=True)", 1),
        ("subprocess.run(x)", 0),
        ("f'{p.read_text()}'", 1),
    ],
)
def test_a_text_opened_without_its_encoding_is_found(code, missed):
    assert len(_texts_without_encoding(code)) == missed


def _slow_without_reason(code: str) -> list[int]:
    """Lines that mark a test as slow, and do not say what takes long."""
    if ".slow" not in code:
        return []
    tree = ast.parse(code)
    said = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and [word.arg for word in node.keywords] == ["reason"]
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) == "pytest.mark.slow"
        and id(node) not in said
    ]


def test_a_test_that_is_left_out_of_make_test_says_why():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        assert not _slow_without_reason(path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize(
    "code, missed",
    [
        ("@pytest.mark.slow\ndef f(): ...", [1]),
        ("x = [\n  pytest.param(k, marks=pytest.mark.slow)]", [2]),
        ("pytestmark = pytest.mark.slow(reason='minutes')", []),
        ("pytestmark = pytest.mark.slow('minutes')", [1]),
    ],
)
def test_a_slow_test_without_a_reason_is_found(code, missed):
    assert _slow_without_reason(code) == missed


@pytest.mark.parametrize(
    "cores, gigabytes, workers",
    [(1, 64, 0), (2, 64, 2), (2, 3, 0), (16, 64, 16), (16, 7, 3), (8, 1, 0)],
)
def test_workers_are_as_many_as_cores_and_memory_allow(monkeypatch, cores, gigabytes, workers):
    monkeypatch.setattr(conftest.processes, "cores", lambda: cores)
    monkeypatch.setattr(conftest.processes, "available_memory", lambda: gigabytes * 10**9)
    assert conftest.pytest_xdist_auto_num_workers(None) == workers
