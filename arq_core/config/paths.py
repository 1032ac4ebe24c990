"""Where things lie: the checkout, its data, the cache, copies of public files.

The only place that asks the environment for a folder, and the list of all ARQ_* variables.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

NEEDED = ("data/tasks.csv", "book")  # what a checkout is known by
INSTALLED = "share/arq-core/data/tasks.csv"  # what pyproject.toml has an installation copy
# the process of a run of the grid, for the steps that it began on its own machine
GRID_HEAD = "ARQ_GRID_HEAD"
# where that process answers steps that ask it for a process which is ready
GRID_READY = "ARQ_GRID_READY"
VARIABLES = {  # each ARQ_* variable that is read, and what it is for
    "ARQ_ROOT": "the checkout to work in; not set: the folder above the package",
    "ARQ_CACHE": "where downloads and finished steps are kept; not set: data/cache of the checkout",
    "ARQ_LOCAL_DATA": "files that you have already; not set: shared/data beside the checkout",
    "ARQ_SOLVE_ROWS": "rows of a network at once, for devices with little memory",
    "ARQ_GRID_HEAD": "set by arq table for its steps: the process that they end with",
    "ARQ_GRID_READY": "set by arq table for its steps: where it answers them",
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
    """The checkout: $ARQ_ROOT; or the folder above the package; or, for an installed package, the
    working folder or the nearest one around it that is a checkout.
    """
    if named := _folder("ARQ_ROOT"):
        return _checked(named.resolve())
    home = Path(__file__).resolve().parents[2]
    for folder in (home, Path.cwd(), *Path.cwd().parents):
        if not _missing(folder):
            return folder
    return _checked(home)


def _missing(folder: Path) -> list[str]:
    return [name for name in NEEDED if not (folder / name).exists()]


def _checked(folder: Path) -> Path:
    if missing := _missing(folder):
        raise NoCheckout(
            f"{folder}: saw no {' and no '.join(missing)}, expected a checkout of The ARQ Book; "
            "clone it, and work in it or name its folder in the environment variable ARQ_ROOT."
        )
    return folder


def checkout() -> Path | None:
    """`root`, or None where an installed package works without a checkout."""
    try:
        return root()
    except NoCheckout:
        if os.environ.get("ARQ_ROOT") or not installed_settings():
            raise
        return None


def installed_settings() -> Path | None:
    """The folder of tables and settings that `pip install` copied; None where it copied none.

    pip lists where it put them, though not rightly under --target: there they lie beside the
    package.
    """
    # the one that this very package came with
    here = str(Path(__file__).resolve().parents[2])
    package = next(iter(metadata.distributions(name="arq-core", path=[here])), None)
    if not package:
        return None
    listed = [file for file in package.files or [] if file.as_posix().endswith(INSTALLED)]
    found = [package.locate_file(INSTALLED), *map(package.locate_file, listed)]
    return next(
        (Path(str(path)).resolve().parent for path in found if Path(str(path)).is_file()), None
    )


def __getattr__(name: str) -> Path:
    """`DATA`, the folder `data` of the checkout or, without one, of the installation.

    It is asked for when a module is imported that reads it, so that others work without either.
    """
    if name == "DATA":
        folder = checkout()
        return folder / "data" if folder else installed_settings() or _checked(Path.cwd())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def cache_folder() -> Path:
    """$ARQ_CACHE; or `data/cache` of the checkout; or, without one, `arq` in the user's cache.

    Downloads lie in its folder `downloads`.
    """
    if named := _folder("ARQ_CACHE"):
        return named
    if folder := checkout():
        return folder / "data" / "cache"
    return (_folder("XDG_CACHE_HOME") or given("~/.cache")) / "arq"


def local_folder() -> Path:
    """$ARQ_LOCAL_DATA, or `shared/data` beside the checkout (without one, in the cache): copies of
    public files.
    """
    if named := _folder("ARQ_LOCAL_DATA"):
        return named
    folder = checkout()
    return (folder.parent if folder else cache_folder()) / "shared" / "data"


def minari_folder() -> Path:
    """$MINARI_DATASETS_PATH, or `~/.minari/datasets`: where Minari keeps what it downloaded."""
    return _folder("MINARI_DATASETS_PATH") or given("~/.minari/datasets")


def variables() -> dict[str, str]:
    """What each ARQ_* variable is for; one that is set, and that nothing reads, is named too."""
    unknown = sorted(
        name for name in os.environ if name.startswith("ARQ_") and name not in VARIABLES
    )
    return VARIABLES | dict.fromkeys(unknown, "not one of ours")
