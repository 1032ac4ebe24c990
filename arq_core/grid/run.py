"""`arq table`: the table from the notebooks, on this machine or on a cluster."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from arq_core.book import pages
from arq_core.config import processes, settings
from arq_core.config.files import write_atomic
from arq_core.grid import costs, driver, plan, slurm
from arq_core.grid.driver import ENGINES, Request
from arq_core.grid.publish import lost, publish, scores

BOOK_PROFILE = "ci"  # of the book's own notebooks, whatever the rows' profile is


def _seeds(text: str) -> tuple[int, ...]:
    if text and not all(s.strip().isdecimal() for s in text.split(",")):
        raise settings.UnknownName(
            f"seeds: saw {text!r}, expected integers >= 0 separated by commas, such as 0,1,2."
        )
    return tuple(int(s) for s in text.split(",")) if text else ()


def _names(text: str) -> list[str]:
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
    """What is asked for, from texts as they are typed; no tasks or methods are the profile's."""
    settings.pick("profile", profile, dict.fromkeys(settings.profiles()))
    settings.pick("engine", engine, dict.fromkeys(ENGINES))
    chosen = {
        what: _names(text) or driver.defaults(root, profile, what)
        for what, text in (("tasks", tasks), ("methods", methods))
    }
    cells = plan.cells(chosen["tasks"], chosen["methods"], profile, variant)
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
        print(
            f"{len(request.cells)} cells of profile {request.profile}. {_shown(request, cost)}",
            flush=True,
        )
        driver.room(root, cost)
        code = driver.execute(root, request, len(todo), lock) if todo else 0
        good = _report(root, request, results_folder, began)
        if code and good:
            print(
                f"error: Snakemake ended with {code}; see {plan.GRID / 'snakemake.log'}",
                file=sys.stderr,
            )
        if to_book:
            # a book that is being built is waited for: hours of work may stand before this
            pages.build(root, BOOK_PROFILE, wait=True)
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
    return "\n".join([*lines, f"{len(request.cells)} cells. {cost}"])


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
