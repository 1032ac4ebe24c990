"""Small books of the tests: a file of one, and Sphinx run over it."""

from pathlib import Path

import forked

ROOT = Path(__file__).resolve().parents[2]


def file(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def sphinx(folder, *options):
    """Build folder/book with our extension; (exit status, what it said)."""
    arguments = ["-q", "-W", "--keep-going", *options, str(folder / "book"), str(folder / "out")]
    return forked.answer(_build, arguments, folder=ROOT)


def _build(arguments):
    from sphinx.cmd.build import main

    return main(arguments)
