"""What a step costs before it is done: seconds, memory and disk, by its size and measured rates.

A size is counted in units of a step's own work (below, one function a step); a core's seconds a
unit come from data/benchmarks/grid_costs.json, which `arq costs --calibrate` writes from the
notebooks of finished steps, with how far single steps of a kind lie apart (simulators and small
networks differ most). They plan a queue on a machine like the one that was measured; a whole grid's
total is the part to trust.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arq_core.config import settings
from arq_core.config.files import files_in, write_atomic
from arq_core.config.hyper import Budget, Hyper
from arq_core.config.tasks import task
from arq_core.grid import plan
from arq_core.grid.plan import Cell
from arq_core.results.provenance import provenance
from arq_core.results.records import ResultsError

FILE = "data/benchmarks/grid_costs.json"
RATES = "seconds_per_unit"
START = "start_seconds"  # of FILE: a step's process and kernel, which no step does without
TRANSITIONS = 1_000_000  # taken for a dataset whose number no source states: the order of D4RL's
FLOAT = 4  # bytes
# of the released setting, rtol = atol = 1e-5 (measured on the densities of Figure A.1)
RK45_EVALUATIONS = 510
HIDDEN_STEP = 3  # a training step in passes forward
# bytes that a process holds beside its tensors: torch, a block of candidates, activations
PIECES = 8_000_000_000
ACT_AND_STEP = 300  # rows of a network that take as long as one step of a simulator in MuJoCo
# weights of nets.ResNet, the policy of the robomimic tasks; the other policies have PERCEPTRON
RESNET = 33.6e6
PERCEPTRON = 0.07e6
# of a network's weights while it is trained and saved: its own, gradients, two moments, what is
# written; a guess from one look at a running step
COPIES = 12
GPU_FILE = "data/benchmarks/speed_cuda.json"
# of GPU_FILE: a step of so many score networks at once, the paper's arithmetic
GPU_LINE, GPU_NETWORKS, GPU_BATCH = "behavior, float32", (3, 9), 512
SCORE_WEIGHTS = 0.47e6  # of the score network, whose embedding of the time is one layer
MEASURED_WEIGHTS = 0.86e6  # of the one in GPU_FILE: a layer of time more for each of the others
FLOP = {  # a unit's, from the networks' numbers of weights
    "behavior": 2 * SCORE_WEIGHTS * HIDDEN_STEP,
    "support": 2 * SCORE_WEIGHTS,
    "q": 4 * 0.07e6 * HIDDEN_STEP,
    "q_beta": 2 * 0.07e6 * HIDDEN_STEP,
    "policy": 2 * PERCEPTRON * HIDDEN_STEP,
    "evaluate": 2 * SCORE_WEIGHTS,
}
STEPS_OF = {
    "behavior": "score_steps",
    "q": "q_steps",
    "q_beta": "q_beta_steps",
    "policy": "policy_steps",
}


@dataclass(frozen=True)
class Size:
    """A task at a profile: what its steps' work is counted from."""

    hyper: Hyper
    budget: Budget
    seeds: int
    recorded: int  # transitions of the dataset
    transitions: (
        int  # of them that are learned from, M; taken for the number of distinct states too
    )
    state_dim: int
    action_dim: int
    horizon: int
    computed: bool  # the data are there at once: nothing is fetched or collected


@functools.cache
def size(name: str, profile: str, seeds: int = 0) -> Size:
    """The size of a task at a profile; `seeds` replaces the profile's number."""
    row = task(name)
    budget = settings.budget(profile, row.group)
    m = row.transitions or TRANSITIONS
    return Size(
        settings.hyper(row.group, profile),
        budget,
        seeds or budget.seeds,
        m,
        min(m, budget.transitions or m),
        row.state_dim,
        row.action_dim,
        row.horizon,
        row.made == "compute",
    )


def evaluations(s: Size) -> float:
    """Passes of the score network for one candidate with its log-density.

    A probe's product with the Jacobian counts as two.
    """
    walk = {
        "same_solve": s.budget.sampler_steps,
        "multistep": s.budget.sampler_steps,
        "rk45": RK45_EVALUATIONS,
    }[s.budget.density]
    sample = 0 if s.budget.density == "same_solve" else s.budget.sampler_steps
    return sample + walk * (1 + 2 * (s.budget.probes or s.action_dim))


def units(s: Size, step: str, method: str) -> float:
    """The size of a step: rows through its network times seeds, members and steps."""
    h, b = s.hyper, s.budget
    if step == "dataset":
        return 0 if s.computed else s.recorded
    if step == "behavior":
        return s.seeds * h.ensemble * b.score_steps * h.batch * (h.width / 256) ** 2
    if step == "support":
        return s.seeds * h.ensemble * s.transitions * h.n * evaluations(s) * (h.width / 256) ** 2
    if step == "q":
        targets = min(h.batch, s.transitions / b.target_every) * (h.n + 1) / HIDDEN_STEP
        return s.seeds * (b.q_steps * (h.batch + targets) + h.warm_start * h.batch)
    if step == "q_beta":
        return s.seeds * (b.q_beta_steps + h.warm_start) * h.batch
    if step == "policy":
        critic = units(s, "q", "") if "q_steps" in plan.step_of(step, method).budget else 0
        return s.seeds * b.policy_steps * h.batch * _policy_weights(s) / PERCEPTRON + critic
    passes = {
        "nothing": 1,
        "one": h.ensemble * b.sampler_steps,
        "n": h.acting_n * h.ensemble * evaluations(s),
    }
    return s.seeds * b.episodes * s.horizon * (passes[plan.METHODS[method].draws] + ACT_AND_STEP)


def _policy_weights(s: Size) -> float:
    return RESNET if s.hyper.head == "resnet" else PERCEPTRON


@functools.cache
def rates(root: Path) -> dict[str, float]:
    """Measured seconds a unit, by step; and those of a START."""
    found = json.loads((root / FILE).read_text(encoding="utf-8"))
    return found[RATES] | {START: found[START]}


def seconds(root: Path, name: str, profile: str, step: str, method: str, seeds: int = 0) -> float:
    """Estimated seconds of a step on one core of the machine that was measured."""
    found = rates(root)
    return found[START] + found[step] * units(size(name, profile, seeds), step, method)


@functools.cache
def gpu_rates(root: Path) -> tuple[float, float]:
    """(FLOP/s, seconds that a training step takes however small its networks), in float32.

    Of the measured GPU: the line through its two measured sizes.
    """
    measured = json.loads((root / GPU_FILE).read_text(encoding="utf-8"))
    line = next(line for line in measured["gpu_steps"] if line["title"] == GPU_LINE)["competitors"]
    small, large = GPU_NETWORKS
    seconds_of = {n: line[f"{n} seeds"]["milliseconds"] / 1e3 for n in GPU_NETWORKS}
    slope = (seconds_of[large] - seconds_of[small]) / (large - small)
    measured = 2 * MEASURED_WEIGHTS * HIDDEN_STEP
    return measured * GPU_BATCH / slope, seconds_of[small] - small * slope


def gpu_seconds(
    root: Path, name: str, profile: str, step: str, method: str, seeds: int = 0
) -> float:
    """Seconds of the measured GPU (an H200), every step at the rate of training the score model.

    In float32. A simulator runs beside it.
    """
    s = size(name, profile, seeds)
    if step not in FLOP:
        return 0.0
    rate, each = gpu_rates(root)
    return FLOP[step] * units(s, step, method) / rate + each * (
        getattr(s.budget, STEPS_OF[step]) if step in STEPS_OF else 0
    )


def disk(name: str, profile: str, step: str, method: str, seeds: int = 0) -> float:
    """Bytes that a finished step keeps: candidates with densities, or weights."""
    s = size(name, profile, seeds)
    if step == "support":
        return s.seeds * s.transitions * s.hyper.n * (s.action_dim + 1) * FLOAT
    if step == "behavior":
        return 2 * s.seeds * s.hyper.ensemble * 7 * s.hyper.width**2 * FLOAT
    return s.seeds * (_policy_weights(s) if step == "policy" else 4 * 256**2) * FLOAT


def memory_mb(name: str, profile: str, step: str, method: str, seeds: int = 0) -> int:
    """MB to ask for: the data, the candidates where the step reads them, and room to work."""
    s = size(name, profile, seeds)
    data = s.transitions * (2 * s.state_dim + s.action_dim + 8) * FLOAT
    read = (
        disk(name, profile, "support", "", seeds)
        if step in ("support", "q", "policy", "evaluate")
        else 0
    )
    trained = (
        s.seeds * _policy_weights(s) * FLOAT * (COPIES if step == "policy" else 1)
        if step in ("policy", "evaluate")
        else 0
    )
    return round((data + 2 * read + trained) / 1e6 + min(PIECES / 1e6, 1_000 + s.transitions / 100))


@dataclass(frozen=True)
class Estimate:
    """What a list of steps costs: how many, hours of one core or of an H200, GB kept.

    The H200's hours are inferred from one measured step.
    """

    steps: int
    hours: float
    gpu_hours: float
    gigabytes: float


def estimate(root: Path, todo: Iterable[tuple[Cell, str]], seeds: int = 0) -> Estimate:
    """The sum over steps."""
    todo = list(todo)
    return Estimate(
        len(todo),
        sum(seconds(root, c.task, c.profile, s, c.method, seeds) for c, s in todo) / 3600,
        sum(gpu_seconds(root, c.task, c.profile, s, c.method, seeds) for c, s in todo) / 3600,
        sum(disk(c.task, c.profile, s, c.method, seeds) for c, s in todo) / 1e9,
    )


def _spent(root: Path, record: dict, step: dict) -> float | None:
    """A core's seconds in the notebook of a step; None where it found the step finished, by what
    the step is said to have taken when it was computed.
    """
    cell = Cell(record["task"], record["method"], record["profile"], record["variant"])
    path = root / plan.notebook(cell, step["step"])
    run = json.loads(path.read_text(encoding="utf-8"))["metadata"]["arq"]
    return run["processor_s"] if run["wall_s"] >= step["seconds"] else None


def calibrate(root: Path) -> dict:
    """A core's seconds a unit over all finished steps below _build/grid, written to FILE.

    Sum by sum, so that long steps count most; with the machine and the commit. The shortest of all
    is what a step takes that does next to nothing.
    """
    seen: dict[tuple[str, float], tuple[str, float]] = {}  # a shared step is in several records
    for path in files_in(root / plan.GRID, "*/rows/*.run.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        s = size(record["task"], record["profile"], len(record["seeds"]))
        for step in record["steps"]:
            if spent := _spent(root, record, step):
                n = units(s, step["step"], record["method"])
                seen[step["notebook"], n] = (step["step"], spent)
    start = min((spent for _, spent in seen.values()), default=0.0)
    found: dict[str, list[tuple[float, float]]] = {step: [] for step in plan.ORDER}
    for (_, n), (step, spent) in seen.items():
        if n and spent > start:
            found[step].append((spent - start, n))
    if missing := [step for step, pairs in found.items() if not pairs]:
        raise ResultsError(
            f"{root / plan.GRID}: saw no finished step {', '.join(missing)}, "
            "expected some of each; run `make table PROFILE=ci` first."
        )
    ratios = {step: [spent / n for spent, n in pairs] for step, pairs in found.items()}
    record = {
        START: start,
        RATES: {
            step: sum(spent for spent, _ in pairs) / sum(n for _, n in pairs)
            for step, pairs in found.items()
        },
        "largest_over_smallest": {step: max(r) / min(r) for step, r in ratios.items()},
        "steps": {step: len(pairs) for step, pairs in found.items()},
        **provenance(),
    }
    write_atomic(root / FILE, (json.dumps(record, indent=1) + "\n").encode())
    return record
