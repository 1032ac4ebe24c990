"""Joules that a piece of work used, where the machine counts them: Intel's and AMD's processors
(RAPL), NVIDIA's devices (NVML).

The counters are the machine's: whatever else ran on it in that time is counted too. Memory, disks,
fans and losses of the power supply are not. Where there is no counter, or it may not be read, the
answer is None and the reason: nothing is estimated from a rated or a drawn power.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pynvml

from arq_core.grid import hardware
from arq_core.grid.hardware import Unreadable

RAPL = Path("/sys/class/powercap")
# seconds; the smallest ranges, 65 kJ, then hold for processors of up to 2 kW
READ_EVERY = 30.0


@dataclass(frozen=True)
class Counter:
    """A meter that only rises: `read()` is in joules, and starts again at 0 where it would exceed
    `range_j`.
    """

    name: str
    read: Callable[[], float]
    range_j: float


def processor_counters(root: Path = RAPL) -> list[Counter]:
    """One counter for each processor package (docs.kernel.org/power/powercap).

    Zones inside a package (cores, memory) and the zone of the whole platform count the same joules
    again, and are left out.
    """
    zones = [
        zone
        for zone in sorted(root.glob("intel-rapl:*"))
        if re.fullmatch(r"intel-rapl:\d+", zone.name)
    ]
    counters = []
    for zone in zones:
        name = _read(zone / "name")
        if name.startswith("package"):
            counters.append(
                Counter(
                    name,
                    lambda path=zone / "energy_uj": _microjoules(path),
                    _microjoules(zone / "max_energy_range_uj"),
                )
            )
    if not counters:
        raise Unreadable(f"no package in {root}")
    return counters


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as e:
        raise Unreadable(f"{path}: {e.strerror}") from None


def _microjoules(path: Path) -> float:
    """Joules, from a file that holds microjoules."""
    text = _read(path)
    if not text.isdecimal():
        raise Unreadable(f"{path}: saw {text[:40]!r}, expected microjoules")
    return int(text) / 1e6


def gpu_counters(driver: ModuleType = pynvml) -> list[Counter]:
    """One counter for each NVIDIA device that a program started here could use; their 64 bits do
    not run over.
    """
    return [Counter(gpu.name, gpu.joules, float("inf")) for gpu in hardware.gpus(driver)]


class Meter:
    """`joules` counted so far (None where nothing could be), over so many `seconds`, and `source`:
    what was counted, or why nothing was.
    """

    def __init__(self, **kinds: Callable[[], list[Counter]]):
        self.joules: float | None = None
        self._began = time.monotonic()
        self._lock, self._kinds, self._reasons = threading.Lock(), {}, {}
        for kind, find in kinds.items():
            try:
                if counters := find():
                    self._kinds[kind] = {counter: (counter.read(), 0.0) for counter in counters}
            except Unreadable as reason:
                self._reasons[kind] = str(reason)
        self.read()

    def read(self) -> None:
        """Count what the counters rose since the last reading.

        A kind of which one counter stops to answer is given up as a whole.
        """
        with self._lock:
            for kind, states in list(self._kinds.items()):
                try:
                    self._kinds[kind] = {
                        counter: _advance(counter, *state) for counter, state in states.items()
                    }
                except Unreadable as reason:
                    self._reasons[kind] = str(reason)
                    del self._kinds[kind]
            risen = [total for states in self._kinds.values() for _, total in states.values()]
            self.joules = sum(risen) if risen else None
            self.seconds = time.monotonic() - self._began

    def of(self, seconds: float) -> tuple[float | None, str]:
        """(joules, source) of work that took `seconds`; no joules where the meter ran for less:
        some of the work was then done, and kept, before.
        """
        if self.joules is not None and self.seconds < seconds:
            return (
                None,
                f"not known: of {seconds:.1f} s of work {self.seconds:.1f} s at most were "
                "done while the counters were read; the rest was finished before",
            )
        return self.joules, self.source

    @property
    def source(self) -> str:
        missed = ", ".join(f"{kind}: {reason}" for kind, reason in self._reasons.items())
        if not self._kinds:
            return f"no readable counter ({missed})"
        counted = "; ".join(
            f"{kind}: {', '.join(counter.name for counter in states)}"
            for kind, states in self._kinds.items()
        )
        return counted + (f"; not counted: {missed}" if missed else "")


def _advance(counter: Counter, last: float, total: float) -> tuple[float, float]:
    """(reading, joules counted) after another reading."""
    now = counter.read()
    return now, total + (now - last if now >= last else now - last + counter.range_j)


@contextmanager
def meter(
    root: Path = RAPL, driver: ModuleType = pynvml, every: float = READ_EVERY
) -> Iterator[Meter]:
    """`with energy.meter() as m:` and then `m.joules`, `m.source`.

    A thread reads meanwhile, so that no counter runs over unseen.
    """
    counting = Meter(processor=lambda: processor_counters(root), gpu=lambda: gpu_counters(driver))
    stop = threading.Event()

    def watch():
        while not stop.wait(every):
            counting.read()

    thread = threading.Thread(target=watch, daemon=True, name="energy")
    thread.start()
    try:
        yield counting
    finally:
        stop.set()
        thread.join()
        counting.read()
