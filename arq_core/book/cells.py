"""What a page shows of a notebook's cells.

Figures have a number and a caption by one mechanism: `mystnb.figure.caption` in a cell's metadata,
beside the alternative text. Parameters and checks are folded, and a heading is left out where what
stands below it showed nothing.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

from docutils import nodes

PICTURES = ("image/",)
WIDGET = "arq-widget"
HIDDEN = {"hide-input", "hide-cell", "hide-output", "remove-input", "remove-cell", "remove-output"}
# a cell of Markdown that stands for the outputs of the code below it, up to the next such cell
OF_OUTPUTS = "of-outputs"
CHECKED = "✓ Checked when this page was made: show how"
PARAMETERS = "Parameters of this page"
SHOWS = ("image/", "text/html", "text/markdown", "text/plain")


def as_shown(app, docname: str, source: list[str]) -> None:
    """For Sphinx's source-read: the notebook as its page shows it."""
    if Path(app.env.doc2path(docname)).suffix == ".ipynb":
        notebook = json.loads(source[0])
        notebook["cells"] = [_folded(cell) for cell in shown(notebook["cells"])]
        source[0] = json.dumps(notebook)


def shown(cells: list[dict]) -> list[dict]:
    """Without parameters that others replaced, and without sections of outputs that have none."""
    injected = any("injected-parameters" in _tags(cell) for cell in cells)
    out = []
    for i, cell in enumerate(cells):
        if "parameters" in _tags(cell) and injected:
            continue
        if OF_OUTPUTS in _tags(cell):
            below = []
            for other in cells[i + 1 :]:
                if other["cell_type"] != "code":
                    break
                below.append(other)
            if not any(_shows(output) for code in below for output in code["outputs"]):
                continue
        out.append(cell)
    return out


def _tags(cell: dict) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def _shows(output: dict) -> bool:
    kinds = output.get("data", ())
    return output["output_type"] == "stream" or any(kind.startswith(SHOWS) for kind in kinds)


def _folded(cell: dict) -> dict:
    """Parameters and checks behind a line that says what they are."""
    if cell["cell_type"] != "code" or HIDDEN & _tags(cell):
        return cell
    if _tags(cell) & {"parameters", "injected-parameters"}:
        said = PARAMETERS
    elif is_check("".join(cell["source"])) and not any(map(_shows, cell["outputs"])):
        said = CHECKED
    else:
        return cell
    metadata = cell["metadata"]
    config = metadata.get("mystnb", {}) | {"code_prompt_show": said, "code_prompt_hide": said}
    tags = [*metadata.get("tags", ()), "hide-input"]
    return cell | {"metadata": metadata | {"mystnb": config, "tags": tags}}


def is_check(code: str) -> bool:
    """Whether a cell asserts something, and does so last: what it computes is for that."""
    try:
        statements = ast.parse(code).body
    except SyntaxError:
        return False
    last = statements[-1] if statements else None
    return any(isinstance(node, ast.Assert) for node in ast.walk(last)) if last else False


def is_picture(figure: nodes.figure) -> bool:
    """Whether a figure that myst-nb made of an output holds an image or a widget."""
    bundles = [n for n in figure.findall(nodes.container) if n.get("nb_element") == "mime_bundle"]
    return not bundles or any(
        part["mime_type"].startswith(PICTURES)
        or part["mime_type"] == "text/html"
        and WIDGET in part.astext()
        for bundle in bundles
        for part in bundle.children
        if isinstance(part, nodes.container)
    )


def only_pictures(app, document: nodes.document) -> None:
    """myst-nb makes a figure of each output of a cell with a caption: words and tables that it
    shows beside its picture are none.
    """
    for figure in list(document.findall(nodes.figure)):
        if not is_picture(figure):
            words = (nodes.caption, nodes.legend)
            figure.replace_self([part for part in figure if not isinstance(part, words)])
