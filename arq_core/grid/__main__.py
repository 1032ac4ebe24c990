"""python -m arq_core.grid run|plan|configure|calibrate: the table from the notebooks, on this machine or on a cluster (`make table`)."""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from arq_core.book import pages
from arq_core.book.notebook import RunError
from arq_core.config import settings
from arq_core.config.files import write_atomic
from arq_core.grid import costs, driver, plan, slurm
from arq_core.grid.driver import ENGINES, GridError, Request
from arq_core.grid.publish import lost, publish, scores
from arq_core.results.records import ResultsError

ROOT = Path(__file__).resolve().parents[2]
BOOK_PROFILE = "ci"            # the book's own notebooks; the rows that the tables show are of the profile that was asked for


def _seeds(text: str) -> tuple[int, ...]:
    if text and not all(s.strip().isdecimal() for s in text.split(",")):
        raise settings.UnknownName(f"seeds: saw {text!r}, expected integers >= 0 separated by commas, such as 0,1,2.")
    return tuple(int(s) for s in text.split(",")) if text else ()


def _request(root: Path, given: dict) -> Request:
    profile = given["profile"]
    settings.pick("profile", profile, dict.fromkeys(settings.profiles()))
    settings.pick("engine", given["engine"], dict.fromkeys(ENGINES))
    chosen = {what: _names(given[what]) or driver.defaults(root, profile, what) for what in ("tasks", "methods")}
    return Request(tuple(plan.cells(chosen["tasks"], chosen["methods"], profile, given["variant"])), profile, given["variant"], _seeds(given["seeds"]),
                   given["engine"], given["threads"], given["gpus"], given["cores"])


def _names(text: str) -> list[str]:
    """Names separated by spaces or commas. "dqp x" and "arq+s_psi unfiltered" are two words: write dqp-x and arq+s_psi-unfiltered, or use commas."""
    if "," in text:
        return [name.strip() for name in text.split(",") if name.strip()]
    return [plan.SLUGS.get(name, name) for name in text.split()]


def run(root: Path, request: Request, to_book: bool, results_folder: Path) -> int:
    """All of `make table`; the exit status: 0 where every cell is finished and none lost its advantage over behaviour cloning."""
    with driver.only_one(root) as lock:
        if request.engine == "slurm" and (left := slurm.cancel_left_over(root)):
            print(f"cancelled what a run that was killed left in the queue: {', '.join(left)}", flush=True)
        began, todo = time.monotonic(), driver.planned(root, request)
        cost = costs.estimate(root, [(c, s) for s, c in todo], len(request.seeds))
        print(f"{len(request.cells)} cells of profile {request.profile}. {driver.show(cost, request.cores or os.cpu_count() or 1)}", flush=True)
        driver.room(root, cost)
        code = driver.execute(root, request, len(todo), lock) if todo else 0
        good = _report(root, request, results_folder, began)
        if code and good:
            print(f"error: Snakemake ended with {code}; see {plan.GRID / 'snakemake.log'}", file=sys.stderr)
        built = pages.main(["build", "--profile", BOOK_PROFILE], root) if to_book else 0
    return 0 if good and not code and not built else 1


def _report(root: Path, request: Request, folder: Path, began: float) -> bool:
    """Publish what is finished, and say what happened: scores, time, cells that failed, advantages that were lost. Whether all is well."""
    failed = driver.failures(root, request.cells)
    write_atomic(root / plan.GRID / "failed.json", json.dumps(failed, indent=1).encode())
    gone, watched = lost(root, request.cells, folder)
    said = publish(root, [c for c in request.cells if c not in gone], folder)
    print(scores(root, request.cells), watched, *said["kept"], sep="\n")
    print(f"{len(request.cells) - len(failed)} of {len(request.cells)} cells finished, {len(said['written'])} files of rows written, "
          f"{time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"error: {len(failed)} cells are not finished:\n{driver.tell(failed)}", file=sys.stderr)
    if gone:
        print(f"error: {', '.join(f'{c.task} {c.method}' for c in gone)}: saw no clear advantage over behaviour cloning, which the rows in {folder} show; they were not "
              "replaced. Find what changed; if the change is meant, delete those rows and run again.", file=sys.stderr)
    return not failed and not gone


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m arq_core.grid", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "plan", "configure"):
        asked = commands.add_parser(name)
        for option, default in (("profile", "ci"), ("variant", "released"), ("tasks", ""), ("methods", ""), ("seeds", ""), ("engine", "laptop")):
            asked.add_argument(f"--{option}", default=default)
        for option, default in (("threads", 1), ("gpus", 0), ("cores", 0)):
            asked.add_argument(f"--{option}", type=int, default=default)
        asked.add_argument("--results", default="data/results")
        asked.add_argument("--no-book", action="store_true")
        asked.add_argument("--list", action="store_true", help="print every step that would be done")
    commands.add_parser("calibrate")
    given = vars(parser.parse_args(arguments))
    try:
        return _do(root, given.pop("command"), given)
    except (GridError, slurm.QueueError, RunError, ResultsError, settings.UnknownName) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, the same command goes on from there", file=sys.stderr)
        return 130


def _do(root: Path, name: str, given: dict) -> int:
    if name == "calibrate":
        print(json.dumps(costs.calibrate(root), indent=1))
    else:
        request = _request(root, given)
        if name == "run":
            return run(root, request, not given["no_book"], root / given["results"])
        if name == "configure":
            print(driver.configure(root, request))
        else:
            todo = driver.planned(root, request)
            print(*(" ".join([step, c.task, *([] if step in plan.SHARED else [c.method])]) for step, c in todo if given["list"]), sep="\n")
            print(f"{len(request.cells)} cells. {driver.show(costs.estimate(root, [(c, s) for s, c in todo], len(request.seeds)), request.cores or os.cpu_count() or 1)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
