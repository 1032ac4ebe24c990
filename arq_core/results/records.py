"""What is known of the run that made a job's rows: `<job>.run.json` beside `<job>.jsonl`, with
checksums by which an edited row is noticed.

`make table` writes it last, when the rows are there; rows of `make row` have none. Whoever replaces
rows removes it first (`rows.write_rows`), so a run that is stopped in between leaves rows
without provenance, never rows with another run's.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

from arq_core.config.files import read_text, write_atomic

JOB = ("task", "profile", "method", "variant")


class ResultsError(ValueError):
    """Rows that cannot be used. The message names file and line (where known), field, what was seen
    and what was expected.
    """


def run_path(rows: str | Path) -> Path:
    """Where the provenance of a file of rows is kept."""
    return Path(rows).with_suffix(".run.json")


def checksums(rows: Path) -> dict:
    """{"rows_sha256": of the file, "rows_crc32": of each of its lines}; the first notices a change,
    the second says where.

    A checkout may have given the lines Windows' ends; they are counted as they were written.
    """
    data = rows.read_bytes().replace(b"\r\n", b"\n")
    return {
        "rows_sha256": hashlib.sha256(data).hexdigest(),
        "rows_crc32": [zlib.crc32(line) for line in data.splitlines(keepends=True)],
    }


def write_run(rows: str | Path, run: dict) -> Path:
    """Write the provenance of a file of rows beside it, atomically, with the checksums of the rows
    as they now are.
    """
    path = run_path(rows)
    write_atomic(path, json.dumps(run | checksums(Path(rows)), indent=1, allow_nan=False) + "\n")
    return path


def read_run(rows: str | Path) -> dict | None:
    """The provenance beside a file of rows, or None where there is none.

    Rows that are not those it was written for are refused.
    """
    rows, path = Path(rows), run_path(rows)
    if not path.exists():
        return None
    try:
        run = json.loads(read_text(path))
    except json.JSONDecodeError as e:
        raise ResultsError(
            f"{path}:{e.lineno}: saw a text that is not JSON ({e.msg}), expected one "
            "object; restore the file, or delete it and run the job again."
        ) from None
    if not isinstance(run, dict):
        raise ResultsError(
            f"{path}: saw {type(run).__name__}, expected an object; restore the file, "
            "or delete it and run the job again."
        )
    _refuse_edited(rows, run)
    return run


def _refuse_edited(rows: Path, run: dict) -> None:
    now, path = checksums(rows), run_path(rows)
    if run.get("rows_sha256") in (None, now["rows_sha256"]):
        return
    what = "restore both files as they were, or delete both and run the job again"
    kept, seen = run.get("rows_crc32"), now["rows_crc32"]
    if not kept:
        raise ResultsError(
            f"{rows}: saw rows with SHA-256 {now['rows_sha256'][:12]}, expected "
            f"{run['rows_sha256'][:12]} as in {path.name}: they were changed after the "
            f"run; {what}."
        )
    line = next(
        (i for i, (a, b) in enumerate(zip(kept, seen, strict=False), 1) if a != b),
        min(len(kept), len(seen)) + 1,
    )
    count = f" ({len(seen)} lines, expected {len(kept)})" if len(seen) != len(kept) else ""
    raise ResultsError(
        f"{rows}:{line}: saw a line that is not the one its run wrote{count}, "
        f"expected the checksum in {path.name}: rows are never edited; {what}."
    )
