"""`arq reference`: rows of published files, one dataset a run, on a machine that has the network.

A run takes the next dataset of the queue, fetches it, lets `arq table` train its methods within a
time limit, and lays finished rows out for whoever proposes them. What it came to is kept in the
cache (STATE), so that the next run goes on: with the dataset that was interrupted first, with those
that failed last.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from arq_core.algorithm.types import DataError
from arq_core.config import lock
from arq_core.config.files import write_atomic
from arq_core.config.paths import cache_folder
from arq_core.config.settings import UnknownName
from arq_core.config.tasks import Task, tasks
from arq_core.datasets.fetch import FetchError, forget
from arq_core.datasets.later import file_names
from arq_core.envs.vector import EnvError, close
from arq_core.grid import costs, driver, plan
from arq_core.grid.driver import PR_SET_PDEATHSIG, GridError
from arq_core.grid.plan import Cell
from arq_core.grid.publish import scores

STATE = "reference.json"  # in the cache
PUBLISHED = ("download", "rebuild")  # Task.made of what others published
TRIES = 5  # interruptions one after the other, before other datasets come first
GRACE = 300  # seconds that steps have to reach their next checkpoint
BEGUN, STOPPED, FAILED, FILLED = "begun", "stopped", "failed", "filled"
BRANCH, TITLE, BODY, ROWS = "branch", "title", "body.md", "rows"  # what a proposal consists of


@dataclass(frozen=True)
class Tried:
    """What became of a dataset at a profile: a word of the four above, tries without an end since
    it was last taken up anew, and what was seen.
    """

    outcome: str
    tries: int = 0
    said: str = ""
    when: str = ""


@dataclass(frozen=True)
class Asked:
    """What a run is asked for: a profile, methods (none: those of the profile's grid), tasks among
    which to choose (none: all), branches that are proposed already, hours.
    """

    profile: str
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    proposed: tuple[str, ...] = ()
    hours: float = 5.0


def branch(name: str, profile: str) -> str:
    """The branch on which a dataset's rows are proposed."""
    return f"reference/{name}-{profile}"


def cells(root: Path, name: str, asked: Asked) -> list[Cell]:
    """The cells of a dataset; UnknownName for a method or profile that is not known."""
    methods = asked.methods or driver.defaults(root, asked.profile, "methods")
    return plan.cells({asked.profile: [name]}, methods)


def committed(root: Path, name: str, asked: Asked, results: Path) -> bool:
    """Whether all of a dataset's rows are in the results folder."""
    return all((results / f"{c.job}.jsonl").exists() for c in cells(root, name, asked))


def queue(root: Path, asked: Asked, results: Path, tried: Mapping[str, Tried]) -> list[str]:
    """The datasets without rows in the order in which they are taken up: those that were
    interrupted, then the new ones, then those that failed, each by tries and by estimated cost.

    A dataset that is proposed or filled waits for its rows to be committed, and is none of them
    unless it is asked for by name.
    """
    known = tasks()
    if unknown := [name for name in asked.tasks if name not in known]:
        raise UnknownName(
            f"tasks: saw {', '.join(unknown)}, expected names of data/tasks.csv; correct them."
        )
    names = asked.tasks or [n for n, row in known.items() if row.made in PUBLISHED]

    def key(name: str) -> tuple[int, int, float]:
        seen = tried.get(name, Tried(""))
        interrupted = seen.outcome in (BEGUN, STOPPED)
        late = seen.outcome == FAILED or interrupted and seen.tries >= TRIES
        steps = {(c.task, s, "" if s in plan.SHARED else c.method): (c, s)
                 for c in cells(root, name, asked) for s in c.steps()}  # fmt: skip
        rank = 2 if late else 0 if interrupted else 1
        return rank, seen.tries, costs.estimate(root, steps.values()).hours

    waiting = {n for n, seen in tried.items() if seen.outcome == FILLED and n not in asked.tasks}
    waiting |= {n for n in names if branch(n, asked.profile) in asked.proposed}

    def done(name: str) -> bool:
        """Rows are there; not those that were made here and never proposed."""
        became = tried.get(name, Tried("")).outcome
        unsaid = became in (BEGUN, STOPPED) or became == FAILED and _finished(root, name, asked)
        return not unsaid and committed(root, name, asked, results)

    left = [n for n in names if n not in waiting and not done(n)]
    return sorted(left, key=key)


def no_simulator(row: Task) -> str:
    """Why episodes of a task cannot be run here; "" where they can."""
    try:
        close(row.environments(1))
    except EnvError as error:
        return str(error)
    return ""


def read_state(profile: str) -> dict[str, Tried]:
    """What became of datasets at a profile; a file that cannot be read says nothing."""
    try:
        kept = json.loads((cache_folder() / STATE).read_text(encoding="utf-8"))
        return {name: Tried(**seen) for name, seen in kept.get(profile, {}).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        print(f"{cache_folder() / STATE}: {error}; begun anew", file=sys.stderr)
        return {}


def note(profile: str, name: str, seen: Tried) -> None:
    """Keep what became of a dataset."""
    path = cache_folder() / STATE
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        others = dict(kept.get(profile, {}))
    except (OSError, ValueError, AttributeError, TypeError):
        kept, others = {}, {}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = kept | {profile: others | {name: asdict(replace(seen, when=now))}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(kept, indent=1, sort_keys=True) + "\n")


def fetched(row: Task) -> str:
    """Why the data cannot be had; "" where they can, and were read once.

    A file whose hash nobody published is locked when it first comes. If it cannot be read, it came
    damaged: it is forgotten, so that the next run fetches it anew.
    """
    try:
        row.load()
    except FetchError as error:
        return str(error)
    except DataError as error:
        if row.sha256 or row.made != "download":
            return str(error)
        for name in file_names(row):
            forget(name)
        return f"{error}\nThe file was forgotten; the next run fetches it again."
    return ""


def train(root: Path, name: str, asked: Asked, results: Path) -> str:
    """Run `arq table` for a dataset; FILLED where all its cells are finished, STOPPED where the
    time ran out, else what failed.
    """
    methods = [c.method.replace(" ", "-") for c in cells(root, name, asked)]
    command = [sys.executable, "-m", "arq_core", "table", "--profile", asked.profile, "--tasks"]
    command += [name, "--methods", " ".join(methods), "--no-book", "--results", str(results)]
    until = time.monotonic() + 3600 * asked.hours
    before = _mark(root)
    with subprocess.Popen(
        command, cwd=root, start_new_session=True, preexec_fn=_end_with_parent
    ) as table:
        try:
            code = table.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            _interrupt(table)
            there = committed(root, name, asked, results)
            return FILLED if there and _finished(root, name, asked) else STOPPED
        except BaseException:
            _interrupt(table)
            raise
    if _finished(root, name, asked):
        return FILLED
    told = driver.failures(root, cells(root, name, asked)) if _mark(root) != before else []
    return driver.tell(told) or f"arq table ended with {code}; what it printed says why"


def _finished(root: Path, name: str, asked: Asked) -> bool:
    return all(plan.finished(root, cell) for cell in cells(root, name, asked))


def _mark(root: Path) -> int:
    """What changes when a run of the table has looked at its cells."""
    path = root / plan.GRID / "failed.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def _end_with_parent() -> None:
    """The table ends when whoever began it is killed (Linux); its engine ends with it in turn."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _interrupt(table: subprocess.Popen) -> None:
    """As Ctrl-C to all processes of the table; killed if they do not end in time."""
    for sent, seconds in ((signal.SIGINT, GRACE), (signal.SIGKILL, None)):
        if table.poll() is not None:
            return
        os.killpg(table.pid, sent)
        try:
            table.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


def propose(root: Path, name: str, asked: Asked, results: Path, out: Path) -> None:
    """Lay the dataset's rows and evidence out in the folder `out`: `rows` as in the results folder,
    and branch, title and text for whoever proposes them.
    """
    shutil.rmtree(out, ignore_errors=True)
    of = cells(root, name, asked)
    for cell in of:
        rows = results / f"{cell.job}.jsonl"
        evidence = [plan.evidence(cell, step) for step in cell.steps()]
        for path in (rows, rows.with_suffix(".run.json"), *(results / e for e in evidence)):
            target = out / ROWS / path.relative_to(results)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    row = tasks()[name]
    digest = json.loads((results / f"{of[0].job}.run.json").read_text(encoding="utf-8"))
    named = "as published" if row.sha256 else "that of the first download: nobody published one"
    text = (
        f"Rows of `{name}` at profile `{asked.profile}`, from {row.source.split()[0]} "
        f"(SHA-256 `{digest['dataset']['sha256']}`, {named}).\n\n"
        f"```\n{scores(root, of)}\n```\n"
    )
    write_atomic(out / TITLE, f"Rows of {name} at profile {asked.profile}\n")
    write_atomic(out / BODY, text)
    # last: it says that the rest is there
    write_atomic(out / BRANCH, branch(name, asked.profile) + "\n")


def run(
    root: Path,
    asked: Asked,
    results: Path,
    out: Path,
    say: Callable[[str], None] = print,
) -> bool:
    """All of `arq reference`: whether what was begun went well. A time that ran out is no failure:
    the next run goes on.
    """
    with lock.only_one(root, "_build/reference.lock", GridError):
        out.joinpath(BRANCH).unlink(missing_ok=True)
        tried = read_state(asked.profile)
        name = _first(queue(root, asked, results, tried), say)
        if not name:
            say("nothing to fill here")
            return True
        seen = tried.get(name, Tried(""))
        tries = seen.tries + 1
        say(f"{name} at profile {asked.profile}, try {tries}")
        note(asked.profile, name, Tried(BEGUN, tries, "no end was noted: it was killed"))
        began = time.monotonic()
        if missing := fetched(tasks()[name]):
            return _failed(asked, name, tries, missing, say)
        spent = (time.monotonic() - began) / 3600
        became = train(root, name, replace(asked, hours=asked.hours - spent), results)
        if became == STOPPED:
            note(asked.profile, name, Tried(STOPPED, tries, f"after {asked.hours:g} hours"))
            say(f"{name}: stopped after {asked.hours:g} hours; the next run goes on from there")
            return True
        if became != FILLED or not committed(root, name, asked, results):
            return _failed(asked, name, tries, became, say)
        propose(root, name, asked, results, out)
        note(asked.profile, name, Tried(FILLED))
        say(f"{name}: filled; its rows are proposed in {out}")
    return True


def _first(names: Iterable[str], say: Callable[[str], None]) -> str:
    """The first dataset whose episodes can be run here; what others lack is said."""
    for name in names:
        if not (lacks := no_simulator(tasks()[name])):
            return name
        say(f"{name}: left out: {lacks}")
    return ""


def _failed(asked: Asked, name: str, tries: int, said: str, say: Callable[[str], None]) -> bool:
    note(asked.profile, name, Tried(FAILED, tries, said))
    say(f"error: {name} failed: {said}\nOthers come first in the next run.")
    return False


def shown(root: Path, asked: Asked, results: Path) -> str:
    """The queue as text, a line a dataset, with what became of it."""
    tried = read_state(asked.profile)
    names: Sequence[str] = queue(root, asked, results, tried)
    lines = [f"{len(names)} datasets without rows at profile {asked.profile}"]
    for name in names:
        seen = tried.get(name)
        said = seen.said.partition("\n")[0] if seen else ""
        about = f"  {seen.outcome}, {seen.tries} tries: {said}" if seen else ""
        lines.append(f"{name}{about}")
    return "\n".join(lines)
