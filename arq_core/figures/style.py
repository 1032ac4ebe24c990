"""One look for every figure: vector graphics, colours that the colour-blind can tell apart.

Text can be read at column width.
"""

from __future__ import annotations

import matplotlib
import seaborn

from arq_core.config.labels import LABELS

# Okabe and Ito's colours without yellow (too light for lines), by what they stand for in every
# figure of the book.
COLORS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "pink": "#CC79A7",
    "amber": "#E69F00",
    "sky": "#56B4E9",
    "black": "#222222",
    "grey": "#767676",
}
METHOD_COLORS = {method: COLORS[label.color] for method, label in LABELS.items() if label.color}
MAP = "viridis"  # ordered quantities; perceptually uniform
WIDTH = (
    6.8  # inches, the width of the book's text column: 10 pt in a figure is about 10 pt on the page
)


def use() -> None:
    """Set the style for all figures that follow; in a notebook, figures become svg.

    Figures are drawn on white; for a dark page arq_core/book/themes.py gives them other inks.
    """
    seaborn.set_theme(context="notebook", style="whitegrid", palette=list(COLORS.values()))
    matplotlib.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.6),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "image.cmap": MAP,
            "svg.hashsalt": "arq",  # the same figure gives the same file
        }
    )
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})
