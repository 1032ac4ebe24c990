"""Pictures that are part of a page, and not files beside it: their colours are those of the page,
light or dark, and their letters are the page's.

They are drawn with matplotlib in the colours of `INK`, each of which stands for a variable of
picture.css.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

# name of a variable of picture.css -> its colour in the light theme, by which it is drawn
INK = {
    "ink": "#222222",
    "soft": "#5c5c5c",
    "grid": "#d9d9d9",
    "paper": "#ffffff",
    "kept": "#0063a0",
    "dropped": "#b84a00",
    "truth": "#00795a",
    "extra": "#8c4a78",
    "wall": "#f3d9cc",
}
WIDTH = 4.6  # inches: what a telephone shows without making letters smaller
LOOK = {
    "axes.edgecolor": INK["soft"],
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.labelcolor": INK["ink"],
    "axes.labelsize": 10.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK["ink"],
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "font.size": 10.5,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK["ink"],
    "xtick.color": INK["soft"],
    "xtick.labelcolor": INK["ink"],
    "xtick.labelsize": 9.5,
    "ytick.color": INK["soft"],
    "ytick.labelcolor": INK["ink"],
    "ytick.labelsize": 9.5,
}


@dataclass(frozen=True)
class Picture:
    """A figure of a Markdown page: its drawing, what it shows in words, and its caption (Markdown)
    that says what is to be seen in it.
    """

    figure: Figure
    alt: str
    caption: str


def html(picture: Picture, name: str) -> str:
    """The drawing as HTML that needs nothing else; `name` keeps its ids apart from others'."""
    buffer = io.StringIO()
    with matplotlib.rc_context(LOOK | {"svg.hashsalt": name}):
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.S)
    drawn = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", drawn)
    drawn = drawn.replace(">*{stroke", ">.arq-picture *{stroke")  # and no other drawing's strokes
    for variable, colour in INK.items():
        drawn = re.sub(rf"{colour}\b", f"var(--arq-{variable})", drawn)
    drawn = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 system-ui, sans-serif", drawn)
    told = f'role="img" aria-label="{escape(picture.alt)}"'
    drawn = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"<svg \1 {told}>", drawn, count=1)
    style = Path(__file__).with_name("picture.css").read_text(encoding="utf-8")
    return f'<div class="arq-picture"><style>{style}</style>{drawn}</div>'
