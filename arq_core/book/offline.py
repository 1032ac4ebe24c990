"""Pages that work from a disk without a network: what they load lies beside them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from docutils import nodes
from sphinx.errors import ExtensionError

from arq_core.book import faults
from arq_core.config.files import files_in

LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "track": "src",
    "object": "data",
    "image": "href",
    "use": "href",
    "input": "src",
}
LINKS = {
    "stylesheet",
    "preload",
    "prefetch",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
    "icon",
    "manifest",
    "apple-touch-icon",
}
HOST = re.compile(r"^\s*(?:https?:|wss?:)?//", re.I)
# what Sphinx writes of a formula, and what MathJax takes for one in what a notebook put out
FORMULA = re.compile(r"""class="math|\\\(|\\\[|\$\$|\\begin\{""")
CSS = re.compile(r"""(?:@import\s+|url\()\s*["']?\s*((?:https?:)?//[^"')\s]+)""", re.I)
MODULE = re.compile(r"""\bimport\s*(?:[\w*{}\s,]+from\s*)?\(?\s*["']((?:https?:)?//[^"']+)""")


# tags that load nothing unless they have a style, and are most of a page: not worth parsing
PLAIN = re.compile(r"</?(?:a|code|dd|div|dl|dt|em|li|p|pre|span|strong|td|th|tr|ul)\b[^<>]*>")


def _without_plain(text: str) -> str:
    return PLAIN.sub(lambda tag: tag[0] if "style" in tag[0] else "", text)


class Assets(HTMLParser):
    """Collects what a page would load from another host, and its images without a text
    alternative.
    """

    def __init__(self):
        super().__init__()
        self.problems, self.inside = [], None

    def handle_starttag(self, tag, attributes):
        got = {k: v or "" for k, v in attributes}
        self.inside = tag
        loaded = [
            got.get(LOADS.get(tag, ""), ""),
            got.get("poster", ""),
            *got.get("srcset", "").split(","),
        ]
        if tag == "link" and LINKS & set(got.get("rel", "").lower().split()):
            loaded.append(got.get("href", ""))
        self.problems += [f"<{tag}> loads {x.strip()}" for x in loaded if HOST.match(x)]
        self.problems += [f'style="" loads {x}' for x in CSS.findall(got.get("style", ""))]
        alt = got.get("alt")
        if tag == "img" and (alt is None or re.search(r"\.(svg|png|jpe?g|gif)$", alt)):
            self.problems.append(
                f"image {got.get('src')} has no alternative text (a notebook cell's "
                "metadata: mystnb.image.alt)"
            )

    def handle_data(self, data):
        pattern = {"style": CSS, "script": MODULE}.get(self.inside)
        self.problems += (
            [f"<{self.inside}> loads {x}" for x in pattern.findall(data)] if pattern else []
        )

    def handle_endtag(self, tag):
        self.inside = None


def problems(folder: Path) -> list[str]:
    """What the built pages under `folder` would load from another host, and their images without
    alternative text.
    """
    out = []
    for path in files_in(folder, "*.html", deep=True):
        parser = Assets()
        parser.feed(_without_plain(path.read_text(encoding="utf-8")))
        out += [f"{path.relative_to(folder)}: {p}" for p in parser.problems]
    for path in files_in(folder, "*.css", deep=True):
        out += [
            f"{path.relative_to(folder)}: loads {x}"
            for x in CSS.findall(path.read_text(encoding="utf-8"))
        ]
    return out


def check_pages(app, exception) -> None:
    """Fail the build where `problems` finds one."""
    if exception is not None or app.builder.format != "html":
        return
    if found := [*problems(Path(app.outdir)), *faults.problems(Path(app.outdir))]:
        raise ExtensionError(
            "The book must work offline, be readable by all and show nothing unfinished:\n"
            + "\n".join(f"ERROR: {p}" for p in found)
        )


def _titles_have_formulas(app) -> bool:
    """Whether a page's title does, which the contents beside every page repeat."""
    return any(title.next_node(nodes.math) for title in app.env.titles.values())


def tidy_scripts(app, page, template, context, doctree) -> None:
    """Keep each script once, and none for a server of live code: jupyter-book adds MathJax a
    second time, and Thebe, which names a remote address. MathJax takes a browser more than half a
    second to start: a page without formulas does without.
    """
    kept, formulas = {}, FORMULA.search(context.get("body", "")) or _titles_have_formulas(app)
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body", "")
        words = f"{getattr(script, 'filename', script)}{body}"
        if "thebe" in words.lower() or ("mathjax" in words.lower() and not formulas):
            continue
        kept.setdefault(words, script)
    if "script_files" in context:
        context["script_files"][:] = kept.values()
