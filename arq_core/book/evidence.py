"""The evidence behind each number: pages of the built book, one a task with an anchor a job, made
from `data/results` when the book is built.

A job's rows and its provenance (`records`) are copied beside the pages, and so are the executed
notebooks, each with a plain page to read it by. Rows without provenance are those of `make row`:
what is then unknown is called "not recorded".
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup, escape

from arq_core.book import html, reading
from arq_core.book.html import Row
from arq_core.config.files import files_in, sha256_of
from arq_core.results.records import read_run, run_path
from arq_core.results.rows import STD_DDOF, read_file, summary
from arq_core.results.verdicts import SMOKE_TEST, WORDS

NOT_RECORDED = "not recorded (these rows were made without a record of their run)"


def address(job: str) -> str:
    """Page and anchor of a job (the stem of its file of rows), from the folder of the evidence."""
    return f"{job.split('.')[0]}.html#{job}"


@dataclass(frozen=True)
class Job:
    """A file of rows, what is in it, and the record of its run (None where there is none)."""

    path: Path
    rows: Sequence[Mapping]
    run: Mapping | None

    @property
    def name(self) -> str:
        return self.path.stem


def jobs(folder: Path) -> dict[str, list[Job]]:
    """The jobs of a results folder by the name of their page."""
    out: dict[str, list[Job]] = {}
    for path in files_in(folder, "*.jsonl"):
        out.setdefault(path.name.split(".")[0], []).append(
            Job(path, read_file(path), read_run(path))
        )
    return out


def _facts(caption: str, facts: Mapping[str, str]) -> Markup:
    """A table of two columns."""
    return html.table(caption, (Row(k, [v]) for k, v in facts.items()), kind="arq-facts")


def _grid(caption: str, name: str, heads: Iterable[str], lines: Iterable[Iterable]) -> Markup:
    """A table with heads, in a region that scrolls."""
    rows = (Row(head, cells) for head, *cells in lines)
    return html.table(caption, rows, list(heads), label=name)


def _text(x) -> str:
    if isinstance(x, int) and not isinstance(x, bool):
        return f"{x:,}"
    return x if isinstance(x, str) else json.dumps(x, ensure_ascii=False)


def _file(name: str) -> Markup:
    return Markup('<a href="{0}" download>{0}</a>').format(name)


def _score(frame: pd.Series) -> str:
    if pd.isna(frame["score"]):
        return "none: the task has no scale"
    spread = (
        ""
        if pd.isna(frame["score_std"])
        else f" ± {frame['score_std']:.2f} (standard deviation over seeds, divisor n − {STD_DDOF})"
    )
    if frame["smoke_test"]:
        said = Markup("{:.2f}{}; {}: {}").format(
            frame["score"], spread, SMOKE_TEST, WORDS[SMOKE_TEST]
        )
    else:
        said = Markup("<b>{:.2f}</b>{}").format(frame["score"], spread)
    return said.replace("-", "−")


def _data(first: Mapping, data: Mapping) -> str:
    """Where the data came from, by the rows and by the record of the run."""
    size = f"{data['transitions']:,} transitions" if data.get("transitions") else ""
    said = (first["fidelity"], data.get("source"), size, *data.get("notes", []))
    return "; ".join(map(str, filter(None, said)))


def _energy(run: Mapping) -> str:
    source = run.get("energy_source") or ""
    if run.get("energy_j") is None:
        return source or "not recorded"
    return f"{run['energy_j']:,.0f} J ({source or 'source not recorded'})"


def _what(job: Job) -> str:
    """What was measured, and on what."""
    frame, first, run = summary(job.rows).iloc[0], job.rows[0], job.run or {}
    several = lambda key: ", ".join(dict.fromkeys(str(row[key]) for row in job.rows))
    code, rows_sha256 = Markup("<code>{}</code>"), sha256_of(job.path)
    facts = {
        "score": _score(frame),
        "seeds × episodes": f"{frame['seeds']} × {frame['episodes']}",
        "method": f"{first['method']}, variant {first['variant']}, profile {first['profile']}",
        "data": _data(first, run.get("dataset", {})),
        "hash of the data (SHA-256)": code.format(first["dataset_sha256"]),
        "commit": several("commit"),
        "device": several("device"),
        "versions": ", ".join(f"{k} {v}" for k, v in first["versions"].items()),
        "wall time": f"{run.get('wall_s', first['wall_s']):,.0f} s",
        "finished": max(row["created"] for row in job.rows),
        "energy": _energy(run),
        "rows": Markup("{}, SHA-256 {}").format(_file(job.path.name), code.format(rows_sha256)),
        "record of the run": _file(run_path(job.path).name) if job.run else NOT_RECORDED,
    }
    return _facts("What was measured, and on what", facts)


def _seeds(job: Job) -> str:
    measured = ["score", "return_", "success", "length", "in_support"]
    frame = pd.DataFrame(job.rows).astype(dict.fromkeys(measured, float)).groupby("seed")
    out = frame[measured].mean().map(lambda x: "–" if pd.isna(x) else f"{x:,.3f}".replace("-", "−"))
    out.insert(0, "episodes", frame.size())
    out = out.rename(columns={"return_": "return", "in_support": "in support"}).reset_index()
    return _grid(
        "Each seed: means over its episodes", f"{job.name}-seeds", out, out.itertuples(index=False)
    )


def _configuration(job: Job) -> str:
    if not job.run or not (job.run.get("hyper") or job.run.get("budget")):
        return f"<p>Configuration: {NOT_RECORDED}.</p>"
    tables = [
        _facts(caption, {k: _text(v) for k, v in job.run.get(key, {}).items()})
        for key, caption in (("hyper", "Hyperparameters"), ("budget", "Budget"))
    ]
    return (
        f'<details class="arq-passport"><summary>Configuration</summary>{"".join(tables)}</details>'
    )


def _steps(job: Job, folder: Path) -> str:
    if not job.run or not job.run.get("steps"):
        return f"<p>Steps and executed notebooks: {NOT_RECORDED}.</p>"
    links = Markup('<a href="{}.html">read</a>, <a href="{}" download>download</a>')
    tensors, lines = Markup("{}, SHA-256 <code>{}</code>"), []
    for step in job.run["steps"]:
        kept = step.get("notebook") and (folder / step["notebook"]).is_file()
        page = step["notebook"].removeprefix("evidence/") if kept else ""
        read = links.format(page.removesuffix(".ipynb"), page)
        made = Markup("<br>").join(
            tensors.format(f["file"], f["sha256"][:16]) for f in step.get("files", [])
        )
        lines.append(
            {
                "step": _text(step["step"]),
                "executed notebook": read if kept else "not kept",
                "seconds": f"{step['seconds']:,.1f}" if step.get("seconds") is not None else "–",
                "kept tensors": made or "–",
                "device, commit": _text(
                    ", ".join(filter(None, [step.get("device"), step.get("commit")]))
                ),
            }
        )
    return _grid(
        "Steps of the run, with the notebook of each as it was executed",
        f"{job.name}-steps",
        lines[0],
        map(dict.values, lines),
    )


def body(task: str, found: Sequence[Job], folder: Path) -> str:
    """The page of a task."""
    links = "".join(
        f'<li><a href="#{escape(job.name)}">{escape(job.name)}</a></li>' for job in found
    )
    about = lambda job: (
        f"<h2>{escape(job.name)}</h2>{_what(job)}{_seeds(job)}{_configuration(job)}"
        f"{_steps(job, folder)}"
    )
    sections = "".join(f'<section id="{escape(job.name)}">{about(job)}</section>' for job in found)
    return (
        f'<div class="arq-evidence"><h1>Evidence: {escape(task)}</h1><p><a '
        'href="index.html">All evidence</a>, <a href="../results.html">the '
        f"tables</a></p><ul>{links}</ul>{sections}</div>"
    )


def index(found: Mapping[str, Sequence[Job]]) -> str:
    """The page that lists all."""
    link = lambda job: f'<li><a href="{escape(address(job.name))}">{escape(job.name)}</a></li>'
    items = "".join(
        f"<li>{escape(task)}<ul>{''.join(map(link, some))}</ul></li>"
        for task, some in found.items()
    )
    return (
        '<div class="arq-evidence"><h1>Evidence</h1><p>One entry a job: a task, a '
        "profile, a method and a variant, with all its seeds. "
        f"{sum(map(len, found.values()))} jobs of {len(found)} tasks. <a "
        f'href="../results.html">The tables</a></p><ul>{items}</ul></div>'
    )


def copy_files(found: Mapping[str, Sequence[Job]], folder: Path, out: Path) -> None:
    """Rows, records and executed notebooks beside the pages."""
    out.mkdir(parents=True, exist_ok=True)
    for job in (job for some in found.values() for job in some):
        for path in (job.path, run_path(job.path)):
            if path.exists():
                shutil.copyfile(path, out / path.name)
    for path in files_in(folder / "evidence", "*.ipynb", deep=True):
        target = out / path.relative_to(folder / "evidence")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.with_suffix(".html").write_text(reading.page(path), encoding="utf-8")


def pages(folder: Path, out: Path) -> Iterator[tuple[str, str, str]]:
    """Copy the files to `out`; then (name, title, HTML) of each page."""
    found = jobs(folder)
    copy_files(found, folder, out)
    yield "index", "Evidence", index(found)
    for task, some in found.items():
        yield task, f"Evidence: {task}", body(task, some, folder)
