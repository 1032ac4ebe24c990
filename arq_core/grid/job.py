"""One step of the grid as a process: its notebook through papermill, in a lock of its own, and what
it leaves behind when it fails.

    python -m arq_core.grid.job JOB        (from the root of the checkout; JOB is grid.plan.job as
        JSON)

It imports next to nothing where the head of the run has a process ready for the step
(`ready_steps`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from arq_core.config import surroundings
from arq_core.config.paths import GRID_HEAD
from arq_core.grid import ready_steps


def run(root: Path, job: dict) -> float:
    """Run the step's notebook; seconds. What went wrong is kept as .error.json until the step
    succeeds.

    A run that was killed may have left a kernel that still computes this step: one waits for the
    other, and then finds the step finished.
    """
    from filelock import FileLock

    from arq_core.book import notebook
    from arq_core.book.notebook import Job, RunError
    from arq_core.config.files import write_atomic

    place = root / job["place"]
    place.parent.mkdir(parents=True, exist_ok=True)
    failed = place.with_name(f"{place.name}.error.json")
    try:
        with FileLock(place.with_name(f"{place.name}.lock")):
            # of a run that was killed: nobody else writes here now
            for part in place.parent.glob(f".{place.name}.*.ipynb"):
                part.unlink()
            seconds = notebook.run(
                root,
                Job(
                    root / job["notebook"],
                    place.with_name(f"{place.name}.ipynb"),
                    job["parameters"],
                ),
                key="grid",
            )
    except RunError as error:
        named = {k: job["parameters"][k] for k in ("task", "profile", "variant")} | {
            k: job[k] for k in ("method", "step", "notebook")
        }
        write_atomic(
            failed,
            json.dumps(
                named | dict(error=str(error).splitlines()[0], log=f"{job['place']}.log")
            ).encode(),
        )
        raise
    failed.unlink(missing_ok=True)
    return seconds


def do(root: Path, job: dict) -> int:
    """`run`, what became of it printed; the exit status."""
    from arq_core.book.notebook import RunError
    from arq_core.config.command import STOPPED

    try:
        print(f"done in {run(root, job):.0f} s")
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return ready_steps.INTERRUPTED
    return 0


def main(arguments: list[str]) -> int:
    if (code := ready_steps.ask(arguments[0])) is not None:
        return code
    from arq_core.book.side_by_side import stop_with

    surroundings.settle()
    if head := os.environ.get(GRID_HEAD):
        stop_with(int(head))
    return do(Path.cwd(), json.loads(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
