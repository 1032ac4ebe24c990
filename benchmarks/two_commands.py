"""What the README's commands cost on a fresh machine: a clone of HEAD with an empty environment,
timed step by step.

    python benchmarks/two_commands.py [folder for the clone]

Writes data/benchmarks/two_commands.json and the table between the cost marks of README.md, after
each step what is measured by then; and what each printed, line by line with its second, into
data/benchmarks/progress. Nothing else should be running. Given the folder of a run that failed, it
updates the clone and goes on with the step that failed.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arq_core.book.pages import COSTS
from arq_core.config import processes
from arq_core.config.files import replacing, write_atomic
from arq_core.config.paths import DATA, root
from arq_core.grid import driver
from arq_core.results.provenance import provenance

ROOT = root()

STEPS = {
    "install": ["make", ".venv/.installed"],
    "book": ["make", "book"],
    "book_again": ["make", "book"],
    "test": ["make", "test"],
    "table": ["make", "table"],
    "table_again": ["make", "table"],
}
PROGRESS = DATA / "benchmarks" / "progress"
# removed before the table: nothing that the book trained is there for it
MADE = ("_build", "book/executed", "data/cache")
# a fixed piece of work, by which machines, and hours of one that others share, can be compared
WORK = "sum(i * i % 7 for i in range(10_000_000))"
COMPILED = "compiled"  # programs that torch compiled, beside the clone; removed with them
MARKS = re.compile(r"(<!-- costs[^>]*-->\n).*?(\n<!-- end of costs -->)", re.S)


def spent() -> float:
    """Processor seconds of all that this process started and that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pace() -> list[float]:
    """Seconds that WORK takes alone, and on each core at once: where these are far apart, the cores
    are not of this machine alone.
    """
    took = []
    for copies in (1, processes.cores()):
        start = time.monotonic()
        runs = [subprocess.Popen([sys.executable, "-c", WORK]) for _ in range(copies)]
        for run in runs:
            run.wait()
        took.append(round(time.monotonic() - start, 2))
    return took


def followed(command: list, folder: Path, environment: dict, record: Path) -> float:
    """Runs a command whose output goes to a file, each line after the second at which it came;
    returns the longest time without one. CalledProcessError where it fails.
    """
    begun = last = time.monotonic()
    longest = 0.0
    with (
        replacing(record) as target,
        open(target, "w", encoding="utf-8") as out,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as run,
    ):
        for line in run.stdout:
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            said = line.replace(folder.absolute().as_uri(), ".").replace(str(folder), ".")
            out.write(f"{now - begun:7.1f}  {said}")
            print(line, end="", flush=True)
    if run.returncode:
        raise subprocess.CalledProcessError(run.returncode, command)
    return round(max(longest, time.monotonic() - last), 1)


def megabytes(folder: Path) -> int:
    return int(
        subprocess.run(
            ["du", "-sm", folder], capture_output=True, encoding="utf-8", check=True
        ).stdout.split()[0]
    )


def table(cost: dict) -> str:
    """The rows of what was measured."""
    s, room = cost["seconds"], {name: sum(x.values()) for name, x in cost["megabytes"].items()}
    made = room.get("book", 0) - room.get("install", 0)
    rows = {
        "install": "| installation, once | {:.1f} min | "
        + f"{room.get('install', 0):,} MB (the CUDA build of torch is several times larger) |",
        "book": f"| `make book`, first time | {{:.1f}} min | {made:,} MB |",
        "book_again": "| `make book`, nothing changed | {:.1f} min | |",
        "table": f"| `make table`, first time: the {cost['cells']} cells of profile ci, and "
        "the book with them | " + "{:.1f} min | |",
        "table_again": "| `make table`, nothing changed | {:.1f} min | |",
        "test": "| `make test` | {:.1f} min | |",
    }
    return "\n".join(
        [
            "| command | time | disk |",
            "|---|---|---|",
            *(line.format(s[name] / 60) for name, line in rows.items() if name in s),
        ]
    )


def commit_of(clone: Path) -> str:
    return subprocess.run(
        ["git", "-C", clone, "rev-parse", "--short", "HEAD"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.strip()


def sizes(clone: Path) -> dict[str, int]:
    """Megabytes of what the commands have made by now."""
    parts = (".venv", "_build", "data/cache")
    return {part: megabytes(clone / part) for part in parts if (clone / part).exists()}


def publish(clone: Path, kept: dict) -> None:
    """Write what was measured so far to data/benchmarks and into README.md; `kept` has (seconds,
    commit, processor seconds, longest time without a line, megabytes, pace just before) of each
    step, which may be days apart.
    """
    tasks, smoke, methods = (
        driver.defaults(clone, "ci", what) for what in ("tasks", "smoke", "methods")
    )
    cells = len([*tasks, *smoke]) * len(methods)
    seconds, commits, processors, silent, room, paces = (
        {name: x[i] for name, x in kept.items()} for i in range(6)
    )
    cost = provenance() | dict(
        commit=commit_of(clone),
        seconds=seconds,
        processor_seconds=processors,
        longest_silence=silent,
        commits=commits,
        megabytes=room,
        pace=dict(work=WORK, seconds_alone_and_on_each_core_at_once=paces),
        cells=cells,
    )
    write_atomic(
        DATA / "benchmarks" / "two_commands.json", (json.dumps(cost, indent=1) + "\n").encode()
    )
    readme = ROOT / "README.md"
    write_atomic(
        readme,
        MARKS.sub(lambda m: m[1] + table(cost) + m[2], readme.read_text(encoding="utf-8")).encode(),
    )


def executed(clone: Path) -> dict:
    """What each notebook of the built book took: seconds of wall time, by which the next book says
    how long it takes, and of processors.
    """
    runs = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["metadata"]["arq"]
        for path in sorted((clone / "book/executed").glob("*.ipynb"))
    }
    last = max(runs.values(), key=lambda run: run["created"])
    return {key: last[key] for key in ("device", "commit", "created")} | dict(
        seconds={page: run["wall_s"] for page, run in runs.items()},
        processor_seconds={page: run["processor_s"] for page, run in runs.items()},
    )


def main(folder: str) -> None:
    clone, kept = Path(folder) / "arq-book", Path(folder) / "seconds.json"
    command = (
        ["git", "-C", clone, "pull", "--quiet"]
        if clone.exists()
        else ["git", "clone", "--quiet", ROOT, clone]
    )
    subprocess.run(command, check=True)
    environment = {
        k: v
        for k, v in os.environ.items()
        if k == "ARQ_LOCAL_DATA" or not k.startswith(("ARQ_", "VIRTUAL_ENV", "PYTHON"))
    }
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder).absolute() / COMPILED)
    done = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name, command in STEPS.items():
        if name in done:
            continue
        if name in ("book", "table"):
            for part in (*(clone / part for part in MADE), Path(folder) / COMPILED):
                shutil.rmtree(part, ignore_errors=True)
        before_it = pace()
        start, before = time.monotonic(), spent()
        silent = followed(command, clone, environment, PROGRESS / f"{name}.txt")
        done[name] = (
            round(time.monotonic() - start, 1),
            commit_of(clone),
            round(spent() - before, 1),
            silent,
            sizes(clone),
            before_it,
        )
        if name == "book":
            costs = json.dumps(executed(clone), indent=1) + "\n"
            write_atomic(ROOT / COSTS, costs.encode())
        kept.write_text(json.dumps(done), encoding="utf-8")
        print(f"{name}: {done[name][0]} s", flush=True)
        publish(clone, done)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
