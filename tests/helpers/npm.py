"""Tools of the tests that npm fetches, at the versions of a lock file."""

import shutil
import subprocess

import pytest


def fetch(folder, tool, not_run):
    """`npm ci` in a folder; where npm is missing or cannot, the test skips and says `not_run`."""
    if shutil.which("npm") is None:
        pytest.skip(
            f"{not_run}: saw no npm, which fetches {tool}; install it (Debian: apt-get install npm)"
        )
    run = subprocess.run(
        ["npm", "ci", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    if run.returncode:
        pytest.skip(f"{not_run}: npm ci could not fetch {tool}: {run.stderr.strip()[-300:]}")
