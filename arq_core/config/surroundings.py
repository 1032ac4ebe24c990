"""What other people's packages expect of a process's surroundings, where a system lacks it.

Containers run users that have no entry in the system's list and no folder of their own, and some
terminals know no Greek. Our own code asks for none of this.
"""

from __future__ import annotations

import getpass
import io
import os
import sys
import tempfile
from pathlib import Path

from arq_core.config import paths, processes


def settle() -> None:
    """Give this process, and those that it starts, a home, a user's name, UTF-8 and threads.

    Nothing is changed that is there: a home is one that can be written to, and threads are bounded
    only where a container leaves fewer cores than the system shows.
    """
    if os.environ.get("HOME") == "":  # would be read as /
        del os.environ["HOME"]
    if not _usable(os.path.expanduser("~")):
        os.environ["HOME"] = str(_spare_home())
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"
    os.environ.setdefault("PYTHONUTF8", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is none, and needs no change
            stream.reconfigure(errors="backslashreplace")
    if processes.cores() < processes.affinity():
        os.environ.setdefault("OMP_NUM_THREADS", str(processes.cores()))


def _usable(folder: str) -> bool:
    return os.path.isabs(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _spare_home() -> Path:
    """A folder in the cache; without a checkout, or where that is read-only, a temporary one."""
    try:
        home = paths.cache_folder() / "home"
        home.mkdir(parents=True, exist_ok=True)
        if _usable(str(home)):
            return home
    except (paths.NoCheckout, OSError):
        pass
    return Path(tempfile.mkdtemp(prefix="arq-home-"))
