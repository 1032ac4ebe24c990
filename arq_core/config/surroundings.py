"""What a process of ours, and the programs that it starts, see of the user's machine.

Of a user's settings nothing: a notebook, a step of the grid or the builder of the pages does the
same for everybody. Of what other people's packages expect, and a system may lack, all: containers
run users that have no entry in the system's list and no folder of their own, and some terminals
know no Greek.
"""

from __future__ import annotations

import atexit
import getpass
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from arq_core.config import paths, processes

FOLDER = "_build/settings"  # below the root of the checkout
THREADS = "OMP_NUM_THREADS"
BACKEND = "module://matplotlib_inline.backend_inline"
# what finds packages, and says how text and bytecode are kept: no settings of a session
KEPT = {
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONNOUSERSITE",
    "PYTHONUSERBASE",
    "PYTHONPLATLIBDIR",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
    "PYTHONUTF8",
    "PYTHONCOERCECLOCALE",
}
LEFT_OUT = re.compile(
    r"PYTHON[A-Z]*|(JUPYTER|JPY|IPYTHON|IPY|PAPERMILL|NBCLIENT|MPL|MATPLOTLIB|SPHINX"
    r"|DOCUTILS|TQDM|PYDEVD|TRAITLETS)[A-Z0-9_]*"
    # `--profile` says which
    r"|SNAKEMAKE_(WORKFLOW_)?PROFILE"
    # of a terminal: tables and progress bars are as wide as it says
    r"|COLUMNS|LINES|FORCE_COLOR|CLICOLOR|CLICOLOR_FORCE"
)
_bounded: list[str] = []  # the number of threads, where `settle` chose it


def ours(root: Path) -> dict[str, str]:
    """This process's environment for a program that we start; makes the folders it names.

    No configuration of Python, Jupyter, IPython, papermill, matplotlib, docutils or Snakemake
    reaches it: their folders are ours, below `_build` of the checkout. Where packages are found
    (PYTHONPATH), how many threads are used and all that is not a setting of these programs stays.
    ARQ_* folders that were given from where the command was typed are made absolute: the program
    works in the root of the checkout.
    """
    folder = root.resolve() / FOLDER
    own = {
        "IPYTHONDIR": folder / "ipython",
        "MPLCONFIGDIR": folder / "matplotlib",
        "JUPYTER_CONFIG_DIR": folder / "jupyter/config",
        "JUPYTER_DATA_DIR": folder / "jupyter/data",
        "JUPYTER_RUNTIME_DIR": folder / "jupyter/runtime",
    }
    for path in own.values():
        path.mkdir(parents=True, exist_ok=True)
    # readable by their owner alone: they hold the keys of running kernels
    own["JUPYTER_RUNTIME_DIR"].chmod(0o700)
    given = {
        "ARQ_ROOT": paths.root,
        "ARQ_CACHE": paths.cache_folder,
        "ARQ_LOCAL_DATA": paths.local_folder,
    }
    return (
        {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or not LEFT_OUT.fullmatch(name)
        }
        | {name: str(path) for name, path in own.items()}
        | {name: str(find().absolute()) for name, find in given.items() if os.environ.get(name)}
        | {"MPLBACKEND": BACKEND, "DOCUTILSCONFIG": os.devnull, "PYTHONUTF8": "1"}
    )


def begin_in_utf8() -> None:
    """Begin this command anew in Python's UTF-8 mode, where the terminal's language is another: the
    name of a file would else be other characters here than in a notebook.

    What it prints stays in the terminal's language.
    """
    if sys.getfilesystemencoding() == "utf-8" or "utf8" in sys._xoptions:
        return
    if encoding := getattr(sys.stdout, "encoding", None):
        os.environ.setdefault("PYTHONIOENCODING", encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def settle() -> None:
    """Give this process, and those that it starts, a home, a user's name, UTF-8 and threads; and
    see that it imports little (`lean`).

    Nothing is changed that is there: a home is one that can be written to, and threads are bounded
    only where a container leaves fewer cores than the system shows.
    """
    from arq_core.config import lean as lean

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
    if not os.environ.get(THREADS) and processes.cores() < processes.affinity():
        os.environ[THREADS] = str(processes.cores())
        _bounded.append(os.environ[THREADS])


def threads_of_each(workers: int) -> str:
    """What OMP_NUM_THREADS is for each of several programs at a time: the user's, or their share of
    the cores.
    """
    given = os.environ.get(THREADS)
    if given and given not in _bounded:
        return given
    return str(max(1, processes.cores() // workers))


def no_compiler() -> str:
    """What to say once where torch will find no C++ compiler, so that each process that trains
    falls back to uncompiled programs; "" where there is one.
    """
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    try:
        first = (shlex.split(name) or [name])[0]  # "ccache g++"
    except ValueError:  # a lone quote: of a folder's name
        first = name
    if shutil.which(name) or shutil.which(first):
        return ""
    return (
        f"note: saw no C++ compiler {name!r}: training and sampling run uncompiled, slower, and "
        "round a little otherwise; install one (Debian: g++ python3-dev), or name it in "
        "the environment variable CXX."
    )


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
    home = Path(tempfile.mkdtemp(prefix="arq-home-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home
