"""Drawing of conditional densities beta(a|s) over the plane of a scalar state and a scalar action,
in the manner of Figure A.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from arq_core.figures.style import COLORS, MAP, WIDTH

# the samples' red of Figure A.1; on the map's violet and yellow it is told apart by its shape
CROSS = "#E8000B"
PANEL = 1.65  # inches, the height of a panel
# nats, what a panel of log-densities shows; below is all the same to epsilon
LOG_RANGE = (-15.0, 3.0)


def draw_field(ax: Axes, values: np.ndarray, reach: float, low: float, high: float) -> AxesImage:
    """Values [U, N] over s in [-1, 1] (across) and a in [-reach, reach] (up)."""
    image = ax.imshow(
        values.T,
        origin="lower",
        extent=(-1, 1, -reach, reach),
        aspect="auto",
        vmin=low,
        vmax=high,
        cmap=MAP,
        interpolation="nearest",
    )
    ax.set(xlim=(-1, 1), ylim=(-1.1, 1.1), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    ax.grid(False)
    return image


def draw_samples(ax: Axes, states: np.ndarray, actions: np.ndarray) -> None:
    """Training samples as red crosses; pass a handful."""
    ax.plot(states, actions, "x", color=CROSS, ms=3, mew=0.6, alpha=0.8)


def draw_epsilon(ax: Axes, log_prob: np.ndarray, reach: float, log_epsilon: float) -> None:
    """The line where log beta is log epsilon: inside of it an action is kept."""
    states, actions = (
        (np.arange(n) + 0.5) * 2 * r / n - r
        for n, r in zip(log_prob.shape, (1, reach), strict=True)
    )
    ax.contour(
        states,
        actions,
        log_prob.T,
        levels=[log_epsilon],
        colors="white",
        linewidths=0.9,
        linestyles="solid",
    )


def figure_a1(
    titles: Sequence[str],
    truth: np.ndarray,
    log_prob: np.ndarray,
    kept_log_prob: np.ndarray,
    samples: Sequence[tuple[np.ndarray, np.ndarray]],
    reach: float,
    log_epsilon: float,
) -> Figure:
    """A density a column. Rows: the true density with samples, the model's density, its log-density
    with the line of epsilon.

    truth, log_prob [D, U, N] are of the raw action, kept_log_prob of the standardised one, to which
    epsilon applies.
    """
    rows = ("truth", "model", r"$\log$ model")
    figure, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(WIDTH, len(rows) * PANEL),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for column, title in enumerate(titles):
        top = truth[column].max()
        draw_field(axes[0, column], truth[column], reach, 0, top)
        draw_samples(axes[0, column], *samples[column])
        draw_field(axes[1, column], np.exp(log_prob[column]), reach, 0, top)
        image = draw_field(axes[2, column], log_prob[column], reach, *LOG_RANGE)
        draw_epsilon(axes[2, column], kept_log_prob[column], reach, log_epsilon)
        axes[0, column].set_title(_in_two_lines(title), fontsize=9)
        axes[-1, column].set_xlabel("state $s$")
    for row, name in enumerate(rows):
        axes[row, 0].set_ylabel(f"{name}\naction $a$")
    figure.colorbar(image, ax=axes[2], label="nats", shrink=0.9)
    return figure


def sharpening(
    titles: Sequence[str],
    truth: np.ndarray,
    log_prob: Mapping[str, np.ndarray],
    marks: Mapping[str, Sequence[str]],
    reach: float,
) -> Figure:
    """A density a row; a training length a column (its label -> log-densities [D, U, N], and a mark
    in words for each row), the truth last.
    """
    columns = {**{label: np.exp(values) for label, values in log_prob.items()}, "truth": truth}
    figure, axes = plt.subplots(
        len(titles),
        len(columns),
        figsize=(WIDTH, len(titles) * PANEL * 0.8),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for column, (label, values) in enumerate(columns.items()):
        for row in range(len(titles)):
            ax = axes[row, column]
            draw_field(ax, values[row], reach, 0, truth[row].max())
            if label in marks:
                ax.text(
                    0.03,
                    0.96,
                    marks[label][row],
                    transform=ax.transAxes,
                    color="white",
                    fontsize=8,
                    va="top",
                    bbox=dict(facecolor=COLORS["black"], alpha=0.75, edgecolor="none", pad=1.5),
                )
        axes[0, column].set_title(label, fontsize=9)
        axes[-1, column].set_xlabel("state $s$")
    for row, title in enumerate(titles):
        axes[row, 0].set_ylabel(_in_two_lines(title), fontsize=8)
    return figure


def _in_two_lines(title: str) -> str:
    """Broken at the space nearest to its middle: a panel is narrow."""
    spaces = [i for i, c in enumerate(title) if c == " "]
    at = min(spaces, key=lambda i: abs(i - len(title) / 2), default=None)
    return title if at is None else f"{title[:at]}\n{title[at + 1 :]}"


def draw_learning(ax: Axes, steps: Sequence[int], values: Mapping[str, np.ndarray]) -> None:
    """A figure of merit [points, seeds] against training steps, by density: the mean over seeds,
    and each seed.
    """
    for (name, y), color in zip(values.items(), COLORS.values(), strict=False):
        ax.plot(steps, y.mean(1), "-", color=color, label=name)
        ax.plot(np.repeat(steps, y.shape[1]), y.flatten(), "o", color=color, ms=3, alpha=0.7)
    ax.set(xscale="log", xlabel="optimiser steps")
    ax.legend()
