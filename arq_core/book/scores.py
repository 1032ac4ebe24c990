"""Our results in the book's pages: numbers and tables read from the rows, the pages of their
evidence, the tables as files.

A table that cannot be made (a damaged row, an unknown dataset) is a warning that says why, and a
warning fails the build.
"""

from __future__ import annotations

from functools import lru_cache
from html import escape
from pathlib import Path

import pandas as pd
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from arq_core.book import evidence, minute
from arq_core.book import tables as tables_html
from arq_core.config import paths, settings
from arq_core.config.files import files_in, read_toml
from arq_core.config.labels import LABELS, VARIANTS
from arq_core.config.tasks import listed
from arq_core.results import equivalence, export, overview, tables, totals
from arq_core.results.headline import parts, sentences
from arq_core.results.paper import Paper, paper_cells, paper_lines, published
from arq_core.results.records import JOB, run_path
from arq_core.results.rows import file_name, read_rows, summary
from arq_core.results.verdicts import SMOKE_TEST

logger = logging.getLogger(__name__)


def _data(env) -> Path:
    return Path(env.srcdir).parent / "data"


def _failed(data: Path) -> Path:
    return data.parent / tables.FAILED.relative_to(paths.DATA.parent)


def _inputs(data: Path) -> list[Path]:
    """The files that the tables are made from."""
    rows = files_in(data / "results", "*.jsonl")
    return [
        p
        for p in (
            *rows,
            *map(run_path, rows),
            data / "published.csv",
            data / "published_sources.toml",
            data / "tasks.csv",
            _failed(data),
        )
        if p.exists()
    ]


@lru_cache(maxsize=1)
def _read(data: Path, stamp: tuple) -> tuple[list[dict], dict, list[dict]]:
    return (
        read_rows(data / "results"),
        tables.read_runs(data / "results"),
        tables.read_failures(_failed(data)),
    )


def _stamp(data: Path) -> tuple:
    return tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in _inputs(data))


def _results(data: Path) -> tuple[list[dict], dict, list[dict]]:
    """Rows, records of their runs and failed cells, read once for each state of the files."""
    return _read(data, _stamp(data))


@lru_cache(maxsize=8)
def _table(kind: str, data: Path, stamp: tuple, chosen: tuple) -> pd.DataFrame:
    rows, runs, failures = _read(data, stamp)
    names, more = tables.task_names(data / "tasks.csv"), dict(runs=runs, failures=failures)
    make = {
        "table-a4": lambda: tables.table_a4(rows, names, **dict(chosen), **more),
        "table-2": lambda: totals.table_2(rows, names, **more),
        "table-own": lambda: tables.table_own(rows, data / "tasks.csv", **more),
    }
    return make[kind]()


@lru_cache(maxsize=2)
def _datasets(kind: str, data: Path, stamp: tuple) -> list[overview.Dataset]:
    return overview.datasets(_table(kind, data, stamp, ()))


@lru_cache(maxsize=1)
def _told(data: Path, stamp: tuple) -> dict[str, str]:
    return parts(*_read(data, stamp))


@lru_cache(maxsize=1)
def _published(path: Path, stamp: int) -> dict[tuple[str, str], Paper]:
    return paper_cells(paper_lines(published(path).query("table == 'a4'")))


def _depend(env) -> Path:
    """The data folder, its results noted as what the page depends on."""
    for path in _inputs(_data(env)):
        env.note_dependency(str(path))
    return _data(env)


def _top(env) -> str:
    """The way from the page that is read to the first folder of the book."""
    return "../" * env.docname.count("/")


def _job(text: str, rows: list[dict], data: Path) -> tuple[pd.Series | None, str]:
    """(the line of `summary` of the job that is asked for, None where nobody has run it; the stem
    of its file). A name that is neither known nor of a row is refused: it may be mistyped.
    """
    words = text.split()
    if len(words) not in (3, 4):
        raise ValueError(f"{len(words)} words")
    asked = dict(zip(JOB, [*words, VARIANTS[0]], strict=False))
    plain = lambda row, name: row[name].replace(" ", "-")
    if found := [row for row in rows if all(plain(row, name) == asked[name] for name in JOB)]:
        job = summary(found).iloc[0]
        return job, Path(file_name(*(job[name] for name in JOB))).stem
    from arq_core.experiments.methods import METHODS  # late: it brings torch

    known = dict(
        task=listed(data / "tasks.csv"),
        profile=read_toml(data / "profiles.toml"),
        method=[method.replace(" ", "-") for method in (*LABELS, *METHODS)],
        variant=VARIANTS,
    )
    for kind, name in asked.items():
        if not any(plain(row, kind) == name for row in rows):
            settings.pick(kind, name, dict.fromkeys(known[kind]))
    return None, ""


class Score(SphinxRole):
    """{score}`door-human lite arq+s_psi` (or with a fourth word, the variant; without it,
    released): our mean ± std over seeds, with a link to its evidence.

    A job that nobody has run is "not run"; a name that does not exist fails the build.
    """

    def run(self):
        data = _depend(self.env)
        try:
            job, stem = _job(self.text, _results(data)[0], data)
        except (ValueError, OSError) as e:
            logger.warning(
                "score %r: saw %s, expected `task profile method [variant]` of one job",
                self.text,
                e,
                location=self.get_location(),
            )
            return [nodes.Text("?")], []
        if job is None:
            return [nodes.inline("", "not run", classes=["arq-not-run"])], []
        where = f"{_top(self.env)}evidence/{evidence.address(stem)}"
        return [nodes.reference("", self.said(job), refuri=where, internal=True)], []

    @staticmethod
    def said(job) -> str:
        if pd.isna(job["score"]):
            return "no score"
        smoke = f" ({SMOKE_TEST})" if job["smoke_test"] else ""
        spread = "" if pd.isna(job["score_std"]) else f" ± {job['score_std']:.1f}"
        return f"{job['score']:.1f}{spread}{smoke}".replace("-", "−")


class InSupport(Score):
    """{in-support}`door-human lite arq+s_psi`: the share of the job's candidates that passed
    epsilon, mean over seeds, with the same link.
    """

    @staticmethod
    def said(job) -> str:
        return "no share" if pd.isna(job["in_support"]) else f"{job['in_support']:.0%}"


class Succeeded(Score):
    """{succeeded}`door-human lite arq+s_psi`: the share of the job's episodes that had success,
    mean over seeds, with the same link.
    """

    @staticmethod
    def said(job) -> str:
        return f"{job['success']:.0%}"


class Published(SphinxRole):
    """{published}`door-human-v0 s_psi`: the paper's number in Table A.4, as it prints it.

    A dataset or a method that the table does not have fails the build.
    """

    def run(self):
        path = _depend(self.env) / "published.csv"
        try:
            dataset, method = self.text.split()
            cells = _published(path, path.stat().st_mtime_ns)
            of_dataset = {m: cell for (d, m), cell in cells.items() if d == dataset}
            settings.pick("dataset", dataset, dict.fromkeys(d for d, _ in cells))
            cell = settings.pick("method", method, of_dataset)
        except (ValueError, OSError) as e:
            logger.warning(
                "published %r: saw %s, expected `dataset method`, both of Table A.4",
                self.text,
                e,
                location=self.get_location(),
            )
            return [nodes.Text("?")], []
        said = cell.state if cell.mean is None else f"{cell.mean:g}".replace("-", "−")
        return [nodes.Text(said)], []


class Headline(SphinxRole):
    """{headline}`bridge paper`: what was reproduced in a sentence each, by the names of
    `results.headline.parts`.
    """

    def run(self):
        data = _depend(self.env)
        try:
            return [nodes.Text(sentences(_told(data, _stamp(data)), self.text.split()))], []
        except ValueError as e:
            logger.warning("%s", e, location=self.get_location())
            return [nodes.Text("?")], []


class _Shown(SphinxDirective):
    """A directive that is HTML made from the results, or a warning that says why it is none."""

    def run(self):
        try:
            shown = self.html(_depend(self.env), f"{_top(self.env)}evidence/")
        except (ValueError, OSError) as e:
            logger.warning("%s: %s", self.name, e, location=self.get_location())
            return []
        return [nodes.raw("", shown, format="html")]

    def html(self, data: Path, evidence: str) -> str:
        """`evidence` is the way from the page to the folder of the evidence."""
        raise NotImplementedError

    @staticmethod
    def cells(kind: str, data: Path, **chosen: list[str]) -> pd.DataFrame:
        """Those of a table."""
        return _table(kind, data, _stamp(data), tuple((k, tuple(v)) for k, v in chosen.items()))


class Table(_Shown):
    """{table-a4}, {table-2} and {table-own}; the argument is the caption.

    Options: `folded` shows the caption until it is opened, `anchors` gives each dataset an id (once
    a page). Of the first also datasets, groups (the paper's names).
    """

    has_content, required_arguments, final_argument_whitespace = False, 1, True
    option_spec = {
        "datasets": directives.unchanged,
        "groups": directives.unchanged,
        "folded": directives.flag,
        "anchors": directives.flag,
    }

    def html(self, data, evidence):
        chosen = {
            key: self.options[key].replace(",", " ").split()
            for key in ("datasets", "groups")
            if key in self.options
        }
        name = f"{self.name}-{self.env.new_serialno('arq-table')}"
        table = tables_html.to_html(
            self.cells(self.name, data, **chosen),
            self.arguments[0],
            name,
            evidence,
            anchors="anchors" in self.options,
        )
        return tables_html.folded(self.arguments[0], table) if "folded" in self.options else table


class Minute(_Shown):
    """{results-strip}: what was reproduced, in a paragraph and a square for each dataset of the
    paper. {results-dots}: the numbers of each dataset on an axis, the argument `paper` or `own`.
    """

    has_content, optional_arguments = False, 1

    def html(self, data, evidence):
        stamp = _stamp(data)
        paper, own = (_datasets(kind, data, stamp) for kind in ("table-a4", "table-own"))
        if self.name == "results-dots":
            which = self.arguments[0] if self.arguments else ""
            shown = settings.pick(self.name, which, dict(paper=paper, own=own))
            return minute.dots(shown, evidence)
        names = tables.task_names(data / "tasks.csv")
        alike = {
            names[row["stands_for"]]: task
            for task, row in listed(data / "tasks.csv").items()
            if row.get("stands_for") in names
        }
        return minute.strip(paper, own, alike)


class Equivalences(SphinxDirective):
    """{table-equivalence}: where a profile's rows are shown equivalent to another's; the argument
    is the caption. Option: profiles, their two names (fast full).

    Where no cell has rows at both, a sentence says so.
    """

    has_content, required_arguments, final_argument_whitespace = False, 1, True
    option_spec = {"profiles": directives.unchanged}

    def run(self):
        both = self.options.get("profiles", f"{equivalence.FAST} {equivalence.FULL}").split()
        try:
            rows, _, _ = _results(_depend(self.env))
            first, second = both
            found = equivalence.compared(rows, first, second)
        except (ValueError, OSError) as e:
            logger.warning("%s: %s", self.name, e, location=self.get_location())
            return []
        if not any(found):
            return [
                nodes.paragraph(
                    "",
                    f"There are none yet: no cell has committed rows at both {first} and {second}.",
                )
            ]
        name = f"{self.name}-{self.env.new_serialno('arq-table')}"
        table = tables_html.equivalences_html(
            found, first, second, self.arguments[0], name, f"{_top(self.env)}evidence/"
        )
        return [nodes.raw("", table, format="html")]


class TableHelp(SphinxDirective):
    """{table-legend}: how to read a cell. {table-files}: the tables as files, and the index of
    the evidence (`write_evidence` makes them).
    """

    def run(self):
        if self.name == "table-legend":
            return [nodes.raw("", tables_html.legend_html(), format="html")]
        lines = "".join(
            f"<li>{escape(text.removesuffix('.'))}: "
            + ", ".join(
                f'<a href="{_top(self.env)}tables/{name}.{kind}" download>{label}</a>'
                for kind, label in (("csv", "CSV"), ("tex", "LaTeX"), ("md", "Markdown"))
            )
            + "</li>"
            for name, text in export.CAPTIONS.items()
        )
        return [
            nodes.raw(
                "",
                f'<ul>{lines}<li><a href="{_top(self.env)}tables/tables.tex" download>A '
                "LaTeX document of the three</a></li><li><a "
                f'href="{_top(self.env)}evidence/index.html">All evidence, job by '
                "job</a></li></ul>",
                format="html",
            )
        ]


def write_evidence(app):
    """Where the book has results: the pages of the evidence, and the tables as files."""
    data = Path(app.srcdir).parent / "data"
    if not (data / "tasks.csv").is_file():
        return
    rows, runs, failures = _results(data)
    export.export(Path(app.outdir) / "tables", data / "results", rows, runs, failures)
    for name, title, text in evidence.pages(data / "results", Path(app.outdir) / "evidence"):
        yield f"evidence/{name}", {"title": title, "body": text}, "page.html"


def setup(app) -> dict:
    app.add_role("score", Score())
    app.add_role("in-support", InSupport())
    app.add_role("succeeded", Succeeded())
    app.add_role("published", Published())
    app.add_role("headline", Headline())
    for name in ("table-a4", "table-2", "table-own"):
        app.add_directive(name, Table)
    app.add_directive("table-equivalence", Equivalences)
    for name in ("results-strip", "results-dots"):
        app.add_directive(name, Minute)
    for name in ("table-legend", "table-files"):
        app.add_directive(name, TableHelp)
    app.add_css_file("tables.css")
    app.add_css_file("minute.css")
    app.add_js_file("tables.js", loading_method="defer")
    app.connect("html-collect-pages", write_evidence)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
