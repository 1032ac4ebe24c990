"""An executed notebook as a plain page to read: words rendered, code as it was typed, and what the
code printed, without the progress bars.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup
from mdit_py_plugins.dollarmath import dollarmath_plugin

ANSI = re.compile(r"\x1b\[[0-9;]*m")
BAR = re.compile(r"\d+%\|[^|]*\|\s*[\d.]+\w*/[\d.]+\w* \[.*\]|\d+\w* \[[\d:]+, .*(it/s|s/it)\]")
MATH = Markup('<span class="math">\\({}\\)</span>')
HEAD = Markup(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
    'content="width=device-width, initial-scale=1"><title>{title}</title>'
    '<link rel="stylesheet" href="../../_static/evidence.css">{scripts}</head>'
    '<body class="arq-read"><main>'
    '<nav aria-label="Where this page is"><a href="../../results.html">Results</a> › '
    '<a href="../index.html">Evidence</a> › <a href="../{task}.html">{task}</a> › {place}</nav>'
    '{words}<p>This is a step of <a href="../{task}.html">the evidence of {task}</a>, as it was '
    'executed. <a href="{file}" download>The notebook</a></p>'
)
TYPESET = Markup(
    "<script>window.MathJax = {options: {enableMenu: false}}</script>"
    '<script defer src="../../_static/mathjax/tex-chtml-full.js"></script>'
)


@functools.cache
def _markdown() -> MarkdownIt:
    math = dict(renderer=lambda content, _: str(MATH.format(content)))
    return MarkdownIt("commonmark", {"html": False}).enable("table").use(dollarmath_plugin, **math)


def words(markdown: str) -> Markup:
    """Markdown as HTML, with formulas for MathJax; HTML in it is shown and does nothing."""
    return Markup(_markdown().render(markdown))


def printed(text: str) -> str:
    """A printed text without colours and progress bars; a line that was written over is what it
    became.
    """
    lines = (line.rsplit("\r", 1)[-1] for line in ANSI.sub("", text).strip("\r").split("\n"))
    return "\n".join(line for line in lines if not BAR.search(line)).strip("\n")


def _said(output: dict) -> str:
    data = output.get("data", {})
    text = output.get("text") or data.get("text/plain") or output.get("traceback")
    return printed("".join(text)) if text else f"({', '.join(data)}: in the notebook itself)"


def page(path: Path) -> str:
    """The page of the notebook at evidence/FOLDER/STEP.ipynb."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = [(cell, "".join(cell["source"])) for cell in cells]
    place = f"{path.parent.name}, {path.stem}"
    first = shown.pop(0)[1] if shown and shown[0][0]["cell_type"] == "markdown" else f"# {place}"
    parts = []
    for cell, source in shown:
        if cell["cell_type"] == "markdown":
            parts.append(words(source))
            continue
        kind = cell["cell_type"]
        parts.append(Markup('<pre class="{}" tabindex="0">{}</pre>').format(kind, source))
        said = "\n".join(filter(None, map(_said, cell.get("outputs", []))))
        if said:
            parts.append(Markup('<pre class="output" tabindex="0">{}</pre>').format(said))
    body = Markup("").join(parts)
    top = words(first)
    head = HEAD.format(
        title=place,
        scripts=TYPESET if 'class="math"' in top + body else "",
        task=path.parent.name.split(".")[0],
        place=place,
        words=top,
        file=path.name,
    )
    return head + body + Markup("</main></body></html>")
