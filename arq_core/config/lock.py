"""One run at a time of what writes the same files: the table, the book, a row.

The operating system holds the lock for the process that took it and for those that inherited its
descriptor: it is gone with the last of them, however they end. The file stays; its text says who
held it, and since when.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOOK_EVERY = 1.0  # seconds, while another run is waited for


@contextlib.contextmanager
def only_one(
    root: Path, name: str | Path, error: type[Exception], wait: bool = False
) -> Iterator[int]:
    """The lock of the file `name` below `root`: a descriptor that a child can inherit (`pass_fds`).

    Where another run holds it: `error`, which says who and since when; with `wait`, the same is
    printed, and it is waited for. A file system that knows no locks gives none, and that is said.
    """
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as f:
        if not _taken(f, path):
            f.seek(0)
            seen = (
                f"{name}: saw a run that is going on "
                f"({f.read().strip() or 'process unknown'}), expected one at a time in this folder"
            )
            if not wait:
                raise error(f"{seen}; wait for it, or stop it with Ctrl-C.")
            print(f"{seen}; this one waits for it", file=sys.stderr, flush=True)
            while not _taken(f, path):
                time.sleep(LOOK_EVERY)
        f.truncate(0)
        f.write(f"process {os.getpid()}, begun {time.strftime('%Y-%m-%d %H:%M:%S')}")
        f.flush()
        yield f.fileno()


@contextlib.contextmanager
def in_turn(path: Path, said: str) -> Iterator[None]:
    """The lock of the file `path`, for what is made once for everybody; where another process has
    it, "`said`; waiting for it" is printed, and it is waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{said}; waiting for it", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _taken(f, path: Path) -> bool:
    """Whether the lock of an open file is ours now, or nobody's."""
    try:
        if fcntl is None:
            raise OSError("fcntl is missing")
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        said = f"{path}: saw a system without such locks ({error}); start one run at a time."
        print(said, file=sys.stderr, flush=True)
    return True
