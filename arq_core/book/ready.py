"""Kernels that are ready before they are asked for: forked from a process that has imported what
notebooks import, instead of started from nothing.

A start from nothing costs each of two dozen notebooks some eight seconds of a processor. Only on
Linux; elsewhere kernels are started as `kernel.manager` says. Nothing has run in the process that
is forked, so a kernel is as fresh as another.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# what most notebooks import, and what runs them
IMPORTED = (
    "arq_core.config.lean",
    "papermill",
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "seaborn",
    "pandas",
    "torch",
    "arq_core.book.side_by_side",
    "arq_core.experiments.experiment",
    "arq_core.figures.common",
    "arq_core.results.tables",
)
POSSIBLE = sys.platform == "linux"
_mine: Ready | None = None


class Ready:
    """A child of this process that becomes a kernel when it is told with what.

    It is forked while this process has one thread. It ends with this process, told or not.
    """

    def __init__(self):
        there, self.tell = os.pipe()
        self.pid = os.fork()
        self.code: int | None = None
        if not self.pid:
            os.close(self.tell)
            _become(there)
        os.close(there)

    def begin(self, command: list[str], env: dict[str, str], cwd: str) -> None:
        """Now it is the kernel that `command` would start."""
        asked = json.dumps(dict(command=command, env=env, cwd=cwd)).encode()
        with os.fdopen(self.tell, "wb") as pipe:
            pipe.write(asked)

    # what jupyter_client asks of a process
    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _become(pipe: int) -> None:
    """In the child: wait for the command, and be it. Never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with os.fdopen(pipe, "rb") as file:
            told = file.read()
        if told:
            code = _kernel(**json.loads(told))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _kernel(command: list[str], env: dict[str, str], cwd: str) -> int:
    from arq_core.book import own_ipykernel_launcher

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = command[1:] + [f"--IPKernelApp.parent_handle={os.getppid()}"]
    # the head may look for modules where a kernel does not
    ask = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]
    sys.path[:] = json.loads(subprocess.run(ask, check=True, stdout=subprocess.PIPE).stdout)
    multiprocessing.set_start_method(None, force=True)
    # as in a process that starts
    random.seed()
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].seed()
    if (threads := env.get("OMP_NUM_THREADS", "")).isdecimal():
        sys.modules["torch"].set_num_threads(int(threads))
    # pandas found no notebook when it was imported, and took this for a terminal
    sys.modules["pandas"].set_option("display.max_columns", 20)
    own_ipykernel_launcher.main()
    return 0


def prepare() -> None:
    """Have a kernel ready in this process, which was forked from `context`'s server and has one
    thread.
    """
    global _mine
    _mine = Ready()


def provisioner() -> Any:
    """What gives a kernel manager the kernel that is ready; None where there is none (any more)."""
    global _mine
    if not _mine:
        return None
    from jupyter_client.provisioning import LocalProvisioner

    ready, _mine = _mine, None

    class Forked(LocalProvisioner):
        """The one that is ready."""

        async def launch_kernel(self, cmd, **more):
            ready.begin(cmd, more["env"], str(more.get("cwd") or os.getcwd()))
            self.process = ready
            self.pid = self.pgid = ready.pid
            return self.connection_info

    return Forked


def forked() -> bool:
    """Whether this process was forked from a server that imported IMPORTED."""
    return "forkserver" in type(multiprocessing.current_process()).__name__.lower()


@contextmanager
def context(
    root: Path, environment: dict[str, str]
) -> Iterator[multiprocessing.context.BaseContext]:
    """A context of multiprocessing whose processes begin with IMPORTED, in this environment.

    The server that they are forked from is gone afterwards. Where a kernel would import another
    `arq_core` than this one, that of the checkout `root`, it is started from nothing.
    """
    if not POSSIBLE or (root / "arq_core").resolve() != Path(__file__).resolve().parents[1]:
        yield multiprocessing.get_context("spawn")
        return
    from multiprocessing import forkserver

    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(list(IMPORTED))
    # one that was begun before has another environment
    forkserver._forkserver._stop()
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield chosen
    finally:
        forkserver._forkserver._stop()
