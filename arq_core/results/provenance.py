"""Where and with what a number was measured: commit, processor, versions, time."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from arq_core.config.paths import root


def commit() -> str:
    """The checkout's commit, with -dirty where files differ from it; "unknown" outside a
    checkout.
    """
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root(), capture_output=True, text=True
    )
    return run.stdout.strip() or "unknown"


def processor() -> str:
    """The processor's name and the number of its cores, as the system gives them."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


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


def provenance(device: str = "") -> dict:
    """The fields device, commit, versions and created of a row measured now; `device` defaults to
    the processor.
    """
    return {
        "device": device or processor(),
        "commit": commit(),
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
