"""What this process may use of its machine, and whether another process still runs."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

# where Linux shows a process and its control groups
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use: a container's quota or `taskset` may leave it fewer than
    all.
    """
    quotas = [limit for group in _groups("cpu") if (limit := _quota(group))]
    return max(1, min([affinity(), *map(int, quotas)]))


def affinity() -> int:
    """Cores that the system may run this process on, whatever share of their time it has."""
    if hasattr(psutil.Process, "cpu_affinity"):  # macOS has none
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


def memory() -> int:
    """Bytes of memory, used or not: the machine's, or a container's limit where that is less."""
    limits = [limit for group in _groups("memory") if (limit := _memory_limit(group))]
    return min([psutil.virtual_memory().total, *limits])


def available_memory() -> int:
    """Bytes that can still be taken without swapping: of the machine, or of a container's limit."""
    left = [
        limit - _memory_used(group)
        for group in _groups("memory")
        if (limit := _memory_limit(group))
    ]
    return max(0, min([psutil.virtual_memory().available, *left]))


def _groups(controller: str) -> list[Path]:
    """Folders of the control groups that bound this process, the innermost first (Linux: man 7
    cgroups; version 2 in one tree, version 1 in a tree for each controller).

    A container that sees its own group as the tree's root is bounded by that root's files.
    """
    out = []
    for line in _lines(PROC / "self/cgroup"):
        _, controllers, inside = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        tree = CGROUPS / controllers if controllers else CGROUPS
        if not tree.is_dir():
            tree = CGROUPS / controller
        group = tree / inside.lstrip("/")
        out += [group, *(parent for parent in group.parents if parent.is_relative_to(tree))]
    return list(dict.fromkeys(path for path in out if path.is_dir()))


def _quota(group: Path) -> float | None:
    """Cores of time that a group may use; None where it may use all."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        told = " ".join(line for name in names for line in _lines(group / name)).split()
        if len(told) == 2 and told[0] not in ("max", "-1"):
            return int(told[0]) / int(told[1])
    return None


def _memory_limit(group: Path) -> int | None:
    """Bytes; None where there is no limit, which version 1 writes as a number beyond any memory."""
    now = _lines(group / "memory.max") or _lines(group / "memory.limit_in_bytes")
    return int(now[0]) if now and now[0] != "max" else None


def _memory_used(group: Path) -> int:
    """Bytes that cannot be had back: all that is counted, but files that were read long ago."""
    used = _lines(group / "memory.current") or _lines(group / "memory.usage_in_bytes") or ["0"]
    told = dict(line.split() for line in _lines(group / "memory.stat"))
    cached = told.get("total_inactive_file") or told.get("inactive_file") or 0
    return max(0, int(used[0]) - int(cached))


def _lines(path: Path) -> list[str]:
    """Lines of one of the kernel's small files; none where it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process of ours runs under that number.

    One that has ended, but that nobody asked yet how, does not; nor does somebody else's, under a
    number that was used again.
    """
    try:
        process = psutil.Process(pid)
        ours = os.geteuid() in (0, process.uids().real)
        return ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
