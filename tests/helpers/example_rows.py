"""Rows of a job that never ran, for the tests of what is made from rows; and the project's own."""

from functools import cache

import numpy as np

from arq_core.config.paths import DATA
from arq_core.results import rows as results
from arq_core.results.rows import file_name

JOB = dict(
    task="door-human",
    dataset_sha256="0" * 64,
    fidelity="rebuilt",
    profile="ci",
    method="arq+s_psi",
    variant="released",
    wall_s=1.5,
    device="a processor",
    commit="abc",
    versions={"python": "3.11"},
    created="2026-01-31T12:00:00+00:00",
)
NAME = file_name("door-human", "ci", "arq+s_psi", "released")

# an entry of _build/grid/failed.json
FAILURE = dict(
    task="pen-cloned-v0",
    profile="lite",
    method="s_psi",
    variant="released",
    step="q",
    notebook="n",
    error="e",
    log="l",
)


@cache
def committed():
    """The rows of data/results, read once a process."""
    return tuple(results.read_rows(DATA / "results"))


def rows(scores, **changes):
    """One row per entry of `scores` [seeds, episodes]."""
    scores = np.asarray(scores, float)
    measured = dict(score=scores, length=np.full(scores.shape, 200), success=scores > 50)
    measured["return"] = 29 * scores
    return results.episode_rows(measured, range(len(scores)), [0.5] * len(scores), **JOB | changes)
