"""Where things lie: the checkout, its data, the cache, copies of public files. The only place that asks the environment for a folder."""
from __future__ import annotations

import os
from pathlib import Path

VARIABLES = {              # each ARQ_* variable that the package reads, and what it is for
    "ARQ_ROOT": "the checkout of The ARQ Book, where arq_core does not lie in one",
    "ARQ_CACHE": "downloads, collected data and finished training steps; data/cache of the checkout where it is not set",
    "ARQ_LOCAL_DATA": "a folder in which copies of public files may lie already; shared/data beside the checkout where it is not set",
    "ARQ_SOLVE_ROWS": "rows of actions that one solve takes at once; by the machine's memory where it is not set",
    "ARQ_GRID_HEAD": "set by a run of the grid for its workers",
}


class NoCheckout(RuntimeError):
    """The settings and tables of the book are needed, and are not there. The message says which folder was expected, and how to name it."""


def supposed_root() -> Path:
    """$ARQ_ROOT, or the folder that holds `arq_core`; nothing is checked."""
    return Path(os.environ.get("ARQ_ROOT") or Path(__file__).resolve().parents[2])


def root() -> Path:
    """The checkout: the folder that holds `data/tasks.csv`."""
    folder = supposed_root()
    if not (folder / "data/tasks.csv").is_file():
        raise NoCheckout(f"{folder}: saw no data/tasks.csv, expected a checkout of The ARQ Book; clone it, and name its folder by ARQ_ROOT=<folder>.")
    return folder


def __getattr__(name: str) -> Path:
    """`DATA`, the checkout's folder `data`: asked for when a module is imported that reads it, so that others work outside of a checkout."""
    if name == "DATA":
        return root() / "data"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def cache_folder() -> Path:
    """$ARQ_CACHE, or `data/cache` of the checkout. Downloads lie in its folder `downloads`."""
    return Path(os.environ.get("ARQ_CACHE") or root() / "data" / "cache")


def local_folder() -> Path:
    """$ARQ_LOCAL_DATA, or `shared/data` next to the checkout: where copies of public files may lie already."""
    return Path(os.environ.get("ARQ_LOCAL_DATA") or root().parent / "shared" / "data")
