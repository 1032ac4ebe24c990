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
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from arq_core.config import lock, processes, settings, surroundings
from arq_core.config.command import STOPPED
from arq_core.config.files import read_toml, sweep, write_atomic
from arq_core.config.paths import GRID_HEAD, cache_folder
from arq_core.config.tasks import tasks
from arq_core.grid import costs, plan
from arq_core.grid.plan import Cell

ENGINES = ("laptop", "slurm", "kubernetes")
SPARED_MEMORY = 0.8  # of the machine's, for steps that run side by side
PR_SET_PDEATHSIG = 1  # prctl(2)
# in a path: what a shell misreads where it is not quoted, and where it is in any quotes
BARE, QUOTED = re.compile(r"[^\w/.+,=:@-]"), re.compile(r"""[$`"'\\!%\n]""")
JOB = re.compile(r"^rule (\w+):$")
WILDCARDS = re.compile(r"^    wildcards: (.*)$")
PROGRESS = re.compile(r"^(\d+) of (\d+) steps")


class GridError(RuntimeError):
    """A run that cannot begin, or that did not end well.

    The message says what was seen, what was expected and what to do.
    """


@dataclass(frozen=True)
class Request:
    """What is asked for. `seeds` are the seeds themselves; none are the profile's."""

    cells: tuple[Cell, ...]
    profile: str
    variant: str
    seeds: tuple[int, ...] = ()
    engine: str = "laptop"
    threads: int = 1
    gpus: int = 0
    cores: int = 0  # 0: all


def defaults(root: Path, profile: str, what: str) -> list[str]:
    """Tasks or methods of a profile's grid (workflow/grids.toml)."""
    names = read_toml(root / "workflow/grids.toml")[profile][what]
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
    tasks_, methods = (
        list(dict.fromkeys(getattr(c, f) for c in request.cells)) for f in ("task", "method")
    )
    text = json.dumps(
        dict(
            tasks=tasks_,
            methods=methods,
            profile=request.profile,
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


def command(root: Path, request: Request, *more: str) -> list[str]:
    """Snakemake on our Snakefile, with the engine's profile, to be run in `root`.

    The names of files are relative to it: Snakemake takes some for patterns.
    """
    local, cores = [], request.cores
    if request.engine == "laptop":  # "all" would be the machine's, of which a container has a share
        local = ["--resources", f"mem_mb={round(SPARED_MEMORY * processes.memory() / 1e6)}"]
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
            w = dict(pair.split("=", 1) for pair in match[1].split(", "))
            method = (
                plan.SLUGS[w["method"]]
                if "method" in w
                else next(
                    c.method for c in request.cells if c.task == w["task"] and step in c.steps()
                )
            )
            found.append((step, Cell(w["task"], method, request.profile, request.variant)))
            step = None
    return found


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


def execute(root: Path, request: Request, total: int, held: int) -> int:
    """Run Snakemake with a progress bar; all it says goes to _build/grid/snakemake.log.

    Its exit status.
    """
    log = root / plan.GRID / "snakemake.log"
    with (
        open(log, "w", encoding="utf-8") as f,
        subprocess.Popen(
            command(root, request),
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            pass_fds=(held,),
            env=environment(root, request),
            preexec_fn=_end_with_parent,
        ) as engine,
    ):
        with tqdm(total=total, desc="steps", unit="step") as bar:
            try:
                for line in engine.stdout:
                    f.write(line)
                    f.flush()
                    if match := PROGRESS.match(line):
                        bar.update(int(match[1]) - bar.n)
            except KeyboardInterrupt:
                # it got the signal too, and stops its steps at their next checkpoint
                engine.wait()
                raise
    return engine.returncode


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
        f"GPU-hours (an H200, from one measured step); {cost.gigabytes:.2f} GB kept"
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
