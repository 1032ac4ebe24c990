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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from arq_core.config import settings
from arq_core.config.files import files_in, write_atomic
from arq_core.config.hyper import NEIGHBOURS, Budget, Hyper
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
# Passes of a network of a neighbour's width through a row of its batch, in one of its steps:
# counted from its losses by hand, none of them measured. Where a method has several trainings,
# those before the last are counted with it (`_neighbours_passes`)
PASSES = {
    "bc-mse": 3,
    "bc-gmm": 3,
    "iql": 16,  # V, actor and two critics, trained; two targets, and V at s'
    "idql": 13,  # IQL's without its actor: the clone is s_psi
    "td3+bc": 12,
    "rebrac": 18,
    "awac": 24,
    "bcq": 80,  # ten candidates, twice
    "cql": 350,  # thirty actions of two critics
    "one_step": 30,  # ten actions for each value
    "ibc": 12_800,  # eight layers, eight negatives, a hundred steps of a chain, and its gradient
    "ibc-small": 2_560,
}
# Rows of the score network that take as long as a neighbour takes to act once: counted likewise
ACTS = {"bcq": 50, "dt": 80, "ibc": 1_000_000, "ibc-small": 1_500}
WIDTH, BATCH = 256, 256  # of a neighbour that does not say them under these names
# of a network's weights while it is trained and saved: its own, gradients, two moments, what is
# written; a guess from one look at a running step
COPIES = 12
# Measured on an H200 by benchmarks/speed.py and benchmarks/profile_cuda.py. Their lines carry the
# sizes in their titles; `measured` gives them as a Size
GPU_FILES = ("data/benchmarks/speed_cuda.json", "data/benchmarks/profile_cuda.json")
NETWORKS = (3, 9)  # score networks of the two points of the line in float32
COPIED = 2 * 2 * 2**30  # bytes that the copy of 2 GB reads and writes
SCORE_WEIGHTS = 0.47e6  # of the score network, whose embedding of the time is one layer
MEASURED_WEIGHTS = 0.86e6  # of the one that was measured: six layers of time more
LAYERS_WEIGHTS = 0.39e6  # of those layers of it that a candidate goes through
# bytes a weight in an update, in float32: Adam reads weight, gradient and two moments, and writes
# three of them; in bfloat16 the weight is cast on its way in, and the gradient on its way out
UPDATE_BYTES = {"float32": 28, "bfloat16": 28 + 12}
# Passes that a product with the Jacobian counts as on the GPU. The solve measured in bfloat16 had
# three, of one pass each (nets.ScoreNet.jvp); none was measured in float32: as on a processor
DERIVATIVE = {"float32": 2, "bfloat16": 1}
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


def evaluations(s: Size, derivative: float = 2) -> float:
    """Passes of the score network for one candidate with its log-density.

    A probe's product with the Jacobian counts as `derivative` of them.
    """
    walk = {
        "same_solve": s.budget.sampler_steps,
        "multistep": s.budget.sampler_steps,
        "rk45": RK45_EVALUATIONS,
    }[s.budget.density]
    sample = 0 if s.budget.density == "same_solve" else s.budget.sampler_steps
    return sample + walk * (1 + derivative * (s.budget.probes or s.action_dim))


def units(s: Size, step: str, method: str, derivative: float = 2) -> float:
    """The size of a step: rows through its network times seeds, members and steps."""
    h, b = s.hyper, s.budget
    if step == "dataset":
        return 0 if s.computed else s.recorded
    if step == "behavior":
        return s.seeds * h.ensemble * b.score_steps * h.batch * (h.width / 256) ** 2
    if step == "support":
        passes = s.seeds * h.ensemble * h.n * evaluations(s, derivative)
        return s.transitions * passes * (h.width / 256) ** 2
    if step == "q":
        targets = min(h.batch, s.transitions / b.target_every) * (h.n + 1) / HIDDEN_STEP
        return s.seeds * (b.q_steps * (h.batch + targets) + h.warm_start * h.batch)
    if step == "q_beta":
        return s.seeds * (b.q_beta_steps + h.warm_start) * h.batch
    if step == "policy" and method in NEIGHBOURS:
        own, steps = _settings(s, method), _steps_of(s, method)
        work = _neighbours_passes(method, own) / HIDDEN_STEP * (_width(own) / WIDTH) ** 2
        return s.seeds * steps * float(own.get("batch", BATCH)) * work
    if step == "policy":
        critic = units(s, "q", "") if _trains_a_critic(method) else 0
        return s.seeds * b.policy_steps * h.batch * _policy_weights(s) / PERCEPTRON + critic
    drawn = {
        "nothing": ACTS.get(method, 1),
        "one": h.ensemble * b.sampler_steps,
        "n": h.acting_n * h.ensemble * evaluations(s, derivative),
    }
    return s.seeds * b.episodes * s.horizon * (drawn[plan.METHODS[method].draws] + ACT_AND_STEP)


def _settings(s: Size, neighbour: str) -> Mapping[str, float | str]:
    return getattr(s.hyper, NEIGHBOURS[neighbour])


def _steps_of(s: Size, neighbour: str) -> int:
    return getattr(s.budget, f"{NEIGHBOURS[neighbour]}_steps")


def _width(own: Mapping[str, float | str]) -> float:
    """Units a layer of a neighbour's networks; the widest of several."""
    if "widths" in own:
        return max(map(float, str(own["widths"]).split()))
    return max(
        [float(own[k]) for k in ("width", "first_width", "second_width") if k in own] or [WIDTH]
    )


def _neighbours_passes(method: str, own: Mapping[str, float | str]) -> float:
    """PASSES, with what depends on settings: the tokens of a transformer, whose layers have twelve
    matrices of its width, and trainings that come first."""
    if method == "dt":
        tokens, layers = 3 * float(own.get("context", 20)), float(own.get("layers", 3))
        return HIDDEN_STEP * tokens * 12 * layers
    first = 3 * float(own.get("beta_share", 0)) + 5 * float(own.get("q_share", 0))
    return PASSES.get(method, PASSES["iql"]) + first


def _trains_a_critic(method: str) -> bool:
    """Whether the method's own step `policy` does."""
    return "q_steps" in plan.step_of("policy", method).budget


def _policy_weights(s: Size) -> float:
    return RESNET if s.hyper.head == "resnet" else PERCEPTRON


def _weights(s: Size, method: str) -> float:
    """Of all networks that a policy's step trains; a neighbour's are taken for ten layers of its
    width, which is about what the largest has."""
    if method in NEIGHBOURS:
        return 10 * _width(_settings(s, method)) ** 2
    return _policy_weights(s)


@functools.cache
def rates(root: Path) -> dict[str, float]:
    """Measured seconds a unit, by step; and those of a START."""
    found = json.loads((root / FILE).read_text(encoding="utf-8"))
    return found[RATES] | {START: found[START]}


def seconds(root: Path, name: str, profile: str, step: str, method: str, seeds: int = 0) -> float:
    """Estimated seconds of a step on one core of the machine that was measured."""
    found = rates(root)
    return found[START] + found[step] * units(size(name, profile, seeds), step, method)


@dataclass(frozen=True)
class Gpu:
    """What the measured GPU, an H200, does: seconds, and rates of work that fills it."""

    step: Mapping[tuple[str, str], float]  # of a training step of `measured` size, by precision
    network: float  # that one score network more adds to its step, in float32
    row: Mapping[str, float]  # a row's pass through the score network in a large solve
    launch: float  # an evaluation in a solve too small to fill it
    flops: Mapping[str, float]  # FLOP/s
    copied: float  # bytes/s, read and written


@functools.cache
def gpu_rates(root: Path) -> Gpu:
    """Of GPU_FILES, the later line where a loop was measured twice.

    Measured are the score model's step (bfloat16; float32 at NETWORKS), ARQ's (both), Q_beta's
    (bfloat16, before changes that took a third off the other two), solves in bfloat16, and copies.
    Inferred: Q_beta in float32, which is slower by what ARQ's step is, a larger one; an explicit
    perceptron, which has one network where Q_beta has two, and takes as long; FLOP/s in float32,
    from the slope between NETWORKS, and in bfloat16, from the layers of the large solve, whose
    rate is about two fifths of plain products'.
    """
    speed, profile = (json.loads((root / file).read_text(encoding="utf-8")) for file in GPU_FILES)
    lines = {x["title"]: x["competitors"] for x in speed["cuda"] + speed["gpu_steps"]}
    latest = profile["before"] | profile["after"]

    def took(title: str, found: dict = latest) -> float:
        return found[title]["wall_us"] / 1e6

    small, large = (
        lines["behavior, float32"][f"{n} seeds"]["milliseconds"] / 1e3 for n in NETWORKS
    )
    arq, before = "ARQ step, 3 seeds, ", profile["before"]
    q_beta = took("Q_beta step, 3 seeds, bfloat16")
    slower = took(arq + "float32", before) / took(arq + "bfloat16", before)
    step = {
        ("behavior", "bfloat16"): took("score step, 3 seeds, bfloat16, 64 times"),
        ("behavior", "float32"): small,
        **{("q", p): took(arq + p) for p in ("bfloat16", "float32")},
        **{(x, "bfloat16"): q_beta for x in ("q_beta", "policy")},
        **{(x, "float32"): q_beta * slower for x in ("q_beta", "policy")},
    }
    network = (large - small) / (NETWORKS[1] - NETWORKS[0])
    float32 = 2 * MEASURED_WEIGHTS * HIDDEN_STEP * measured("behavior").hyper.batch / network
    solved = units(measured("support"), "support", "", DERIVATIVE["bfloat16"])
    row = took("65,536 states x 30, 20 evaluations with density") / solved
    copy = max(c["copy of 2 GB"]["milliseconds"] for c in lines.values() if "copy of 2 GB" in c)
    return Gpu(
        step,
        network,
        {"bfloat16": row, "float32": 2 * SCORE_WEIGHTS / float32},
        took("300 states x 30 of 3 seeds, 20 evaluations with density")
        / measured("evaluate").budget.sampler_steps,
        {"bfloat16": 2 * LAYERS_WEIGHTS / row, "float32": float32},
        COPIED / copy * 1e3,
    )


@functools.cache
def measured(step: str) -> Size:
    """The size at which a loop was measured on the GPU, training steps one by one: that of
    benchmarks/profile_cuda.py, three seeds but for the large solve.
    """
    hyper = replace(settings.hyper("locomotion"), ensemble=1, n=30, batch=512, width=256)
    one = dict.fromkeys(STEPS_OF.values(), 1)
    budget = replace(
        settings.budget("lite", "locomotion"),
        **one,
        episodes=100,
        target_every=1,
        density="same_solve",
        sampler_steps=20,
        probes=0,
    )
    seeds, rows = (1, 65_536) if step == "support" else (NETWORKS[0], 20_000)
    return Size(hyper, budget, seeds, rows, rows, 11, 3, 1, True)


def gpu_step(gpu: Gpu, s: Size, step: str) -> float:
    """Seconds of one training step of a kind of STEPS_OF, and no less than at the size that was
    measured, however small.

    A score network more than three adds what it was measured to add in float32: in bfloat16 that
    is inferred, as more than its faster products need. The measured networks were larger than
    today's (MEASURED_WEIGHTS), for which nothing is taken off. Other steps grow with their rows;
    dimensions of states and actions are not counted (a tenth of a critic's products at most). A
    ResNet's step was not measured: it is its products at `flops`, and after them the update at the
    rate of copies.
    """
    precision = s.budget.precision
    s = replace(s, budget=replace(s.budget, **dict.fromkeys(STEPS_OF.values(), 1)))
    rows, least = units(s, step, "bc"), units(measured(step), step, "bc")
    wall = gpu.step[step, precision]
    if step == "behavior":
        return wall + max(0, rows - least) * gpu.network / measured(step).hyper.batch
    if step == "policy" and s.hyper.head == "resnet":
        products = 2 * PERCEPTRON * HIDDEN_STEP * rows / gpu.flops[precision]
        update = s.seeds * RESNET * UPDATE_BYTES[precision] / gpu.copied
        return max(wall, products + update)
    return wall * max(1, rows / least)


def gpu_time(gpu: Gpu, s: Size, step: str, method: str) -> float:
    """Seconds of a step on the GPU: trainings by `gpu_step`; solves by the rows that pass the score
    network, or by what launching them takes, whichever is more.

    All episodes step together, and a policy's launches are those before it was replayed as one
    graph. Not counted: a process's start, compilation, and simulators, which run beside.
    """
    if step == "dataset":
        return 0.0
    if step == "policy" and method in NEIGHBOURS:
        # by its work, and no faster than an explicit policy's step is launched
        one, least = units(s, step, method) / _steps_of(s, method), measured(step)
        rows = units(least, step, "bc")
        return _steps_of(s, method) * gpu.step[step, s.budget.precision] * max(1, one / rows)
    if step in STEPS_OF:
        trained = ("policy", "q") if step == "policy" and _trains_a_critic(method) else (step,)
        return sum(getattr(s.budget, STEPS_OF[x]) * gpu_step(gpu, s, x) for x in trained)
    precision = s.budget.precision
    work = units(s, step, method, DERIVATIVE[precision]) * gpu.row[precision]
    launches = evaluations(s, 0)
    if step == "evaluate":
        alone = {"nothing": 1, "one": s.budget.sampler_steps, "n": launches}
        launches = s.horizon * alone[plan.METHODS[method].draws]
    return max(work, launches * gpu.launch)


def gpu_seconds(
    root: Path, name: str, profile: str, step: str, method: str, seeds: int = 0
) -> float:
    """Estimated seconds of a step on the measured GPU (`gpu_time`)."""
    return gpu_time(gpu_rates(root), size(name, profile, seeds), step, method)


def disk(name: str, profile: str, step: str, method: str, seeds: int = 0) -> float:
    """Bytes that a finished step keeps: candidates with densities, or weights."""
    s = size(name, profile, seeds)
    if step == "support":
        return s.seeds * s.transitions * s.hyper.n * (s.action_dim + 1) * FLOAT
    if step == "behavior":
        return 2 * s.seeds * s.hyper.ensemble * 7 * s.hyper.width**2 * FLOAT
    return s.seeds * (_weights(s, method) if step == "policy" else 4 * 256**2) * FLOAT


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
        s.seeds * _weights(s, method) * FLOAT * (COPIES if step == "policy" else 1)
        if step in ("policy", "evaluate")
        else 0
    )
    return round((data + 2 * read + trained) / 1e6 + min(PIECES / 1e6, 1_000 + s.transitions / 100))


@dataclass(frozen=True)
class Estimate:
    """What a list of steps costs: how many, hours of one core or of an H200, GB kept.

    The H200's hours are those of `gpu_time`, from rates measured in part and inferred in part.
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
