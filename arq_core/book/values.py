"""What the book's pages need of Sphinx besides the results (`scores`): values and a status
page read from files, a check of the built pages.

Everything read is noted as a dependency of the page. A value that does not exist is a warning, and
a warning fails the build.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from markupsafe import Markup
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from arq_core.book import cells, html, search
from arq_core.book.html import Row
from arq_core.book.offline import (
    check_pages,
    tidy_scripts,
)
from arq_core.config.files import files_in, read_text, read_toml
from arq_core.results import films

logger = logging.getLogger(__name__)


def _data(env) -> Path:
    return Path(env.srcdir).parent / "data"


def _json(path: Path):
    return json.loads(read_text(path))


READERS = {".toml": read_toml, ".gif": films.about}


class Value(SphinxRole):
    """{value}`benchmarks/book.json#minutes.install .0f`: a number or text of a JSON or TOML file
    under data/, formatted; or of what a film there, a GIF of `arq film`, says of itself.
    """

    def run(self):
        match = re.fullmatch(r"(\S+)#(\S+)(?:\s+(\S+))?", self.text)
        try:
            path, key, form = match.groups()
            self.env.note_dependency(str(_data(self.env) / path))
            file = _data(self.env) / path
            value = READERS.get(file.suffix, _json)(file)
            for part in key.split("."):
                value = value[int(part) if isinstance(value, list) else part]
            said = format(value, form or "")
            if not isinstance(value, str):
                said = said.replace("-", "−")
            return [nodes.Text(said)], []
        except (AttributeError, KeyError, IndexError, OSError, TypeError, ValueError) as e:
            logger.warning(
                "value %r: saw %r, expected `file#key.key format`, the file under data/",
                self.text,
                e,
                location=self.get_location(),
            )
            return [nodes.Text("?")], []


class Status(SphinxDirective):
    """{status-table}: one line for each executed notebook, from its own metadata."""

    def run(self):
        runs, lines, versions = [], [], set()
        for path in files_in(Path(self.env.srcdir) / "executed", "*.ipynb"):
            self.env.note_dependency(str(path))
            runs.append((json.loads(path.read_text(encoding="utf-8"))["metadata"].get("arq"), path))
            if runs[-1][0] is None:
                logger.warning(
                    "%s: saw no record of its run, expected a notebook run by `make book`",
                    path.name,
                    location=self.get_location(),
                )
                return []
        for arq, path in sorted(runs, key=lambda run: run[0]["source"]):
            parameters = (
                ", ".join(f"{k} = {json.dumps(v)}" for k, v in arq["parameters"].items()) or "none"
            )
            versions.add(", ".join(f"{k} {v}" for k, v in arq["versions"].items()))
            cells = [
                parameters,
                f"{arq['wall_s']:.0f} s",
                f"{arq['processor_s']:.0f} s" if "processor_s" in arq else "",
                arq["created"].replace("T", " ").replace("+00:00", " UTC"),
                arq["device"],
                arq["commit"],
            ]
            link = Markup('<a href="executed/{}.html">{}</a>')
            lines.append(
                Row(
                    link.format(path.stem, arq["source"].removesuffix(".ipynb").replace("_", " ")),
                    cells,
                )
            )
        caption = (
            f"The notebooks of this book as they were run. Versions: {'; '.join(sorted(versions))}."
        )
        heads = (
            "notebook",
            "parameters",
            "run time",
            "processor time",
            "finished",
            "processor",
            "commit",
        )
        table = html.table(caption, lines, heads, label="status-caption", kind="arq-status")
        return [nodes.raw("", table, format="html")]


def setup(app) -> dict:
    app.setup_extension("arq_core.book.scores")
    app.add_role("value", Value())
    app.add_directive("status-table", Status)
    app.connect("source-read", cells.as_shown)
    app.connect("doctree-read", cells.only_pictures)
    app.connect("html-page-context", tidy_scripts, priority=900)
    app.connect("html-page-context", search.show)
    # before the pages are checked
    app.connect("build-finished", search.write, priority=400)
    app.connect("build-finished", check_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
