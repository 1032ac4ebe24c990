"""Where one profile's committed rows are shown equivalent to another's, cell by cell, and by how
much the two differ.

    python benchmarks/equivalence.py [first second [margin]]

Reads data/results and trains nothing: the numbers are the same on every machine. Prints them and,
for fast and full with the margin of the book (the default), writes data/benchmarks/equivalence.json
with the hashes of the files that they are of. Run it again whenever rows of these profiles change.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.results.equivalence import FAST, FULL, LEVEL, MARGIN, equivalences
from arq_core.results.provenance import provenance
from arq_core.results.records import checksums
from arq_core.results.rows import file_name

FILE = DATA / "benchmarks/equivalence.json"


def measure(results: Path, first: str = FAST, second: str = FULL, margin: float = MARGIN) -> dict:
    """The tested cells with their verdicts and files ({name: SHA-256}), and those that no test can
    be made of, with the reason; `margin` in points.
    """
    tested, untested = equivalences(results, first, second, margin)
    cells = []
    for cell in tested:
        names = [file_name(cell.task, p, cell.method, cell.variant) for p in (first, second)]
        files = {name: checksums(results / name)["rows_sha256"] for name in names}
        cells.append(asdict(cell) | dict(verdict=cell.verdict, files=files))
    return dict(
        first=first,
        second=second,
        margin=margin,
        level=LEVEL,
        cells=cells,
        untested=[asdict(cell) for cell in untested],
    )


def main(first: str = FAST, second: str = FULL, margin: str | float = MARGIN) -> None:
    found = measure(DATA / "results", first, second, float(margin))
    print(json.dumps(found, indent=1))
    if (first, second, found["margin"]) == (FAST, FULL, MARGIN):
        made = provenance("any processor: rows are read, nothing is trained", own=FILE) | found
        write_atomic(FILE, json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
