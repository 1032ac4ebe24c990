"""Steps of the grid on this machine, forked from a process that has imported what they need
(book.ready): the run's head serves them, and a step that Snakemake starts asks for one.

A process of its own with a kernel of its own costs each of some sixty steps ten seconds of a
processor, more than most of them compute. Where nothing can be forked, or nobody serves (a cluster;
a step begun by hand), a step runs in the process that was started for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from arq_core.config import surroundings
from arq_core.config.paths import GRID_READY

INTERRUPTED = 130  # exit status of a step that was stopped
ANSWER = 64  # bytes, at most


def ask(job: str) -> int | None:
    """Have a step (grid.plan.job, as JSON) done by who serves; its exit status. None where nobody
    does.

    An interrupt is passed on, and the step's end waited for.
    """
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(os.environ[GRID_READY])
        except (KeyError, OSError):
            return None
        asked = dict(job=json.loads(job), threads=os.environ.get(surroundings.THREADS, "1"))
        stopped = False
        while True:
            try:
                if asked:
                    line.sendall(json.dumps(asked).encode() + b"\n")
                    asked = None
                elif stopped:
                    line.shutdown(socket.SHUT_WR)
                    stopped = False
                said = line.recv(ANSWER)
                return int(said) if said else INTERRUPTED
            except KeyboardInterrupt:
                stopped = True
            except OSError:
                return INTERRUPTED


@contextmanager
def serve(root: Path, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """What the environment of a step must say for `ask` to be answered, while this lasts; nothing
    where steps cannot be forked. `environment` is the steps'.
    """
    from arq_core.book import ready

    if not ready.POSSIBLE:
        yield {}
        return
    folder = tempfile.mkdtemp(prefix="arq-")  # short: a socket's name has at most 107 bytes
    listener = socket.socket(socket.AF_UNIX)
    try:
        try:
            listener.bind(address := f"{folder}/steps")
        except OSError:
            yield {}
            return
        listener.listen()
        with Server(root, environment) as server:
            threading.Thread(target=server.accept, args=(listener,), daemon=True).start()
            yield {GRID_READY: address}
    finally:
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """Forks a process for each step that is asked for, and interrupts it when who asked is gone.

    The process that they are forked from begins with the first of them.
    """

    def __init__(self, root: Path, environment: Mapping[str, str]):
        self.root, self.environment = root, dict(environment)
        self.context, self.lock, self.left = None, threading.Lock(), ExitStack()
        self.running: set = set()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_) -> None:
        for process in list(self.running):
            _interrupt(process)
        for process in list(self.running):
            process.join()
        self.left.close()

    def accept(self, listener: socket.socket) -> None:
        """Answer whoever asks, until the listener is closed."""
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(line,), daemon=True).start()

    def answer(self, line: socket.socket) -> None:
        """Do one step, and say its exit status."""
        with line, line.makefile("rb") as heard:
            if not (asked := heard.readline()):
                return
            process = self.begin(**json.loads(asked))

            def watch():
                heard.read()  # until the other end is closed
                _interrupt(process)

            threading.Thread(target=watch, daemon=True).start()
            process.join()
            self.running.discard(process)
            try:
                line.sendall(str(process.exitcode).encode())
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # nobody waits for it any more

    def begin(self, job: dict, threads: str):
        """The process of a step, started."""
        from arq_core.book import ready

        with self.lock:
            if self.context is None:
                given = self.environment | {surroundings.THREADS: threads}
                self.context = self.left.enter_context(ready.context(self.root, given))
            process = self.context.Process(
                target=_do, args=(self.root, job, threads, os.getpid()), daemon=False
            )
            process.start()
            self.running.add(process)
        return process


def _interrupt(process) -> None:
    if process.is_alive():
        try:
            os.kill(process.pid, signal.SIGINT)
        except ProcessLookupError:
            pass  # it has just ended


def _do(root: Path, job: dict, threads: str, head: int) -> None:
    """In the forked process: what `python -m arq_core.grid.job` does, printed to the step's log."""
    import sys

    from arq_core.book import ready, side_by_side
    from arq_core.grid import job as alone

    os.environ[surroundings.THREADS] = threads
    if ready.forked():
        ready.prepare()  # first: it forks
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(root)
    side_by_side.stop_with(head)
    with open(root / f"{job['place']}.log", "a", buffering=1, encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        code = alone.do(root, job)
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(code)
