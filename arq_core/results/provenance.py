"""Where and with what a number was measured: commit, processor, versions, time."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from arq_core.config import processes
from arq_core.config.files import WRITTEN
from arq_core.config.paths import checkout

# git archive, and so the ZIP of a host of repositories, writes the commit into this file
ARCHIVED = ".git_archival.txt"
# a file that the checkout's own repository knows, by this very path
OURS = "data/tasks.csv"


def commit(own: Iterable[str | Path] = ()) -> str:
    """The checkout's commit, with -dirty where files differ from it (`differing`); "unknown" where
    neither git nor the archive it was unpacked from can say.

    A repository that merely holds the checkout's folder, or into which its files were copied, is
    another project's: its commit would name none of our files. An installed package without a
    checkout has a version instead.
    """
    folder = checkout()
    if not folder:
        return f"arq-core {metadata.version('arq-core')}"
    if _git(folder, "ls-files", "--full-name", "--", OURS) == OURS:
        if said := _git(folder, "describe", "--always"):
            return f"{said}-dirty" if differing(own) else said
    archived = folder / ARCHIVED
    text = archived.read_text(encoding="utf-8").strip() if archived.is_file() else ""
    return f"{text}-archive" if re.fullmatch(r"[0-9a-f]{7,40}", text) else "unknown"


def differing(own: Iterable[str | Path] = ()) -> list[str]:
    """Files of the checkout that differ from its commit, but for those that this process has
    written and its `own` records: a measurement is not of another state because it keeps what it
    has measured so far.
    """
    folder = checkout()
    if not folder:
        return []
    theirs = {path.resolve() for path in (*WRITTEN, *map(Path, own))}
    names = _git(folder, "diff", "--name-only", "-z", "HEAD", "--").split("\0")
    return [name for name in filter(None, names) if (folder / name).resolve() not in theirs]


def _git(folder: Path, *asked: str) -> str:
    """What git answers in a folder; "" where it cannot, or is not installed."""
    # a hook of another repository's sets GIT_DIR, GIT_WORK_TREE, ... for all that it starts
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # in a container the checkout is often somebody else's; what it holds is run by us anyway
    command = ["git", "-c", f"safe.directory={folder}", *asked]
    try:
        run = subprocess.run(command, cwd=folder, env=clean, capture_output=True)
    except OSError:
        return ""
    return run.stdout.decode(errors="replace").strip() if not run.returncode else ""


def processor() -> str:
    """The processor's name and the number of cores that this process may use."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    names = re.findall(r"model name\s*:\s*(.+)", text)
    return f"{names[0] if names else platform.machine()}, {processes.cores()} cores"


def versions() -> dict[str, str]:
    """Python's version and those of the packages that a measured number depends on, where they are
    installed.
    """
    found = {"python": platform.python_version()}
    for package in ("torch", "numpy", "mujoco", "gymnasium", "gymnasium-robotics", "robosuite"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def provenance(device: str = "", own: str | Path = "") -> dict:
    """The fields device, commit, versions and created of a row measured now; `device` defaults to
    the processor. `own` is the record that they will stand in: it may differ from the commit; where
    other files do, a warning names them, since no commit holds what is measured.
    """
    record = [own] if own else []
    if own and (others := differing(record)):
        warnings.warn(
            f"{own}: saw {', '.join(others[:5])}{' and more' if others[5:] else ''} differ from "
            "the commit, expected a record of a commit that there is; commit them, then measure.",
            stacklevel=2,
        )
    return {
        "device": device or processor(),
        "commit": commit(record),
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
