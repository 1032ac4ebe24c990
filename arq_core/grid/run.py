"""`arq table`: the table from the notebooks, on this machine or on a cluster."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from arq_core.book import board, pages
from arq_core.config import processes, settings, surroundings
from arq_core.config.files import write_atomic
from arq_core.config.tasks import task, tasks
from arq_core.grid import costs, driver, plan, slurm
from arq_core.grid.driver import ENGINES, Request
from arq_core.grid.publish import lost, publish, scores

# of the book's own notebooks: the one with all seeds, or the one with a single seed that is like it
BOOK_PROFILES = ("ci", "page")
OWN = "ours"  # suite of the problems that the book's notebooks train
ALL = "all"  # in the place of methods: plan.ALL
SMOKE_PROFILE = "toy"  # of the tasks that a grid has as smoke tests (workflow/grids.toml)


def book_profile(root: Path) -> str:
    """The profile of the book after a run: with all seeds where the grid has made the steps which
    that needs of our own problems, so that they are not trained again; else with one.
    """
    full, single = BOOK_PROFILES
    own = [name for name, row in tasks().items() if row.suite == OWN]
    needed = plan.cells({full: own}, driver.defaults(root, full, "methods"))
    return full if all(plan.finished(root, cell) for cell in needed) else single


def _seeds(text: str) -> tuple[int, ...]:
    if text and not all(s.strip().isdecimal() for s in text.split(",")):
        raise settings.UnknownName(
            f"seeds: saw {text!r}, expected integers >= 0 separated by commas, such as 0,1,2."
        )
    return tuple(int(s) for s in text.split(",")) if text else ()


def names(text: str) -> list[str]:
    """Names separated by spaces or commas.

    "dqp x" and "arq+s_psi unfiltered" are two words: write dqp-x and arq+s_psi-unfiltered, or use
    commas.
    """
    if "," in text:
        return [name.strip() for name in text.split(",") if name.strip()]
    return [plan.SLUGS.get(name, name) for name in text.split()]


def read_request(
    root: Path,
    *,
    profile: str,
    tasks: str = "",
    methods: str = "",
    seeds: str = "",
    engine: str = "laptop",
    variant: str = "released",
    threads: int = 1,
    gpus: int = 0,
    cores: int = 0,
) -> Request:
    """What is asked for, from texts as they are typed; no tasks or methods are the profile's, and
    then its smoke tests come with them. ALL in the place of methods is every one with a column.
    """
    settings.pick("profile", profile, dict.fromkeys(settings.profiles()))
    settings.pick("engine", engine, dict.fromkeys(ENGINES))
    tasks_of = {profile: names(tasks) or driver.defaults(root, profile, "tasks")}
    if not tasks and (smoke := driver.defaults(root, profile, "smoke")):
        tasks_of[SMOKE_PROFILE] = smoke
    named = list(plan.ALL) if methods.strip() == ALL else names(methods)
    cells = plan.cells(tasks_of, named or driver.defaults(root, profile, "methods"), variant)
    return Request(tuple(cells), profile, variant, _seeds(seeds), engine, threads, gpus, cores)


def run(root: Path, request: Request, to_book: bool, results_folder: Path) -> bool:
    """All of `arq table`: whether all cells are finished and none lost its advantage."""
    with driver.only_one(root) as lock:
        if request.engine == "slurm" and (left := slurm.cancel_left_over(root)):
            print(
                f"cancelled what a run that was killed left in the queue: {', '.join(left)}",
                flush=True,
            )
        began, todo = time.monotonic(), driver.planned(root, request)
        cost = _cost(root, request, todo)
        print(f"{_counted(request)} {_shown(request, cost)}", flush=True)
        driver.room(root, cost)
        if todo and (note := surroundings.no_compiler()):
            print(note, file=sys.stderr, flush=True)
        code = driver.execute(root, request, todo, lock) if todo else 0
        with board.said_meanwhile("keeps the rows, and compares them with the stored ones"):
            good = _report(root, request, results_folder, began)
        if code and good:
            print(
                f"error: Snakemake ended with {code}; see {plan.GRID / 'snakemake.log'}",
                file=sys.stderr,
            )
        if to_book:
            # a book that is being built is waited for: hours of work may stand before this
            pages.build(root, book_profile(root), wait=True)
    return good and not code


def planned(root: Path, request: Request, every: bool = False) -> str:
    """What there is to do and what that costs; with `every`, after a line for each step."""
    todo = driver.planned(root, request)
    lines = [
        " ".join([step, c.task, *([] if step in plan.SHARED else [c.method])])
        for step, c in todo
        if every
    ]
    cost = _shown(request, _cost(root, request, todo))
    return "\n".join([*lines, f"{_counted(request)} {cost}"])


def _counted(request: Request) -> str:
    """How many cells are asked for, and which of them are smoke tests."""
    smoke = dict.fromkeys(c.task for c in request.cells if _smoke(c))
    told = f"; smoke tests, whose scores say nothing: {', '.join(smoke)}" if smoke else ""
    return f"{len(request.cells)} cells of profile {request.profile}{told}."


def _smoke(cell: plan.Cell) -> bool:
    return settings.smoke_test(cell.profile, task(cell.task).group)


def _cost(root: Path, request: Request, todo: list[tuple[str, plan.Cell]]) -> costs.Estimate:
    return costs.estimate(root, [(c, s) for s, c in todo], len(request.seeds))


def _shown(request: Request, cost: costs.Estimate) -> str:
    return driver.show(cost, request.cores or processes.cores())


def _report(root: Path, request: Request, folder: Path, began: float) -> bool:
    """Publish what is finished, and say what happened. Whether all is well.

    Said are scores, time, cells that failed and advantages that were lost.
    """
    failed = driver.failures(root, request.cells)
    write_atomic(root / plan.GRID / "failed.json", json.dumps(failed, indent=1).encode())
    gone, watched = lost(root, request.cells, folder)
    said = publish(root, [c for c in request.cells if c not in gone], folder)
    print(scores(root, request.cells), watched, *said["kept"], sep="\n")
    done = len(request.cells) - len(failed)
    print(
        f"{done} of {len(request.cells)} cells finished, "
        f"{len(said['written'])} files of rows written, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    if failed:
        print(
            f"error: {len(failed)} cells are not finished:\n{driver.tell(failed)}", file=sys.stderr
        )
    if gone:
        print(
            f"error: {', '.join(f'{c.task} {c.method}' for c in gone)}: saw no clear advantage "
            f"over behaviour cloning, which the rows in {folder} show; they were not replaced. "
            "Find what changed; if the change is meant, delete those rows and run again.",
            file=sys.stderr,
        )
    return not failed and not gone
