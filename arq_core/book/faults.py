"""What no built page may show: markup that was not rendered, errors, progress bars, records of
settings as Python prints them, and pictures without a number and a caption.

Texts are read from the files, without a browser. `layout` looks at the pages as they are drawn.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from arq_core.config.files import files_in

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
# what stands there is not read as prose: code, formulas before they are typeset, data of widgets
CODE = {"code", "script", "style", "svg", "template", "textarea", "title"}
CODE_CLASSES = {"highlight", "math", "code", "literal-block"}
PRINTED = {
    "a progress bar": re.compile(r"\d+%\|[^|]*\|\s*\d+/|\d(it/s|s/it)\]"),
    "an error": re.compile(
        r"Traceback \(most recent call last\)|saw no simulation of|cannot be loaded \("
    ),
    "settings as Python prints them": re.compile(r"\b(Hyper|Budget|Profile)\(\w+="),
}
TYPED = {
    "a table in Markdown": re.compile(r"\|\s*:?-{3,}:?\s*\||\|—\|"),
    "a formula in Markdown": re.compile(r"\$[^$\s][^$\n]*[\\_^{][^$\n]*(?<!\s)\$(?!\w)"),
    "a heading in Markdown": re.compile(r"^#{1,6} \w", re.M),
    "a role or directive": re.compile(r"\{[\w:-]+\}`|^:::|^```", re.M),
    "bold in Markdown": re.compile(r"\*\*\w[^*\n]*\*\*"),
}
NO_CAPTION = (
    "a picture without a number and a caption (a notebook cell's metadata: mystnb.figure.caption)"
)
SAID = 3  # of a fault that a page has several times
NOT_PAGES = {"_static", "_modules"}


class Shown(HTMLParser):
    """`faults` of a page: what, and the words around each."""

    def __init__(self, page: str):
        super().__init__()
        self.faults: dict[str, list[str]] = {}
        self.open: list[tuple[str, frozenset[str]]] = []
        self.figures: list[dict] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        got = {k: v or "" for k, v in attributes}
        classes = frozenset(got.get("class", "").split())
        if tag == "figure":
            # a widget's own picture is for who has no scripts
            self.figures.append({"pictures": [], "number": "arq-widget" in classes})
        # a picture of an output, or one that a page names; the theme's logo and signs are neither
        if tag == "img" and self._inside("article") and "toggler" not in classes:
            self._picture(got.get("alt", ""))
        if "caption-number" in classes and self.figures:
            self.figures[-1]["number"] = True
        if tag not in VOID:
            self.open.append((tag, classes))

    def handle_endtag(self, tag):
        # what was left open ends with what is around it
        for i in range(len(self.open) - 1, -1, -1):
            if self.open[i][0] == tag:
                del self.open[i:]
                break
        if tag == "figure" and self.figures:
            figure = self.figures.pop()
            if not figure["number"]:
                for alt in figure["pictures"]:
                    self._without_caption(alt) if not self.figures else self._picture(alt)

    def handle_data(self, data):
        tags = {tag for tag, _ in self.open}
        classes = frozenset().union(*(names for _, names in self.open))
        if tags & CODE or classes & CODE_CLASSES:
            return
        looked_for = PRINTED if "pre" in tags else PRINTED | TYPED
        for what, pattern in looked_for.items():
            if found := pattern.search(data):
                self.faults.setdefault(what, []).append(_around(data, found))

    def _inside(self, tag: str) -> bool:
        return any(name == tag for name, _ in self.open)

    def _picture(self, alt: str) -> None:
        if self.figures:
            self.figures[-1]["pictures"].append(alt)
        else:
            self._without_caption(alt)

    def _without_caption(self, alt: str) -> None:
        self.faults.setdefault(NO_CAPTION, []).append(alt[:80] or "without a text alternative")


def _around(text: str, found: re.Match) -> str:
    return " ".join(text[max(0, found.start() - 30) : found.end() + 30].split())[:120]


def problems(folder: Path) -> list[str]:
    """Of all built pages under `folder`: "page: what: the words around it"."""
    return [
        f"{path.relative_to(folder)}: {what}: {', '.join(words[:SAID])}"
        + f" and {len(words) - SAID} more" * (len(words) > SAID)
        for path in files_in(folder, "*.html", deep=True)
        if not NOT_PAGES & set(path.relative_to(folder).parts)
        for what, words in Shown(path.read_text(encoding="utf-8")).faults.items()
    ]
