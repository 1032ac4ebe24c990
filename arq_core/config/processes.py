"""What this process may use of its machine, and whether another process still runs."""

from __future__ import annotations

import os

import psutil


def cores() -> int:
    """Cores that this process may use: a container or `taskset` may leave it fewer than all."""
    if hasattr(psutil.Process, "cpu_affinity"):  # macOS has none
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


def memory() -> int:
    """Bytes of the machine's memory, used or not."""
    return psutil.virtual_memory().total


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
