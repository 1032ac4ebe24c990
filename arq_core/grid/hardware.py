"""What a run was computed on: processor, memory, and the NVIDIA devices that it could use.

The devices are asked through `pynvml`, NVIDIA's own binding to the library of its driver.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pynvml

from arq_core.config import processes
from arq_core.results.provenance import processor


class Unreadable(Exception):
    """A driver or a counter that does not answer; the message says which, and why."""


def _ask(driver: ModuleType, function: str, *arguments) -> Any:
    try:
        return getattr(driver, function)(*arguments)
    except pynvml.NVMLError as error:
        raise Unreadable(f"{function} of the NVIDIA driver answered: {error}") from None


@dataclass(frozen=True)
class GPU:
    """One NVIDIA device."""

    driver: ModuleType
    handle: Any

    @property
    def name(self) -> str:
        return _ask(self.driver, "nvmlDeviceGetName", self.handle)

    @property
    def memory(self) -> int:
        """Bytes."""
        return _ask(self.driver, "nvmlDeviceGetMemoryInfo", self.handle).total

    def joules(self) -> float:
        """Energy of the whole device since its driver was loaded (Volta and later)."""
        return _ask(self.driver, "nvmlDeviceGetTotalEnergyConsumption", self.handle) / 1e3


def _begin(driver: ModuleType) -> bool:
    """Whether this machine has a driver, which can be asked from then on."""
    try:
        driver.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return False
    except pynvml.NVMLError as error:
        raise Unreadable(f"nvmlInit of the NVIDIA driver answered: {error}") from None
    return True


def gpus(driver: ModuleType = pynvml, visible: str | None = None) -> list[GPU]:
    """The NVIDIA devices that a program started here could use.

    `visible` is the variable CUDA_VISIBLE_DEVICES, read where it is not given: indices or
    identities. Indices count in the driver's order, which is CUDA's own among devices of one kind.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    wanted = None if visible is None else [word.strip() for word in visible.split(",")]
    if wanted in (["-1"], [""]) or not _begin(driver):
        return []
    if wanted is None:
        wanted = map(str, range(_ask(driver, "nvmlDeviceGetCount")))
    return [_device(driver, word) for word in wanted]


def _device(driver: ModuleType, word: str) -> GPU:
    """The device of an index or an identity. A slice of one (MIG) has no counter of its own."""
    if word.startswith("MIG"):
        raise Unreadable(f"{word} is a slice of a device")
    if word.isdecimal():
        return GPU(driver, _ask(driver, "nvmlDeviceGetHandleByIndex", int(word)))
    return GPU(driver, _ask(driver, "nvmlDeviceGetHandleByUUID", word))


def hardware(driver: ModuleType = pynvml) -> dict[str, str]:
    """processor, cores (those this process may use), memory, system, and gpu where there is one."""
    out = {
        "processor": processor(),
        "cores": str(processes.cores()),
        "system": f"{platform.system()} {platform.release()}",
        "memory": f"{processes.memory() / 2**30:.1f} GiB",
    }
    try:
        told = [f"{gpu.name}, {gpu.memory / 2**30:.1f} GiB" for gpu in gpus(driver)]
        if told:
            version = _ask(driver, "nvmlSystemGetDriverVersion")
            out["gpu"] = f"{'; '.join(told)}; driver {version}"
    except Unreadable as reason:
        out["gpu"] = f"not known: {reason}"
    return out
