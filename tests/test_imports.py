"""Who may know whom: a module of the mathematics imports only what comes before it in Algorithm 1,
and none of the world around it.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "arq_core"

# Each line may import the lines above it, not its neighbours. `baselines` and `methods` are at the
# end: no method knows another.
LAYERS = [
    ["choices", "streams"],
    ["machine", "types"],
    ["penalties", "sde", "densities", "nets", "train"],
    ["samplers", "quality", "bandits"],
    ["likelihood", "sharpness", "penalty_study"],
    ["behavior"],
    ["support", "figure_a1", "clones"],
    ["qlearning", "proxies"],
    ["policies", "penalty_models"],
    ["dqp", "arq"],
]
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}
BASELINES_KNOW = {
    "types",
    "streams",
    "machine",
    "nets",
    "train",
    "policies",
    "penalties",
    "proxies",
}
MATHEMATICS = {*RANK, "baselines", "methods"}
WORLD = {
    "pandas",
    "gymnasium",
    "gymnasium_robotics",
    "mujoco",
    "h5py",
    "requests",
    "urllib3",
    "filelock",
    "pathlib",
    "os",
    "matplotlib",
    "seaborn",
    "papermill",
    "sphinx",
    "csv",
    "tomllib",
    "safetensors",
}
# what readers, environments and evaluation may know of the mathematics
SHARED = {"choices", "types", "streams"}
EVALUATION_KNOWS = SHARED | {"machine"}  # the policy's part of a step is replayed on a GPU
# their behaviour policies are networks too
COLLECTORS_KNOW = SHARED | {"machine", "nets", "train"}
BOTH_SIDES = {"book", "experiment", "steps"}  # the workflow, like the notebooks


def modules():
    return sorted(
        p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.read_text().strip()
    )


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """(top-level packages from outside, our own modules by their first name) that a file imports,
    wherever in it.
    """
    outside, ours = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
        full = []
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            full = [f"{node.module}.{alias.name}" for alias in node.names]
        for dotted in full:
            first, *rest = dotted.split(".")
            if first != "arq_core":
                outside.add(first)
            elif rest:
                ours.add(rest[0])
    return outside, ours


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_it_may_know(path):
    name, (outside, ours) = name_of(path), imported(path)
    if name in RANK:
        later = {m for m in ours if m not in RANK or RANK[m] >= RANK[name]}
        assert not later, f"{name} comes before {', '.join(sorted(later))}"
    elif name == "baselines":
        assert ours - {"baselines"} <= BASELINES_KNOW
    elif name == "methods":
        assert ours <= {*RANK, "baselines"}
    elif name == "collectors":
        assert not (ours & MATHEMATICS) - COLLECTORS_KNOW, f"{path} collects data"
    elif name == "evaluate":
        assert not (ours & MATHEMATICS) - EVALUATION_KNOWS
    elif name not in BOTH_SIDES:
        assert not (ours & MATHEMATICS) - SHARED, f"{name} is outside the mathematics"
    if name in MATHEMATICS - {"machine"}:  # which asks the machine, and nothing else does
        assert not outside & WORLD, f"{name} belongs to the mathematics"


def test_one_baseline_does_not_know_another():
    files = [p for p in modules() if name_of(p) == "baselines"]
    for path in files:
        text = path.read_text()
        assert not [p.stem for p in files if p != path and f"baselines.{p.stem}" in text], path.name


def test_nothing_loads_pickles_by_itself():
    for path in [*modules(), *sorted((ROOT / "benchmarks").glob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert call not in {
                "torch.load",
                "pickle.load",
                "pickle.loads",
                "joblib.load",
                "eval",
                "exec",
            }, f"{path.name}: {call}"


def test_no_path_of_a_machine_is_written_down():
    for path in [
        *modules(),
        *sorted((ROOT / "book").glob("*.md")),
        *sorted((ROOT / "notebooks").glob("*.ipynb")),
        ROOT / "Makefile",
    ]:
        for start in ("/root/", "/home/", "/work/", "/Users/", "/tmp/"):
            assert start not in path.read_text(), f"{path.name}: {start}"
