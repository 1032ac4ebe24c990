"""Small books of the tests: a file of one, and Sphinx run over it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def file(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def sphinx(folder, *options):
    """Build folder/book with our extension; (exit status, what it said)."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "--keep-going",
            *options,
            str(folder / "book"),
            str(folder / "out"),
        ],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
    )
    return run.returncode, run.stderr
