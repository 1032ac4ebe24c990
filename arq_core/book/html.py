"""The book's HTML from Jinja2 templates (the folder arq_core.book.templates).

There tables get what makes them accessible: captions, heads with scope, regions that the keyboard
scrolls. A template escapes the texts that it is given; HTML that is ready is `Markup`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Row(NamedTuple):
    """A line of a table: its head, its cells and its class. Without cells it heads those below."""

    head: str
    cells: Sequence = ()
    kind: str = ""


def figure(
    template: str,
    caption: str,
    heads: Sequence[str] = (),
    *,
    name: str = "",
    label: str = "",
    kind: str = "",
    filtered: str = "",
    notes: Iterable[str] = (),
    **given,
) -> Markup:
    """A template that extends figure.html.

    `name` is the figure's id, `kind` its class, and `notes` stand below it. With `label`, an id for
    the caption, the table lies in a region that scrolls sideways; with `filtered`, a word for its
    rows, a box filters them (filter.js).
    """
    return Markup(
        ENVIRONMENT.get_template(f"{template}.html").render(
            caption=caption,
            heads=heads,
            name=name,
            label=label,
            kind=kind,
            filtered=filtered,
            notes=notes,
            **given,
        )
    )


def table(caption: str, rows: Iterable[Row], heads: Sequence[str] = (), **about) -> Markup:
    """A table of rows; `about` are arguments of `figure`."""
    return figure("table", caption, heads, rows=rows, **about)


def dash(said: str) -> Markup:
    """A dash for the eye, in words for whoever listens."""
    return Markup(ENVIRONMENT.get_template("parts.html").module.dash(said))
