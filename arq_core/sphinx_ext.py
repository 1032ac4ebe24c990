"""What the book's pages need of Sphinx besides the results (`sphinx_results`): values and a status page read from files, a check of the built pages.

Everything read is noted as a dependency of the page. A value that does not exist is a warning, and a warning fails the build.
"""
from __future__ import annotations

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

from docutils import nodes
from markupsafe import Markup
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from arq_core import html
from arq_core.html import Row

logger = logging.getLogger(__name__)


def _data(env) -> Path:
    return Path(env.srcdir).parent / "data"


class Value(SphinxRole):
    """{value}`benchmarks/book.json#minutes.install .0f`: a number or text of a JSON or TOML file under data/, formatted."""

    def run(self):
        match = re.fullmatch(r"(\S+)#(\S+)(?:\s+(\S+))?", self.text)
        try:
            path, key, form = match.groups()
            self.env.note_dependency(str(_data(self.env) / path))
            text = (_data(self.env) / path).read_text()
            value = tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
            for part in key.split("."):
                value = value[int(part) if isinstance(value, list) else part]
            return [nodes.Text(format(value, form or ""))], []
        except (AttributeError, KeyError, IndexError, OSError, TypeError, ValueError) as e:
            logger.warning("value %r: saw %r, expected `file#key.key format`, the file under data/", self.text, e,
                           location=self.get_location())
            return [nodes.Text("?")], []


class Status(SphinxDirective):
    """{status-table}: one line for each executed notebook, from its own metadata."""

    def run(self):
        runs, lines, versions = [], [], set()
        for path in sorted((Path(self.env.srcdir) / "executed").glob("[!.]*.ipynb")):
            self.env.note_dependency(str(path))
            runs.append((json.loads(path.read_text())["metadata"].get("arq"), path))
            if runs[-1][0] is None:
                logger.warning("%s: saw no record of its run, expected a notebook run by `make book`", path.name, location=self.get_location())
                return []
        for arq, path in sorted(runs, key=lambda run: run[0]["source"]):
            parameters = ", ".join(f"{k} = {json.dumps(v)}" for k, v in arq["parameters"].items()) or "none"
            versions.add(", ".join(f"{k} {v}" for k, v in arq["versions"].items()))
            cells = [parameters, f"{arq['wall_s']:.0f} s", arq["created"].replace("T", " ").replace("+00:00", " UTC"), arq["device"],
                     arq["commit"]]
            link = Markup('<a href="executed/{}.html">{}</a>')
            lines.append(Row(link.format(path.stem, arq["source"].removesuffix(".ipynb")), cells))
        caption = ("The notebooks of this book as they were run. "
                   f"Versions: {'; '.join(sorted(versions))}.")
        heads = ("notebook", "parameters", "run time", "finished", "processor", "commit")
        table = html.table(caption, lines, heads, label="status-caption", kind="arq-status")
        return [nodes.raw("", table, format="html")]


LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src", "track": "src",
         "object": "data", "image": "href", "use": "href", "input": "src"}
LINKS = {"stylesheet", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "icon", "manifest", "apple-touch-icon"}
HOST = re.compile(r"^\s*(?:https?:|wss?:)?//", re.I)
CSS = re.compile(r"""(?:@import\s+|url\()\s*["']?\s*((?:https?:)?//[^"')\s]+)""", re.I)
MODULE = re.compile(r"""\bimport\s*(?:[\w*{}\s,]+from\s*)?\(?\s*["']((?:https?:)?//[^"']+)""")


class Assets(HTMLParser):
    """Collects what a page would load from another host, and its images without a text alternative."""

    def __init__(self):
        super().__init__()
        self.problems, self.inside = [], None

    def handle_starttag(self, tag, attributes):
        got = {k: v or "" for k, v in attributes}
        self.inside = tag
        loaded = [got.get(LOADS.get(tag, ""), ""), got.get("poster", ""), *got.get("srcset", "").split(",")]
        if tag == "link" and LINKS & set(got.get("rel", "").lower().split()):
            loaded.append(got.get("href", ""))
        self.problems += [f"<{tag}> loads {x.strip()}" for x in loaded if HOST.match(x)]
        self.problems += [f'style="" loads {x}' for x in CSS.findall(got.get("style", ""))]
        alt = got.get("alt")
        if tag == "img" and (alt is None or re.search(r"\.(svg|png|jpe?g|gif)$", alt)):
            self.problems.append(f"image {got.get('src')} has no alternative text (a notebook cell's metadata: mystnb.image.alt)")

    def handle_data(self, data):
        pattern = {"style": CSS, "script": MODULE}.get(self.inside)
        self.problems += [f"<{self.inside}> loads {x}" for x in pattern.findall(data)] if pattern else []

    def handle_endtag(self, tag):
        self.inside = None


def problems(folder: Path) -> list[str]:
    """What the built pages under `folder` would load from another host, and their images without alternative text."""
    out = []
    for path in sorted(folder.rglob("*.html")):
        parser = Assets()
        parser.feed(path.read_text(encoding="utf-8"))
        out += [f"{path.relative_to(folder)}: {p}" for p in parser.problems]
    for path in sorted(folder.rglob("*.css")):
        out += [f"{path.relative_to(folder)}: loads {x}" for x in CSS.findall(path.read_text(encoding="utf-8"))]
    return out


def check_pages(app, exception) -> None:
    """Fail the build where `problems` finds one."""
    if exception is None and app.builder.format == "html" and (found := problems(Path(app.outdir))):
        raise ExtensionError("The book must work offline and be readable by all:\n" + "\n".join(f"ERROR: {p}" for p in found))


def tidy_scripts(app, page, template, context, doctree) -> None:
    """Keep each script once, and none for a server of live code: jupyter-book adds MathJax a second time, and Thebe, which names a remote address."""
    kept = {}
    for script in context.get("script_files", []):
        words = f"{getattr(script, 'filename', script)}{getattr(script, 'attributes', {}).get('body', '')}"
        if "thebe" not in words.lower():
            kept.setdefault(words, script)
    if "script_files" in context:
        context["script_files"][:] = kept.values()


def setup(app) -> dict:
    app.setup_extension("arq_core.sphinx_results")
    app.add_role("value", Value())
    app.add_directive("status-table", Status)
    app.connect("html-page-context", tidy_scripts, priority=900)
    app.connect("build-finished", check_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
