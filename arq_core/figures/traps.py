"""Pictures of the corridor of `datasets.traps`: values by cell, and where a mistake turns the best
step round.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from arq_core.datasets.traps import Values
from arq_core.figures.style import COLORS, WIDTH


def recipes(right: Mapping[str, Values], wrong: Mapping[str, Values]) -> Figure:
    """A reward recipe a column: values by cell with ends as recorded (top) and with cuts taken for
    ends (bottom). Marks: the best step.
    """
    figure, axes = plt.subplots(2, len(right), figsize=(WIDTH, 4.0), sharex=True)
    for row, (found, label) in zip(
        axes, ((right, "ends as they are"), (wrong, "cuts taken for ends")), strict=True
    ):
        for ax, values in zip(row, found.values(), strict=True):
            _walk(ax, values)
        row[0].set_ylabel(f"{label}\nvalue")
    for ax, name in zip(axes[0], right, strict=True):
        ax.set_title(name.replace("-", "−"), fontsize=9)
    axes[1, 1].legend(fontsize=7, loc="upper left", handletextpad=0.1)
    figure.supxlabel("cell; the goal is to the right", fontsize=9)
    return figure


def _walk(ax, values: Values) -> None:
    for goes, marker, color, label in (
        (values.goes_right, ">", "blue", "best: right"),
        (~values.goes_right, "<", "orange", "best: left"),
    ):
        ax.plot(
            values.cells[goes],
            values.v[goes],
            ls="",
            marker=marker,
            color=COLORS[color],
            ms=4,
            label=label,
        )
    ax.tick_params(labelsize=7)


def teleports(found: Values, truth: np.ndarray) -> Figure:
    """Values by cell from data whose cuts were ignored, beside the true ones."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.8))
    ax.plot(found.cells, truth, color=COLORS["grey"], lw=3, alpha=0.5, label="true value")
    _walk(ax, found)
    ax.set(xlabel="cell; the goal is to the right", ylabel="value")
    ax.legend(loc="upper left")
    return figure
