"""Several notebooks at a time, each in a process of its own with its share of the cores.

The steps of our small networks gain little from a second thread; two notebooks side by side take
about the time of one.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tqdm import tqdm

from arq_core.book import notebook, ready
from arq_core.book.board import Board, said_meanwhile
from arq_core.book.notebook import Cell, Job, RunError
from arq_core.config import processes, surroundings

MOST = 4  # notebooks at a time; beyond it, more threads each
MEMORY = 2e9  # bytes that a notebook may need
LOOK_EVERY = 1.0  # seconds


def how_many(cores: int, memory: float) -> int:
    """Notebooks that run at a time on so many cores and bytes of memory, at least one."""
    return max(1, min(MOST, cores, int(memory // MEMORY)))


def here() -> int:
    """how_many of this machine."""
    return how_many(processes.cores(), processes.memory())


def stop_with(head: int) -> None:
    """Interrupt this process, as Ctrl-C would, when the process `head` has ended: what was begun
    for a run that was killed must not go on for hours alone.
    """

    def watch():
        while processes.alive(head):
            time.sleep(LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def _run(
    root: Path, job: Job, key: str, log: Path, threads: str, head: int, answer: Connection
) -> None:
    """In the process of its own: all that is printed goes to the log; the answer is seconds, or
    what went wrong.

    It is interrupted by the process that began it, once, and not by the terminal as well: a second
    interrupt would break into the first one's tidying.
    """
    os.environ[surroundings.THREADS] = threads
    if ready.forked():
        ready.prepare()  # first: it forks
    os.setsid()
    # a shell's background jobs inherit one that is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_with(head)
    with open(log, "w", buffering=1, encoding="utf-8") as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)
        try:
            answer.send(notebook.run(root, job, key, answer.send))
        except RunError as error:
            answer.send(str(error))
        except KeyboardInterrupt:
            pass


def upcoming(
    waiting: Sequence[tuple[Job, str]], running: Mapping[Connection, tuple[Job, Path, object]]
) -> tuple[Job, str] | None:
    """The first of `waiting` that waits for none of the others; None where there is none."""
    coming = {job.target.stem for job, _ in waiting} | {r[0].target.stem for r in running.values()}
    return next((one for one in waiting if not coming.intersection(one[0].after)), None)


def run(
    root: Path,
    jobs: Sequence[tuple[Job, str]],
    workers: int,
    logs: Path,
    costs: Mapping[str, float] | None = None,
) -> None:
    """Run (job, key) in this order, `workers` at a time, none before those that it comes after have
    ended; print each as it begins and ends, and meanwhile what each is at. `costs` are seconds of
    earlier runs by the stem of the target.

    A failure leaves the others going; all failures are in the RunError at the end. Ctrl-C stops all
    of them and leaves no kernel.
    """
    waiting, running, failed = list(jobs), {}, []
    threads = surroundings.threads_of_each(workers)
    logs.mkdir(parents=True, exist_ok=True)
    board = Board(len(waiting), workers, costs or {})
    given = surroundings.ours(root) | {surroundings.THREADS: threads}
    try:
        with board, ready.context(root, given) as context:
            board.expect([job.target.stem for job, _ in waiting])
            while waiting or running:
                while len(running) < workers and (chosen := upcoming(waiting, running)):
                    waiting.remove(chosen)
                    job, key = chosen
                    log, (ours, theirs) = (
                        logs / f"{job.target.stem}.log",
                        context.Pipe(duplex=False),
                    )
                    process = context.Process(
                        target=_run, args=(root, job, key, log, threads, os.getpid(), theirs)
                    )
                    with said_meanwhile("imports what all of them need"):
                        process.start()  # the first: what they are forked from
                    # so that a process that dies ends the pipe
                    theirs.close()
                    running[ours] = job, log, process
                    board.begin(job.target.stem, log)
                    tqdm.write(f"  runs  {job.source.name}  {job.parameters}")
                for heard in wait(list(running), timeout=LOOK_EVERY):
                    job, log, process = running[heard]
                    try:
                        said = heard.recv()
                    except EOFError:
                        said = (
                            f"{job.source}: saw its process end without an answer, expected "
                            "a clean run; is there enough memory?"
                        )
                    if isinstance(said, Cell):
                        board.tell(job.target.stem, str(said))
                        continue
                    del running[heard]
                    process.join()
                    board.end(job.target.stem)
                    if isinstance(said, str):
                        failed.append(f"{said}\n(all it printed: {os.path.relpath(log, root)})")
                        tqdm.write(f"  fails {job.source.name} ({job.target.stem})")
                    else:
                        tqdm.write(f"  done  {job.source.name} ({job.target.stem}) in {said:.0f} s")
                board.look()
    finally:
        for _, _, process in running.values():
            if process.is_alive():
                os.kill(process.pid, signal.SIGINT)
        for _, _, process in running.values():
            process.join()
    if failed:
        raise RunError("\n\n".join(failed))
