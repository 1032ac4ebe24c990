"""What the benchmarks measured: the files of data/benchmarks, and where and when they were made."""

from __future__ import annotations

import json

from arq_core.config.files import read_text
from arq_core.config.paths import DATA


def measured(name: str) -> dict:
    """data/benchmarks/<name>.json."""
    return json.loads(read_text(DATA / "benchmarks" / f"{name}.json"))


def said_of(measurement: dict) -> str:
    """Machine, date and commit in one line."""
    versions = ", ".join(
        f"{k} {v}" for k, v in measurement["versions"].items() if k in ("python", "torch")
    )
    return (
        f"{measurement['device']}; {versions}; {measurement['created'][:10]}; "
        f"commit {measurement['commit']}"
    )
