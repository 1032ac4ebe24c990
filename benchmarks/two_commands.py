"""What the README's commands cost on a fresh machine: a clone of HEAD with an empty environment, timed step by step.

    python benchmarks/two_commands.py [folder for the clone]

Writes data/benchmarks/two_commands.json and the table between the cost marks of README.md. Nothing else should be running. Given the folder
of a run that failed, it updates the clone and goes on with the step that failed.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arq_core.artifacts import write_atomic
from arq_core.grid import driver
from arq_core.results import provenance
from arq_core.settings import DATA, ROOT

STEPS = {"install": ["make", ".venv/.installed"], "table": ["make", "table"], "table_again": ["make", "table"], "test": ["make", "test"], "book": ["make", "book"],
         "book_again": ["make", "book"]}
MADE = ("_build", "book/executed", "data/cache")       # removed before the book: nothing that the table trained is there for it
MARKS = re.compile(r"(<!-- costs[^>]*-->\n).*?(\n<!-- end of costs -->)", re.S)


def megabytes(folder: Path) -> int:
    return int(subprocess.run(["du", "-sm", folder], capture_output=True, text=True, check=True).stdout.split()[0])


def table(cost: dict) -> str:
    s, mb = cost["seconds"], cost["megabytes"]
    return "\n".join([
        "| command | time | disk |", "|---|---|---|",
        f"| installation, once | {s['install'] / 60:.1f} min | {mb['.venv']:,} MB (the CUDA build of torch is several times larger) |",
        f"| `make book`, first time | {s['book'] / 60:.1f} min | {mb['_build'] + mb['data/cache']:,} MB |",
        f"| `make book`, nothing changed | {s['book_again']:.0f} s | |",
        f"| `make table`, first time: the {cost['cells']} cells of profile ci, and the book with them | {s['table'] / 60:.1f} min | |",
        f"| `make table`, nothing changed | {s['table_again']:.0f} s | |",
        f"| `make test` | {s['test'] / 60:.1f} min | |"])


def main(folder: str) -> None:
    clone, kept = Path(folder) / "arq-book", Path(folder) / "seconds.json"
    command = ["git", "-C", clone, "pull", "--quiet"] if clone.exists() else ["git", "clone", "--quiet", ROOT, clone]
    subprocess.run(command, check=True)
    environment = {k: v for k, v in os.environ.items() if k == "ARQ_LOCAL_DATA" or not k.startswith(("ARQ_", "VIRTUAL_ENV", "PYTHON"))}
    seconds = json.loads(kept.read_text()) if kept.exists() else {}
    for name, command in STEPS.items():
        if name in seconds:
            continue
        if name == "book":
            for part in MADE:
                shutil.rmtree(clone / part, ignore_errors=True)
        start = time.monotonic()
        subprocess.run(command, cwd=clone, env=environment, check=True)
        seconds[name] = round(time.monotonic() - start, 1)
        kept.write_text(json.dumps(seconds))
        print(f"{name}: {seconds[name]} s", flush=True)
    sizes = {part: megabytes(clone / part) for part in (".venv", "_build", "data/cache") if (clone / part).exists()}
    cost = dict(provenance(), seconds=seconds, megabytes=sizes, cells=len(driver.defaults(clone, "ci", "tasks")) * len(driver.defaults(clone, "ci", "methods")))
    write_atomic(DATA / "benchmarks" / "two_commands.json", json.dumps(cost, indent=1).encode())
    readme = ROOT / "README.md"
    write_atomic(readme, MARKS.sub(lambda m: m[1] + table(cost) + m[2], readme.read_text()).encode())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
