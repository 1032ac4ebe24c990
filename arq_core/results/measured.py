"""What the benchmarks measured: the files of data/benchmarks, and where and when they were made."""

from __future__ import annotations

import json

from arq_core.config.files import read_text
from arq_core.config.paths import DATA
from arq_core.results.records import ResultsError


def measured(name: str) -> dict:
    """data/benchmarks/<name>.json; ResultsError where it is missing or damaged."""
    path = DATA / "benchmarks" / f"{name}.json"
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{path}: saw {error}, expected what benchmarks/{name}.py wrote; restore the file, or "
            "run that again."
        ) from error
    if not isinstance(found, dict):
        raise ResultsError(
            f"{path}: saw {type(found).__name__}, expected an object; restore the file."
        )
    return found


def said_of(measurement: dict) -> str:
    """Machine, date and commit in one line."""
    versions = ", ".join(
        f"{k} {v}" for k, v in measurement["versions"].items() if k in ("python", "torch")
    )
    return (
        f"{measurement['device']}; {versions}; {measurement['created'][:10]}; "
        f"commit {measurement['commit']}"
    )
