"""A figure in a Markdown page: made while the pages are built, from what the package computes.

A notebook shows a widget or a drawing by running a cell. A page that has no cells names what makes
one.
"""

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
ROOMS = ("algorithm", "experiments", "figures", "widgets")  # what a figure is made of


class Figure(SphinxDirective):
    """{arq-widget} or {arq-picture}, and `module:name`: what this name makes, called without
    arguments. The words in the directive, or else what it says of itself, are its caption, and give
    it a number.

    Option: name, by which it is cited.
    """

    required_arguments = 1
    has_content = True
    option_spec = {"name": directives.unchanged_required}
    what = ""

    @staticmethod
    def shown(made, name: str) -> tuple[str, str]:
        """(its HTML, its own caption in Markdown or ""); AttributeError, TypeError or ValueError
        where it is none.
        """
        raise NotImplementedError

    def run(self):
        where = self.arguments[0]
        try:
            module, name = where.split(":")
            there = importlib.import_module(module)
            drawn, caption = self.shown(getattr(there, name)(), name)
        except (AttributeError, ImportError, TypeError, ValueError) as e:
            logger.warning(
                "%s %r: saw %r, expected `module:name` of what makes a %s without arguments",
                self.name,
                where,
                e,
                self.what,
                location=self.get_location(),
            )
            return []
        for path in (there.__file__, *(p for room in ROOMS for p in files_in(PACKAGE / room))):
            self.env.note_dependency(str(path))
        raw = nodes.raw("", drawn, format="html")
        words = self.content or StringList([caption] if caption else [], where)
        if not words:
            return [raw]
        parsed = nodes.Element()
        self.state.nested_parse(words, self.content_offset, parsed)
        figure = nodes.figure("", raw, nodes.caption("", "", *parsed[0].children))
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


class Widget(Figure):
    """{arq-widget} arq_core.experiments.diffusion:diffusion: a widget with its script, its data
    and its sentence.
    """

    what = "widget"

    @staticmethod
    def shown(made, name: str) -> tuple[str, str]:
        if made.problem:
            raise ValueError(made.problem)
        return made.to_html(), ""


class Picture(Figure):
    """{arq-picture} arq_core.experiments.method_pictures:eq_4: a `figures.inline.Picture`, in the
    colours of the page.
    """

    what = "picture"

    @staticmethod
    def shown(made, name: str) -> tuple[str, str]:
        return html(made, name.replace("_", "-")), made.caption


def setup(app) -> dict:
    app.add_directive("arq-widget", Widget)
    app.add_directive("arq-picture", Picture)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
