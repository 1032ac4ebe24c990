"""Figures of notebooks in the page's theme, from one file each.

A figure is drawn on white. Its file also holds what is other in the dark theme: rules of style that
act where it is shown under the address `figure.svg#dark`. A page shows each figure under both
addresses, and book.css leaves out the one of the other theme.
"""

from __future__ import annotations

import re
from pathlib import Path

DARK = "dark"  # the fragment, and the id of the drawing's root
PAPER = "#121212"  # the theme's background
# A neutral or pale ink of figures/style.py and figures/common.py, and what it is on the dark page.
# Colours that mean something keep their hue.
INKS = {
    "#000000": "#e4e8ec",
    "#222222": "#e4e8ec",
    "#262626": "#e4e8ec",
    "#cccccc": "#414b59",
    "#767676": "#a3abb5",
    "#0072b2": "#2f86d0",
    "#56b4e9": "#9ad7f8",
    "#f3d9cc": "#573a2b",
    "#dcebf5": "#1f3950",
}
IMAGE = re.compile(r'<img\b[^>]*\bsrc="[^"#]*_images/[^"#]+\.svg"[^>]*>')


def rules() -> str:
    """Of a figure that is shown as `#dark`: its ground is the page's, its inks are light.

    White areas become the page's ground, and so do white rims of marks; white letters, marks and
    lines lie on coloured ground and stay, and so does a plate behind letters.
    """
    root, plate = f"#{DARK}:target", '[id^="text_"] > [id^="patch_"] > path'
    inks = [
        f'{root} [style*="{kind}: {ink}"]:not({plate}) {{{kind}: {dark} !important}}'
        for ink, dark in INKS.items()
        for kind in ("fill", "stroke")
    ]
    # a mark's outline is drawn once and shown by `use`, where no rule sees the root: it inherits
    given = "; ".join(f"--ink-{ink[1:]}: {dark}" for ink, dark in INKS.items())
    marks = [
        f'[id^="m"][style*="stroke: {ink}"] {{stroke: var(--ink-{ink[1:]}, {ink}) !important}}'
        for ink in INKS
    ]
    return "\n".join(
        [
            f"{root} {{fill: {INKS['#000000']}; {given}}}",
            f'{root} path[style*="fill: #ffffff"] {{fill: {PAPER} !important}}',
            f'{root} [style*="stroke: #ffffff"]:not([style*="fill: none"])'
            f" {{stroke: {PAPER} !important}}",
            f"{root} #figure_1 > #patch_1 > path {{fill: none !important}}",
            *inks,
            *marks,
        ]
    )


def for_both(drawing: str) -> str:
    """The text of an SVG file with the rules of the dark theme; one that has them is as it was."""
    if f'<svg id="{DARK}"' in drawing:
        return drawing
    whole = re.sub(r"<svg\b", f'<svg id="{DARK}"', drawing, count=1)
    return re.sub(r"(<svg\b[^>]*>)", rf"\g<1>\n<style>\n{rules()}\n</style>", whole, count=1)


def twice(body: str) -> str:
    """A page's HTML with each figure once for each theme, in a box that scrolls on a phone."""

    def pair(found: re.Match) -> str:
        both = found[0] + found[0].replace('.svg"', f'.svg#{DARK}"')
        return f'<span class="arq-wide">{both}</span>'

    return IMAGE.sub(pair, body)


def _show(app, pagename, templatename, context, doctree) -> None:
    if "body" in context:
        context["body"] = twice(context["body"])


def _write(app, exception) -> None:
    if exception is None:
        for path in sorted((Path(app.outdir) / "_images").glob("*.svg")):
            path.write_text(for_both(path.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app) -> dict:
    app.connect("html-page-context", _show)
    app.connect("build-finished", _write, priority=400)  # before the pages are checked
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
