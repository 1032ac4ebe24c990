"""What the README's commands cost on a fresh machine: a clone of HEAD with an empty environment,
timed step by step.

    python benchmarks/two_commands.py [folder for the clone]

Writes data/benchmarks/two_commands.json and the table between the cost marks of README.md, after
each step what is measured by then. Nothing else should be running. Given the folder of a run that
failed, it updates the clone and goes on with the step that failed.
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
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA, root
from arq_core.grid import driver
from arq_core.results.provenance import provenance

ROOT = root()

STEPS = {
    "install": ["make", ".venv/.installed"],
    "table": ["make", "table"],
    "table_again": ["make", "table"],
    "test": ["make", "test"],
    "book": ["make", "book"],
    "book_again": ["make", "book"],
}
# removed before the book: nothing that the table trained is there for it
MADE = ("_build", "book/executed", "data/cache")
MARKS = re.compile(r"(<!-- costs[^>]*-->\n).*?(\n<!-- end of costs -->)", re.S)


def spent() -> float:
    """Processor seconds of all that this process started and that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def megabytes(folder: Path) -> int:
    return int(
        subprocess.run(
            ["du", "-sm", folder], capture_output=True, encoding="utf-8", check=True
        ).stdout.split()[0]
    )


def table(cost: dict) -> str:
    """The rows of what was measured."""
    s, mb = cost["seconds"], cost["megabytes"]
    rows = {
        "install": "| installation, once | {:.1f} min | "
        + f"{mb['.venv']:,} MB (the CUDA build of torch is several times larger) |",
        "book": "| `make book`, first time | {:.1f} min | "
        + f"{mb.get('_build', 0) + mb.get('data/cache', 0):,} MB |",
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


def publish(clone: Path, kept: dict) -> None:
    """Write what was measured so far to data/benchmarks and into README.md; `kept` has (seconds,
    commit, processor seconds) of each step, which may be days apart.
    """
    sizes = {
        part: megabytes(clone / part)
        for part in (".venv", "_build", "data/cache")
        if (clone / part).exists()
    }
    tasks, smoke, methods = (
        driver.defaults(clone, "ci", what) for what in ("tasks", "smoke", "methods")
    )
    cells = len([*tasks, *smoke]) * len(methods)
    seconds, commits, processors = ({name: x[i] for name, x in kept.items()} for i in range(3))
    cost = provenance() | dict(
        commit=commit_of(clone),
        seconds=seconds,
        processor_seconds=processors,
        commits=commits,
        megabytes=sizes,
        cells=cells,
    )
    write_atomic(
        DATA / "benchmarks" / "two_commands.json", (json.dumps(cost, indent=1) + "\n").encode()
    )
    if notebooks := executed(clone):
        path = ROOT / COSTS
        write_atomic(path, (json.dumps(notebooks, indent=1) + "\n").encode())
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
    if not runs:
        return {}
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
    done = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name, command in STEPS.items():
        if name in done:
            continue
        if name == "book":
            for part in MADE:
                shutil.rmtree(clone / part, ignore_errors=True)
        start, before = time.monotonic(), spent()
        subprocess.run(command, cwd=clone, env=environment, check=True)
        done[name] = (
            round(time.monotonic() - start, 1),
            commit_of(clone),
            round(spent() - before, 1),
        )
        kept.write_text(json.dumps(done), encoding="utf-8")
        print(f"{name}: {done[name][0]} s", flush=True)
        publish(clone, done)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
