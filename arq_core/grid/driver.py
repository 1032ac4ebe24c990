"""`make table`: plan the cells, say what they cost, let Snakemake run what is missing, publish the
rows, build tables and book, and say what happened.

One run at a time in a folder: the lock is held by the engine too, so that a run whose head was
killed is still seen as long as its engine lives. Snakemake's own lock is not used, since it
outlives a crash.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arq_core.book import board
from arq_core.book.board import Board
from arq_core.config import lock, processes, settings, surroundings
from arq_core.config.command import STOPPED
from arq_core.config.files import read_toml, sweep, write_atomic
from arq_core.config.paths import GRID_HEAD, cache_folder
from arq_core.config.tasks import tasks
from arq_core.grid import costs, plan, ready_steps
from arq_core.grid.plan import Cell

ENGINES = ("laptop", "slurm", "kubernetes")
SPARED_MEMORY = 0.8  # of the machine's, for steps that run side by side
PR_SET_PDEATHSIG = 1  # prctl(2)
# in a path: what a shell misreads where it is not quoted, and where it is in any quotes
BARE, QUOTED = re.compile(r"[^\w/.+,=:@-]"), re.compile(r"""[$`"'\\!%\n]""")
JOB = re.compile(r"^(?:local)?rule (\w+):$")
WILDCARDS = re.compile(r"^    wildcards: (.*)$")
NUMBER, FINISHED = re.compile(r"^    jobid: (\d+)$"), re.compile(r"^Finished jobid: (\d+)\b")
FAILED = "failed"  # in the place of a step: Snakemake says which job ended badly
MOST_LINES = 8  # of steps that run, on a terminal
LOOK_EVERY = 0.5  # seconds


class GridError(RuntimeError):
    """A run that cannot begin, or that did not end well.

    The message says what was seen, what was expected and what to do.
    """


@dataclass(frozen=True)
class Request:
    """What is asked for. `seeds` are the seeds themselves; none are those of each cell's
    profile.
    """

    cells: tuple[Cell, ...]
    profile: str  # that was named: some cells may be smoke tests, of another
    variant: str
    seeds: tuple[int, ...] = ()
    engine: str = "laptop"
    threads: int = 1
    gpus: int = 0
    cores: int = 0  # 0: all


def defaults(root: Path, profile: str, what: str) -> list[str]:
    """Tasks, methods or smoke tests of a profile's grid (workflow/grids.toml)."""
    names = read_toml(root / "workflow/grids.toml")[profile].get(what, [])
    return (
        [t for t, row in tasks().items() if row.published_name and row.suite != "ours"]
        if names == "published"
        else names
    )


def only_one(root: Path) -> contextlib.AbstractContextManager[int]:
    """The folder's lock, as a file descriptor that the engine inherits; a second run is told who
    holds it.
    """
    return lock.only_one(root, plan.GRID / "lock", GridError)


def configure(root: Path, request: Request) -> Path:
    """Write what workflow/Snakefile reads. A file that says the same is left as it is."""
    tasks_of: dict[str, list[str]] = {}
    for cell in request.cells:
        names = tasks_of.setdefault(cell.profile, [])
        if cell.task not in names:
            names.append(cell.task)
    text = json.dumps(
        dict(
            tasks=tasks_of,
            methods=list(dict.fromkeys(c.method for c in request.cells)),
            variant=request.variant,
            seeds=list(request.seeds),
            threads=request.threads,
            gpus=request.gpus,
            recipes=dict(step=settings.STEP_RECIPE, evaluate=settings.EVALUATION_RECIPE),
        ),
        indent=1,
    )
    path = root / plan.GRID / "config.json"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text.encode())
    return path


def spared_memory() -> float:
    """Bytes for all steps that run side by side on this machine: what others leave of it."""
    return min(SPARED_MEMORY * processes.memory(), processes.available_memory())


def command(root: Path, request: Request, *more: str) -> list[str]:
    """Snakemake on our Snakefile, with the engine's profile, to be run in `root`.

    The names of files are relative to it: Snakemake takes some for patterns.
    """
    local, cores = [], request.cores
    if request.engine == "laptop":  # "all" would be the machine's, of which a container has a share
        local = ["--resources", f"mem_mb={round(spared_memory() / 1e6)}"]
        cores = cores or processes.cores()
    local += ["--cores", str(cores)] if cores else []
    return [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        "workflow/Snakefile",
        "--directory",
        str(root),
        "--nolock",
        "--profile",
        f"workflow/profiles/{request.engine}",
        *local,
        *more,
    ]


def refuse_folder(root: Path, engine: str) -> None:
    """Refuse, before anything is planned, a folder that a cluster's shell would misread.

    Snakemake's plugins write the path of this Python as it is, others in quotes of the wrong kind.
    """
    if engine == "laptop":
        return
    for path, misread in ((sys.executable, BARE), (str(root), QUOTED)):
        if odd := sorted(set(misread.findall(path))):
            raise GridError(
                f"engine {engine}: {path}: saw {' and '.join(map(repr, odd))} in a path, expected "
                "one of letters, digits and / . _ - alone: Snakemake's plugin writes it into "
                "shell scripts without the quotes that this needs. Clone into such a folder, with "
                "the .venv in it; or use the engine laptop, which takes a folder of any name."
            )


def planned(root: Path, request: Request) -> list[tuple[str, Cell]]:
    """(step, cell) of every step that would be done now, by a dry run; a shared step stands once,
    with the first method that has it.
    """
    refuse_folder(root, request.engine)
    configure(root, request)
    with board.said_meanwhile("Snakemake plans the steps"):
        run = subprocess.run(
            command(root, request, "--dry-run"),
            cwd=root,
            capture_output=True,
            encoding="utf-8",
            env=environment(root, request),
        )
    if run.returncode:
        raise GridError(
            f"plan: saw Snakemake end with {run.returncode}, expected a list of "
            f"steps:\n{(run.stderr + run.stdout).strip()[-3000:]}"
        )
    found, step = [], None
    for line in (run.stdout + run.stderr).splitlines():
        if match := JOB.match(line):
            step = match[1]
        elif (match := WILDCARDS.match(line)) and step in plan.ORDER:
            found.append((step, _cell(request, step, match[1])))
            step = None
    return found


def _cell(request: Request, step: str, wildcards: str) -> Cell:
    """The cell of a job of Snakemake's, from what it prints of it; of a shared step the first."""
    w = dict(pair.split("=", 1) for pair in wildcards.split(", "))
    return next(
        c
        for c in request.cells
        if (c.task, c.profile, c.variant) == (w["task"], w["profile"], w["variant"])
        and step in c.steps()
        and ("method" not in w or c.method == plan.SLUGS[w["method"]])
    )


def environment(root: Path, request: Request) -> dict[str, str]:
    """For Snakemake: our package importable wherever it reads the Snakefile, this Python first for
    its helpers, its own files below _build.

    On one machine a step also learns whose it is, and stops when that process ends
    (side_by_side.stop_with).
    """
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {GRID_HEAD: str(os.getpid())} if request.engine == "laptop" else {}
    return (
        surroundings.ours(root)
        | own
        | {
            "PYTHONPATH": os.pathsep.join(paths),
            "XDG_CACHE_HOME": str(root / plan.GRID / "snakemake"),
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
            ),
        }
    )


def _end_with_parent() -> None:
    """The engine is interrupted when its head dies, however it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def name_of(step: str, cell: Cell) -> str:
    """A step, as the lines of progress call it."""
    of = cell.task if step in plan.SHARED else f"{cell.task} {cell.method}"
    return f"{of}: {step}"


def execute(root: Path, request: Request, todo: Sequence[tuple[str, Cell]], held: int) -> int:
    """Run Snakemake for the steps `todo`, and show what each step that runs is at; all Snakemake
    says goes to _build/grid/snakemake.log.

    Its exit status.
    """
    log, seeds = root / plan.GRID / "snakemake.log", len(request.seeds)
    cost = {
        name_of(s, c): costs.seconds(root, c.task, c.profile, s, c.method, seeds) for s, c in todo
    }
    at_once = request.cores or processes.cores() if request.engine == "laptop" else len(todo)
    shown = Board(len(todo), min(at_once, len(todo), MOST_LINES), cost, noun="step")
    with (
        _steps_are_ready(root, request) as ours,
        open(log, "w", encoding="utf-8") as f,
        subprocess.Popen(
            command(root, request),
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            pass_fds=(held,),
            env=environment(root, request) | ours,
            preexec_fn=_end_with_parent,
        ) as engine,
        shown,
    ):
        shown.expect(list(cost))
        said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(engine.stdout, said), daemon=True)
        reader.start()
        jobs = Jobs(root, request, shown)
        try:
            while (line := _next(said)) is not None:
                if line:
                    f.write(line)
                    f.flush()
                    jobs.hear(line)
                shown.look()
            shown.look(due=True)  # Snakemake takes a moment to end
        except KeyboardInterrupt:
            # it got the signal too, and stops its steps at their next checkpoint
            with board.said_meanwhile("stops the steps that run"):
                engine.wait()
            raise
    return engine.returncode


def _steps_are_ready(
    root: Path, request: Request
) -> contextlib.AbstractContextManager[dict[str, str]]:
    """On one machine steps are forked from a process that is ready; a cluster starts its own."""
    if request.engine != "laptop":
        return contextlib.nullcontext({})
    return ready_steps.serve(root, environment(root, request))


def _read(stream: Iterable[str], said: queue.SimpleQueue) -> None:
    for line in stream:
        said.put(line)
    said.put(None)


def _next(said: queue.SimpleQueue) -> str | None:
    """The next line of Snakemake's, "" where none comes for a while, None after the last."""
    try:
        return said.get(timeout=LOOK_EVERY)
    except queue.Empty:
        return ""


@dataclass
class Jobs:
    """What Snakemake prints of its jobs, told to the board."""

    root: Path
    request: Request
    shown: Board
    step: str = ""
    number: str = ""
    names: dict[str, str] = field(default_factory=dict)  # of the jobs that run, by their numbers

    def hear(self, line: str) -> None:
        """A line that Snakemake printed."""
        if match := JOB.match(line):
            self.step, self.number = match[1], ""
        elif match := NUMBER.match(line):
            self.number = match[1]
        elif (match := WILDCARDS.match(line)) and self.step in plan.ORDER:
            cell = _cell(self.request, self.step, match[1])
            self.names[self.number] = name = name_of(self.step, cell)
            self.shown.begin(name, self.root / f"{plan.place(cell, self.step)}.log")
            self.step = ""
        elif match := FINISHED.match(line):
            self.shown.end(self.names.pop(match[1], ""))
        elif line.startswith("Error in rule"):
            self.step, self.number = FAILED, ""
        if self.step == FAILED and self.number and self.number in self.names:
            self.shown.end(self.names.pop(self.number))
            self.step = ""


def failures(root: Path, cells: Sequence[Cell]) -> list[dict]:
    """One record for every cell that is not finished: the step whose notebook failed, its error and
    log; or that it was stopped.
    """
    out = []
    for cell in cells:
        errors = [
            p
            for step in cell.steps()
            if (p := root / f"{plan.place(cell, step)}.error.json").exists()
        ]
        if errors:
            out.append(
                json.loads(errors[0].read_text(encoding="utf-8"))
                | dict(task=cell.task, method=cell.method)
            )
        elif not plan.finished(root, cell):
            step = next(
                (
                    s
                    for s in cell.steps()
                    if not all(
                        (root / path(cell, s)).exists() for path in (plan.done, plan.notebook)
                    )
                ),
                "evaluate",
            )
            out.append(
                dict(
                    task=cell.task,
                    profile=cell.profile,
                    method=cell.method,
                    variant=cell.variant,
                    step=step,
                    notebook=plan.NOTEBOOK[step],
                    error=_unsaid(root, f"{plan.place(cell, step)}.log"),
                    log=f"{plan.place(cell, step)}.log",
                )
            )
    return out


def _unsaid(root: Path, log: str) -> str:
    """Of a step that left neither a result nor an error: was it stopped, did it die, or never
    begin?
    """
    try:
        said = (root / log).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return f"not begun; {plan.GRID / 'snakemake.log'} says why"
    last = next((line.strip() for line in reversed(said) if line.strip()), "")
    if last == STOPPED:
        return "stopped before it finished; the same command goes on from there"
    return (
        "saw it end without a result and without an error of its own, expected one of them; its "
        f"log ends: {last[-300:] or '(empty)'}"
    )


def tell(failed: Sequence[dict]) -> str:
    """What failed, cell by cell."""
    return "\n".join(
        f"{f['task']}, {f['method']} ({f['profile']}): step {f['step']} of "
        f"{f['notebook']} failed: {f['error']}\n    log: {f['log']}"
        for f in failed
    )


def show(cost: costs.Estimate, cores: int) -> str:
    """The estimate, as it is printed before a run."""
    if not cost.steps:
        return "nothing to do: every step of every cell is finished"
    return (
        f"{cost.steps} steps: about {cost.hours:.1f} hours of one core "
        f"({cost.hours / cores:.1f} h on {cores}), or {cost.gpu_hours:.2f} "
        f"GPU-hours (an H200, measured and inferred); {cost.gigabytes:.2f} GB kept"
    )


def room(root: Path, cost: costs.Estimate) -> None:
    """Refuse a run that the disk cannot hold, once what killed runs left half-written is gone."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    sweep(cache)
    free = shutil.disk_usage(cache).free / 1e9
    if cost.gigabytes > free:
        raise GridError(
            f"{cache}: saw {free:.1f} GB free, expected room for {cost.gigabytes:.1f} "
            "GB of finished steps; make room, set ARQ_CACHE to a larger disk, or ask "
            "for fewer tasks."
        )
