"""A picture in a Markdown page: drawn while the pages are built, in the colours of the page."""

from __future__ import annotations

import importlib
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from arq_core.config.files import files_in
from arq_core.figures.inline import html

logger = logging.getLogger(__name__)
PACKAGE = Path(__file__).resolve().parents[1]
ROOMS = ("algorithm", "experiments", "figures", "widgets")  # what a picture is made of


class Drawing(SphinxDirective):
    """{arq-picture} arq_core.experiments.method_pictures:eq_4: the numbered figure, with its
    caption, of what this name makes, called without arguments: a `figures.inline.Picture`.

    Option: name, by which it is cited.
    """

    required_arguments = 1
    option_spec = {"name": directives.unchanged}

    def run(self):
        where = self.arguments[0]
        try:
            module, name = where.split(":")
            made = getattr(importlib.import_module(module), name)()
            drawn, caption = html(made, name.replace("_", "-")), made.caption
        except (AttributeError, ImportError, TypeError, ValueError) as e:
            logger.warning(
                "arq-picture %r: saw %r, expected `module:name` of what makes a picture without "
                "arguments",
                where,
                e,
                location=self.get_location(),
            )
            return []
        for path in (p for room in ROOMS for p in files_in(PACKAGE / room)):
            self.env.note_dependency(str(path))
        figure, parsed = nodes.figure(), nodes.Element()
        self.state.nested_parse(StringList([caption], where), 0, parsed)
        figure += [nodes.raw("", drawn, format="html"), nodes.caption("", "", *parsed[0].children)]
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


def setup(app) -> dict:
    app.add_directive("arq-picture", Drawing)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
