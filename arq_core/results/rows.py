"""Our measurements: one JSON line per evaluation episode, one file per job, checked when written
and when read.

A job is one task, profile, method and variant; all its seeds are in its file. Files are never
edited, only replaced as a whole.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import pandas as pd

from arq_core.config import settings
from arq_core.config.files import files_in, read_text, write_atomic
from arq_core.config.labels import FIDELITIES, PROFILES, VARIANTS
from arq_core.config.tasks import listed
from arq_core.results.records import JOB, ResultsError, read_run, run_path

# the paper does not say; with 3 seeds the divisor n would give a std 18% smaller
STD_DDOF = 1


@lru_cache(maxsize=1024)  # the same few in each of thousands of rows
def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


def _name(x):
    return isinstance(x, str) and _fits(r"[A-Za-z0-9_+-]+( [A-Za-z0-9_+-]+)*", x)


def _real(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)


def _count(x, least=0):
    return isinstance(x, int) and not isinstance(x, bool) and x >= least


def _time(x):
    try:
        return datetime.fromisoformat(x).utcoffset() is not None
    except (TypeError, ValueError):
        return False


NAME = (_name, "a name of letters, digits, _, +, - and single spaces")
TEXT = (lambda x: isinstance(x, str) and x != "", "a text that is not empty")
FIELDS = {  # field: (check, what is expected)
    "task": NAME,
    "dataset_sha256": (
        lambda x: isinstance(x, str) and _fits(r"[0-9a-f]{64}", x),
        "64 hexadecimal digits",
    ),
    "fidelity": (lambda x: x in FIDELITIES, f"one of {', '.join(FIDELITIES)}"),
    "profile": NAME,
    "method": NAME,
    "variant": NAME,
    "seed": (_count, "an integer >= 0"),
    "episode": (_count, "an integer >= 0"),
    "return_": (_real, "a finite number (sum of the task's raw rewards)"),
    "length": (lambda x: _count(x, 1), "an integer >= 1 (steps)"),
    "success": (lambda x: isinstance(x, bool), "true or false"),
    "score": (
        lambda x: x is None or _real(x),
        "a finite number (D4RL-normalised or the task's scale), or null where there is none",
    ),
    "in_support": (
        lambda x: x is None or (_real(x) and 0 <= x <= 1),
        "a share from 0 to 1, or null",
    ),
    "wall_s": (lambda x: _real(x) and x >= 0, "seconds >= 0 (training and evaluation of the job)"),
    "device": TEXT,
    "commit": TEXT,
    "versions": (
        lambda x: isinstance(x, dict) and x and all(isinstance(v, str) for v in x.values()),
        "an object of package: version",
    ),
    "created": (_time, "an ISO 8601 time with its offset, e.g. 2026-01-31T12:00:00+00:00"),
}


def validate(row: dict, where: str = "row") -> None:
    """Raise ResultsError unless `row` has exactly the fields of FIELDS, each as expected."""
    if not isinstance(row, dict):
        raise ResultsError(
            f"{where}: saw {type(row).__name__}, expected an object with the fields "
            f"{', '.join(FIELDS)}."
        )
    for problem, names in (
        ("missing", FIELDS.keys() - row.keys()),
        ("unknown", row.keys() - FIELDS.keys()),
    ):
        if names:
            raise ResultsError(
                f"{where}: saw {problem} field {sorted(names)[0]!r}, expected exactly "
                f"{', '.join(FIELDS)}."
            )
    for name, (check, expected) in FIELDS.items():
        if not check(row[name]):
            raise ResultsError(
                f"{where}: field {name!r}: saw {row[name]!r}, expected {expected}; run the "
                "job again."
            )


def file_name(task: str, profile: str, method: str, variant: str) -> str:
    """Name of a job's file in the results folder; a space in a name becomes a hyphen."""
    return f"{task}.{profile}.{method}.{variant}.jsonl".replace(" ", "-")


def _validate_job(rows: Sequence[dict], path: Path) -> None:
    if not rows:
        raise ResultsError(f"{path}: saw no row, expected at least one; run the job again.")
    seen = {}
    for i, row in enumerate(rows, 1):
        where = f"{path}:{i}"
        validate(row, where)
        for name in (*JOB, "fidelity", "dataset_sha256"):
            if row[name] != rows[0][name]:
                raise ResultsError(
                    f"{where}: field {name!r}: saw {row[name]!r}, expected {rows[0][name]!r} as "
                    "in line 1; a file holds one job."
                )
        first = seen.setdefault((row["seed"], row["episode"]), i)
        if first != i:
            raise ResultsError(
                f"{where}: saw seed {row['seed']}, episode {row['episode']} again, expected "
                f"it once (line {first})."
            )
    expected = file_name(*(rows[0][name] for name in JOB))
    if path.name != expected:
        raise ResultsError(
            f"{path}: saw the rows of another job, expected the file name {expected}."
        )


def read_file(path: str | Path) -> list[dict]:
    """The validated rows of one job.

    They must be those that its provenance (`records`), if there is one, was written for.
    """
    path, rows = Path(path), []
    for i, line in enumerate(read_text(path).splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as e:
            raise ResultsError(
                f"{path}:{i}: saw a line that is not JSON ({e.msg}), expected one object; "
                "restore the file or run the job again."
            ) from None
    _validate_job(rows, path)
    run = read_run(path) or {}
    for name in JOB:
        if run.get(name, rows[0][name]) != rows[0][name]:
            raise ResultsError(
                f"{run_path(path)}: field {name!r}: saw {run[name]!r}, expected "
                f"{rows[0][name]!r} as in the rows beside it."
            )
    return rows


def read_rows(folder: str | Path) -> list[dict]:
    """The validated rows of all jobs in a folder (none where the folder does not exist), in the
    order of the file names.
    """
    return [row for path in files_in(Path(folder), "*.jsonl") for row in read_file(path)]


def refuse_other_data(path: Path, dataset_sha256: str) -> None:
    """Raise ResultsError where a file has rows of other data than those with this hash.

    A damaged file, whose lines do not say of which data they are, is refused by whoever reads it.
    """
    said = path.read_bytes() if path.exists() else b""
    for seen in re.findall(rb'"dataset_sha256": *"([0-9a-f]{64})"', said):
        if seen.decode() != dataset_sha256:
            raise ResultsError(
                f"{path}: saw rows of data with SHA-256 {seen.decode()[:12]} there, expected those "
                f"of {dataset_sha256[:12]}, which are to be written: rows of other data are never "
                "replaced. If these data are meant to take their place, move that file and its "
                f"{run_path(path).name} away first (`arq compare` of its folder and the new one "
                "then says what changed); else write to another folder."
            )


def write_rows(path: str | Path, rows: Iterable[dict]) -> Path:
    """Write one job atomically; refuse invalid rows, and refuse to replace a file by one with fewer
    rows or rows of another dataset.

    The provenance of rows that are replaced (`records`) goes with them: it is of another run.
    """
    path, rows = Path(path), list(rows)
    _validate_job(rows, path)
    # not validated: a damaged file is replaced like any other
    there = len(path.read_bytes().splitlines()) if path.exists() else 0
    if there > len(rows):
        raise ResultsError(
            f"{path}: saw {len(rows)} new rows, expected at least the {there} already "
            "there; delete that file first if the smaller job should replace it."
        )
    refuse_other_data(path, rows[0]["dataset_sha256"])
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    write_atomic(path, lines, lambda: run_path(path).unlink(missing_ok=True))
    return path


def one_setting(rows: Sequence[dict]) -> list[dict]:
    """The rows of one profile, variant and fidelity, for what shows one line a method: those of
    the largest budget and, where it was run with several variants, of the first of VARIANTS. A
    field that no row has tells none apart.
    """
    setting = lambda row: place_of(*(row.get(k, "") for k in ("profile", "variant", "fidelity")))
    first = min(map(setting, rows), default=None)
    return [row for row in rows if setting(row) == first]


def place_of(profile: str, variant: str, fidelity: str) -> tuple:
    """Where a setting stands among others: the largest budget first, then by VARIANTS and
    FIDELITIES; what is not listed comes last.
    """
    place = lambda name, order: (order.index(name) if name in order else len(order), name)
    return (
        *place(profile, PROFILES),
        *place(variant, VARIANTS),
        *place(fidelity, list(FIDELITIES)),
    )


def smoke_test(task: str, profile: str, seeds: int) -> bool:
    """Whether a job shows that everything runs, and its score says nothing: its profile is a smoke
    test (profiles.toml), and the task's group no exception, or one with more seeds than the job
    has. Never where a task or a profile is not ours.
    """
    known = listed().get(task)
    if known is None or profile not in settings.profiles():
        return False
    excepted = not settings.smoke_test(profile, known["group"])
    few = seeds < settings.budget(profile, known["group"]).seeds
    return settings.smoke_test(profile, "") and (few or not excepted)


def summary(rows: Sequence[dict]) -> pd.DataFrame:
    """One line per job: mean over a seed's episodes, then mean and std (divisor n - 1) over seeds.
    The std of one seed is NaN.

    `score` and `return_` have both; `success`, `length` and `in_support` the mean; `episodes` is
    the number per seed (the least); `smoke_test` as the function of that name says.
    """
    keys = ["task", "fidelity", "profile", "variant", "method"]
    columns = keys + [
        "score",
        "score_std",
        "return_",
        "return_std",
        "success",
        "length",
        "in_support",
        "seeds",
        "episodes",
        "smoke_test",
    ]
    if not rows:
        return pd.DataFrame(columns=columns)
    measured = ["score", "return_", "success", "length", "in_support"]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(measured, float))
    seeds = frame.groupby(keys + ["seed"])[measured].mean()
    seeds["episodes"] = frame.groupby(keys + ["seed"]).size()
    jobs = seeds.groupby(keys)
    out = jobs[measured].mean()
    out[["score_std", "return_std"]] = jobs[["score", "return_"]].std(ddof=STD_DDOF)
    out["seeds"], out["episodes"] = jobs.size(), jobs["episodes"].min()
    out = out.reset_index()
    out["smoke_test"] = [smoke_test(j.task, j.profile, j.seeds) for j in out.itertuples()]
    return out[columns]


def episode_rows(
    measured: dict, seeds: Sequence[int], in_support: Sequence[float] | None, **job
) -> list[dict]:
    """Rows from arrays [E, episodes] named return, length, success and (if there is one) score;
    `job` is every other field.

    `in_support` is one share per seed. `**provenance(device)` gives four of the fields of `job`.
    """
    scores = measured.get("score")
    return [
        dict(
            job,
            seed=int(seed),
            episode=i,
            return_=float(measured["return"][e, i]),
            length=int(measured["length"][e, i]),
            success=bool(measured["success"][e, i]),
            score=None if scores is None else float(scores[e, i]),
            in_support=None if in_support is None else float(in_support[e]),
        )
        for e, seed in enumerate(seeds)
        for i in range(measured["return"].shape[1])
    ]
