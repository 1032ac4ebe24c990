"""Where things lie: the checkout, its data, the cache, copies of public files.

The only place that asks the environment for a folder, and the list of all ARQ_* variables.
"""

from __future__ import annotations

import os
from pathlib import Path

NEEDED = ("data/tasks.csv", "book")  # what a checkout is known by
# the process of a run of the grid, for the steps that it began on its own machine
GRID_HEAD = "ARQ_GRID_HEAD"
VARIABLES = {  # each ARQ_* variable that is read, and what it is for
    "ARQ_ROOT": "the checkout to work in; not set: the folder above the package",
    "ARQ_CACHE": "where downloads and finished steps are kept; not set: data/cache of the checkout",
    "ARQ_LOCAL_DATA": "files that you have already; not set: shared/data beside the checkout",
    "ARQ_SOLVE_ROWS": "rows of a network at once, for devices with little memory",
    "ARQ_GRID_HEAD": "set by arq table for its steps: the process that they end with",
    "ARQ_SLURM_PORT": "first port of workflow/slurm_here.sh; not set: 17000",
    "ARQ_D4RL_INFOS": "set by make test after make peers: d4rl's own scores, to compare ours with",
    "ARQ_ROBOMIMIC": "set by make test after make peers: robomimic's own code",
    "ARQ_ROBOMIMIC_REGISTRY": "set by make test after make peers: robomimic's own addresses",
    "ARQ_RLIABLE": "set by make test after make peers: rliable's own code",
}


def given(path: str | Path) -> Path:
    """A path as somebody typed it, with ~ and $VARIABLES filled in.

    What exists decides: a $ that is a part of an existing name is left as it is.
    """
    text = os.path.expanduser(path)
    return Path(text if os.path.exists(text) else os.path.expandvars(text))


def _folder(variable: str) -> Path | None:
    """The folder that a variable of the environment names; None where it is not set or empty."""
    text = os.environ.get(variable)
    return given(text) if text else None


class NoCheckout(RuntimeError):
    """The settings and tables of the book are needed, and are not there.

    The message says which folder was expected, and how to name it.
    """


def root() -> Path:
    """The checkout: $ARQ_ROOT, or the folder above the package."""
    folder = (_folder("ARQ_ROOT") or Path(__file__).parents[2]).resolve()
    if missing := [name for name in NEEDED if not (folder / name).exists()]:
        raise NoCheckout(
            f"{folder}: saw no {' and no '.join(missing)}, expected a checkout of The ARQ Book; "
            "clone it, and name its folder in the environment variable ARQ_ROOT."
        )
    return folder


def __getattr__(name: str) -> Path:
    """`DATA`, the checkout's folder `data`.

    It is asked for when a module is imported that reads it, so that others work without a checkout.
    """
    if name == "DATA":
        return root() / "data"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def cache_folder() -> Path:
    """$ARQ_CACHE, or `data/cache` of the checkout. Downloads lie in its folder `downloads`."""
    return _folder("ARQ_CACHE") or root() / "data" / "cache"


def local_folder() -> Path:
    """$ARQ_LOCAL_DATA, or `shared/data` beside the checkout: copies of public files."""
    return _folder("ARQ_LOCAL_DATA") or root().parent / "shared" / "data"


def minari_folder() -> Path:
    """$MINARI_DATASETS_PATH, or `~/.minari/datasets`: where Minari keeps what it downloaded."""
    return _folder("MINARI_DATASETS_PATH") or given("~/.minari/datasets")


def variables() -> dict[str, str]:
    """What each ARQ_* variable is for; one that is set, and that nothing reads, is named too."""
    unknown = sorted(
        name for name in os.environ if name.startswith("ARQ_") and name not in VARIABLES
    )
    return VARIABLES | dict.fromkeys(unknown, "not one of ours")
