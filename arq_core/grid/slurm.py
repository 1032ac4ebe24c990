"""What a run on Slurm leaves in the queue when it is killed.

A later run takes it away: what waits there would begin a step again under its feet.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

PREFIX = "arq_"  # workflow/profiles/slurm: slurm-jobname-prefix
PATIENCE = 120.0  # seconds until a cancelled job must be out of the queue


class QueueError(RuntimeError):
    """Slurm did not answer as it should.

    The message says what was seen, what was expected and what to do.
    """


def _ask(*command: str) -> str:
    try:
        run = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=PATIENCE)
    except FileNotFoundError:
        raise QueueError(
            f"saw no command {command[0]!r}, expected Slurm's; start the run on a "
            "machine that can send jobs to the cluster."
        ) from None
    if run.returncode:
        raise QueueError(
            f"{' '.join(command)}: saw {run.stderr.strip()!r}, expected an answer; is "
            "the cluster's controller up?"
        )
    return run.stdout


def left_over(root: Path) -> list[str]:
    """Numbers of our jobs in the queue that work in this folder: by the prefix of their name and
    their working directory.
    """
    found = []
    for line in _ask("squeue", "--me", "--noheader", "--format=%i|%j|%Z").splitlines():
        number, name, folder = line.strip().split("|", 2)
        if name.startswith(PREFIX) and Path(folder).resolve() == root.resolve():
            found.append(number)
    return found


def cancel_left_over(root: Path) -> list[str]:
    """Cancel those jobs and wait until they are gone; their numbers.

    Call it with the folder's lock held: then no other run owns them.
    """
    numbers, end = left_over(root), time.monotonic() + PATIENCE
    if numbers:
        _ask("scancel", *numbers)
    while remaining := set(left_over(root)) & set(numbers):
        if time.monotonic() > end:
            raise QueueError(
                f"saw jobs {', '.join(sorted(remaining))} of an earlier run in the queue "
                f"{PATIENCE:.0f} s after they were cancelled, expected them gone; see "
                "`squeue --me`, and run the same command again when they are."
            )
        time.sleep(1)
    return numbers
