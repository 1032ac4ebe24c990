"""What a run was computed on: processor, memory, and the NVIDIA devices that it could use, as the system and the driver give them."""
from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

from arq_core.results.provenance import processor

TEXT_BYTES = 96          # NVML_DEVICE_UUID_V2_BUFFER_SIZE and NVML_DEVICE_NAME_V2_BUFFER_SIZE of nvml.h, its longest texts


class Unreadable(Exception):
    """A driver or a counter that does not answer; the message says which, and why."""


class _Memory(ctypes.Structure):
    """nvmlMemory_t, bytes."""

    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


@dataclass(frozen=True)
class GPU:
    """One NVIDIA device, asked through NVML (the library of its driver, developer.nvidia.com/nvml)."""

    library: ctypes.CDLL
    handle: ctypes.c_void_p

    def text(self, function: str) -> str:
        out = ctypes.create_string_buffer(TEXT_BYTES)
        _ask(self.library, function, self.handle, out, ctypes.c_uint(TEXT_BYTES))
        return out.value.decode(errors="replace")

    @property
    def name(self) -> str:
        return self.text("nvmlDeviceGetName")

    @property
    def memory(self) -> int:
        """Bytes."""
        out = _Memory()
        _ask(self.library, "nvmlDeviceGetMemoryInfo", self.handle, ctypes.byref(out))
        return out.total

    def joules(self) -> float:
        """Energy of the whole device since its driver was loaded, which counts millijoules (Volta and later)."""
        out = ctypes.c_ulonglong()
        _ask(self.library, "nvmlDeviceGetTotalEnergyConsumption", self.handle, ctypes.byref(out))
        return out.value / 1e3


def _ask(library: ctypes.CDLL, function: str, *arguments) -> None:
    if not hasattr(library, function):
        raise Unreadable(f"the NVIDIA driver has no {function}")
    if code := getattr(library, function)(*arguments):
        raise Unreadable(f"{function} of the NVIDIA driver answered {code}")


def nvml() -> ctypes.CDLL | None:
    """The driver's library, or None on a machine without one."""
    try:
        return ctypes.CDLL("libnvidia-ml.so.1" if os.name == "posix" else "nvml.dll")
    except OSError:
        return None


def gpus(load: Callable[[], ctypes.CDLL | None] = nvml, visible: str | None = None) -> list[GPU]:
    """The NVIDIA devices that a program started here could use.

    `visible` is the variable CUDA_VISIBLE_DEVICES, read where it is not given: indices or identities. Indices count in the driver's order, which
    is CUDA's own among devices of one kind.
    """
    library = load()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    wanted = None if visible is None else [word.strip() for word in visible.split(",")]
    if library is None or wanted in (["-1"], [""]):
        return []
    _ask(library, "nvmlInit_v2")
    if wanted is None:
        count = ctypes.c_uint()
        _ask(library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        wanted = [str(i) for i in range(count.value)]
    return [_device(library, word) for word in wanted]


def _device(library: ctypes.CDLL, word: str) -> GPU:
    """The device of an index or an identity. A slice of a device (MIG) has no counter of its own."""
    handle = ctypes.c_void_p()
    if word.startswith("MIG"):
        raise Unreadable(f"{word} is a slice of a device")
    if word.isdecimal():
        _ask(library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(int(word)), ctypes.byref(handle))
    else:
        _ask(library, "nvmlDeviceGetHandleByUUID", ctypes.c_char_p(word.encode()), ctypes.byref(handle))
    return GPU(library, handle)


def hardware(load: Callable[[], ctypes.CDLL | None] = nvml) -> dict[str, str]:
    """processor, cores (those this process may use), memory, system and, where the driver answers, gpu."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    out = {"processor": processor(), "cores": str(cores), "system": f"{platform.system()} {platform.release()}"}
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        out["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    try:
        devices = gpus(load)
        told = [f"{gpu.name}, {gpu.memory / 2**30:.1f} GiB" for gpu in devices]
        if told:
            driver = ctypes.create_string_buffer(TEXT_BYTES)
            _ask(devices[0].library, "nvmlSystemGetDriverVersion", driver, ctypes.c_uint(TEXT_BYTES))
            out["gpu"] = f"{'; '.join(told)}; driver {driver.value.decode()}"
    except Unreadable as reason:
        out["gpu"] = f"not known: {reason}"
    return out
