"""A widget in a Markdown page: made while the pages are built, from what the package computes.

A notebook shows a widget by running a cell. A page that has no cells names what makes one.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from arq_core.config.files import files_in

logger = logging.getLogger(__name__)
WIDGETS = Path(__file__).resolve().parents[1] / "widgets"


class Figure(SphinxDirective):
    """{arq-widget} arq_core.experiments.diffusion:diffusion: what this name makes, called without
    arguments: a widget with its script, its data and its sentence. Words in the directive are its
    caption, and give it a number.
    """

    required_arguments = 1
    has_content = True
    option_spec = {"name": directives.unchanged_required}

    def run(self):
        try:
            module, name = self.arguments[0].split(":")
            made = importlib.import_module(module)
            widget = getattr(made, name)()
            problem, shown = widget.problem, widget.to_html()
        except (AttributeError, ImportError, TypeError, ValueError) as e:
            problem, shown = repr(e), ""
        if problem:
            logger.warning(
                "arq-widget %r: saw %s, expected `module:name` of what makes a widget without "
                "arguments",
                self.arguments[0],
                problem,
                location=self.get_location(),
            )
            return []
        for path in (made.__file__, *map(str, files_in(WIDGETS))):
            self.env.note_dependency(path)
        raw = nodes.raw("", shown, format="html")
        if not self.content:
            return [raw]
        text = " ".join(self.content)
        words, messages = self.state.inline_text(text, self.lineno)
        figure = nodes.figure("", raw, nodes.caption(text, "", *words))
        self.add_name(figure)
        return [figure, *messages]


def setup(app) -> dict:
    app.add_directive("arq-widget", Figure)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
