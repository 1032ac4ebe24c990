"""What is going on, while several things run side by side: a line for each of them, which moves.

On a terminal the lines stand at its bottom; elsewhere all of it is printed as one line every few
seconds. How long things take is known from earlier runs (`Costs`), and corrected by what this one
has taken so far.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

EVERY = 3.0  # seconds between two lines of a log
LONG = 60.0  # seconds; what takes longer is said before it begins
UNKNOWN = 20.0  # seconds of something that was never measured
WIDTH = 100  # of a line
TRUSTED = 60.0  # seconds of earlier runs that a ratio to them needs, to count for a half


def clock(seconds: float) -> str:
    """2:05, or 1:02:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def about(seconds: float) -> str:
    """A duration that is not known well: 40 s, 5 min, 2.5 h."""
    if seconds < 55:
        return f"{max(5, round(seconds / 5) * 5)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def last_words(log: Path) -> str:
    """What a program printed last, such as how far a progress bar has come."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 400))
            text = file.read().decode(errors="ignore")
    except OSError:
        return ""
    said = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return re.sub(r"\|.*", "", said[-1]).strip()[:60] if said else ""


@contextmanager
def said_meanwhile(what: str) -> Iterator[None]:
    """While something runs that says nothing itself: what it is, and every few seconds how long it
    has run.

    It is said at once: an import of a large library lets no other thread speak.
    """
    begun, over = time.monotonic(), threading.Event()

    def say():
        while not over.wait(EVERY):
            spent = clock(time.monotonic() - begun)
            print(f"  {what}, {spent}", file=sys.stderr, flush=True)

    print(f"  {what}", file=sys.stderr, flush=True)
    speaker = threading.Thread(target=say, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        over.set()
        speaker.join()


@dataclass
class Running:
    """Something that has begun: since when, how long it is thought to take, and what it does."""

    begun: float
    seconds: float
    log: Path
    what: str = ""
    since: float = 0.0  # when `what` began


@dataclass
class Board:
    """`total` things, `workers` at a time, whose durations `costs` has by name (seconds, on the
    machine where they were measured).
    """

    total: int
    workers: int
    costs: Mapping[str, float] = field(default_factory=dict)
    noun: str = "notebook"
    now: Callable[[], float] = time.monotonic
    terminal: bool | None = None

    def __post_init__(self):
        self.begun, self.printed, self.done = self.now(), -EVERY, 0
        self.running: dict[str, Running] = {}
        self.waiting: dict[str, float] = {}
        self.taken, self.thought = 0.0, 0.0
        if self.terminal is None:
            self.terminal = sys.stderr.isatty()
        self.bars: list[tqdm] = []

    def __enter__(self) -> Board:
        if self.terminal:
            shown = range(self.workers + 1)
            self.bars = [tqdm(bar_format="{desc}", position=i, leave=False) for i in shown]
        return self

    def __exit__(self, *_) -> None:
        for bar in self.bars:
            bar.close()

    def expect(self, names: list[str]) -> None:
        """Say what there is to do, how long it takes and what is long in it."""
        self.waiting = {name: self.costs.get(name, UNKNOWN) for name in names}
        long = sorted((s, name) for name, s in self.waiting.items() if s >= LONG)
        told = f"  {len(names)} {self.noun}s, {self.workers} at a time: about {about(self.left())}"
        if long:
            told += "; the longest: " + ", ".join(
                f"{name} ({about(seconds)})" for seconds, name in long[:-4:-1]
            )
        tqdm.write(told)

    def begin(self, name: str, log: Path) -> None:
        """Something begins; what it prints goes to `log`."""
        seconds = self.waiting.pop(name, self.costs.get(name, UNKNOWN))
        self.running[name] = Running(self.now(), seconds, log, since=self.now())

    def tell(self, name: str, what: str) -> None:
        """What something that runs has come to."""
        if name in self.running:
            self.running[name].what, self.running[name].since = what, self.now()

    def end(self, name: str) -> None:
        """Something has ended, well or not."""
        if ended := self.running.pop(name, None):
            self.taken += self.now() - ended.begun
            self.thought += ended.seconds
            self.done += 1

    def pace(self) -> float:
        """How much longer things take here than they were thought to."""
        return (self.taken + TRUSTED) / (self.thought + TRUSTED)

    def left(self) -> float:
        """Seconds until all is done, as far as one knows."""
        pace = self.pace()
        rests = [max(0, r.seconds * pace - (self.now() - r.begun)) for r in self.running.values()]
        later = [seconds * pace for seconds in self.waiting.values()]
        together = (sum(rests) + sum(later)) / max(1, self.workers)
        return max([together, *rests, *later])

    def lines(self) -> list[str]:
        """How much is done, and a line for each thing that runs."""
        left = f", about {about(self.left())} left" if self.done < self.total else ""
        spent = clock(self.now() - self.begun)
        first = f"{self.done} of {self.total} {self.noun}s done, {spent}{left}"
        return [first, *(self._line(name, run) for name, run in self.running.items())]

    def _line(self, name: str, run: Running) -> str:
        parts = [run.what, last_words(run.log), clock(self.now() - run.since)]
        return f"{name}: {', '.join(filter(None, parts))}"

    def look(self, due: bool = False) -> None:
        """Show it, if it is time to (or `due` anyway); called often."""
        if self.terminal:
            lines = self.lines()
            for i, bar in enumerate(self.bars):
                bar.set_description_str(
                    ("  " * (i > 0) + lines[i] if i < len(lines) else "")[:WIDTH]
                )
        elif due or self.now() - self.printed >= EVERY:
            self.printed = self.now()
            print("  " + " | ".join(self.lines()), file=sys.stderr, flush=True)


def measured(path: Path) -> dict[str, float]:
    """Seconds by name, as `data/benchmarks` has them; none where nothing was measured."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
