"""A folder of rows described as an RO-Crate 1.1 (https://w3id.org/ro/crate/1.1): one file of
JSON-LD beside the rows, by which repositories and catalogues read what was run, on which data, by
which commit, and what came of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from arq_core.config.files import files_in, write_atomic
from arq_core.config.paths import given
from arq_core.results.records import ResultsError, read_run, run_path

FILE = "ro-crate-metadata.json"
VERSION = "https://w3id.org/ro/crate/1.1"
LICENCE = "https://spdx.org/licenses/MIT"  # of our rows; data of others are not in the folder
NAMES = {LICENCE: "MIT License"}
# of a record, and of its dataset
SAID = ("task", "method", "profile", "seeds", "device", "created", "commit", "dataset")
OF_DATA = ("sha256", "source", "transitions", "fidelity")
KINDS = {
    ".jsonl": ("application/x-ndjson", "rows, a line an episode"),
    ".json": ("application/json", "what the run was: settings, machine, versions, checksums"),
    ".ipynb": ("application/x-ipynb+json", "an executed notebook of a step"),
}


def crate(folder: str | Path, licence: str = LICENCE) -> dict:
    """The description of a folder of rows: each file of it that KINDS knows, and an action for each
    run that has a record. `licence` is the address of that of the rows. ResultsError for a folder
    without rows, or whose rows are not those of their record, for a record that says too little,
    and for a licence that is no address.
    """
    if not re.fullmatch(r"https?://[^\s/]+/\S*", licence):
        raise ResultsError(
            f"licence: saw {licence!r}, expected the address of one, such as {LICENCE}."
        )
    folder = given(folder)
    files = [p for p in files_in(folder, deep=True) if p.suffix in KINDS and p.name != FILE]
    rows = [path for path in files if path.parent == folder and path.suffix == ".jsonl"]
    if not rows:
        raise ResultsError(
            f"{folder}: saw no rows (*.jsonl), expected those of a run; give the folder that "
            "`arq table --results FOLDER` filled, such as data/results."
        )
    runs = {path: _whole(path, run) for path in rows if (run := read_run(path)) is not None}
    entries = [*_actions(folder, runs), *_software(runs), *_data(runs)]
    about = _of(
        "./",
        "Dataset",
        name="Rows of ARQ and its neighbours",
        description=f"Scores of {len(rows)} jobs, an episode a line, with {len(runs)} records of "
        "the runs that made them.",
        datePublished=max((run["created"] for run in runs.values()), default=_now()),
        license=_at(licence),
        hasPart=[_at(_id(folder, path)) for path in files],
        mentions=[_at(x["@id"]) for x in entries if x["@type"] == "CreateAction"],
    )
    described = _of(FILE, "CreativeWork", conformsTo=_at(VERSION), about=_at("./"))
    terms = _of(licence, "CreativeWork", name=NAMES.get(licence, licence))
    parts = [_file(folder, path) for path in files]
    return {
        "@context": f"{VERSION}/context",
        "@graph": [described, about, terms, *parts, *entries],
    }


def write(folder: str | Path, licence: str = LICENCE) -> Path:
    """Write FILE into the folder; what `crate` refuses is not written."""
    path = given(folder) / FILE
    write_atomic(path, json.dumps(crate(folder, licence), indent=1, ensure_ascii=False) + "\n")
    return path


def _whole(rows: Path, run: dict) -> dict:
    data = run.get("dataset")
    missing = [name for name in SAID if name not in run]
    missing += [f"dataset.{k}" for k in OF_DATA if not isinstance(data, dict) or k not in data]
    if missing:
        raise ResultsError(
            f"{run_path(rows)}: saw no {', '.join(missing)}, expected what `arq row` and `arq "
            "table` write; restore the file, or run the job again."
        )
    return run


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _of(entity: str, kind: str, **fields) -> dict:
    return {"@id": entity, "@type": kind} | fields


def _at(name: str) -> dict:
    return {"@id": name}


def _id(folder: Path, path: Path) -> str:
    """The file as a relative URI."""
    return quote(path.relative_to(folder).as_posix())


def _by(commit: str) -> str:
    return f"#arq-core-{quote(commit, safe='')}"


def _file(folder: Path, path: Path) -> dict:
    kind, what = KINDS[path.suffix]
    return _of(
        _id(folder, path),
        "File",
        name=path.name,
        description=what,
        encodingFormat=kind,
        contentSize=str(path.stat().st_size),
    )


def _actions(folder: Path, runs: Mapping[Path, dict]) -> Iterator[dict]:
    for path, run in runs.items():
        yield _of(
            f"#run-{_id(folder, path)}",
            "CreateAction",
            name=f"{run['method']} on {run['task']} at profile {run['profile']}",
            description=f"seeds {', '.join(map(str, run['seeds']))}; {run['device']}",
            endTime=run["created"],
            instrument=_at(_by(run["commit"])),
            object=[_at(f"#data-{run['dataset']['sha256']}")],
            result=[_at(_id(folder, path)), _at(_id(folder, run_path(path)))],
        )


def _software(runs: Mapping[Path, dict]) -> list[dict]:
    return [
        _of(_by(x), "SoftwareApplication", name="arq-core", softwareVersion=x)
        for x in sorted({run["commit"] for run in runs.values()})
    ]


def _data(runs: Mapping[Path, dict]) -> list[dict]:
    found = {run["dataset"]["sha256"]: run for run in runs.values()}
    return [
        _of(
            f"#data-{digest}",
            "Dataset",
            name=run["task"],
            description=f"{run['dataset']['source']}; {run['dataset']['transitions']:,} "
            f"transitions, {run['dataset']['fidelity']}",
            identifier=f"sha256:{digest}",
        )
        for digest, run in sorted(found.items())
    ]
