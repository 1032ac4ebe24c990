"""Figures of what many runs say together: intervals by method and performance profiles, a panel for
each group of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from arq_core.config.labels import METHOD_LABELS, in_words
from arq_core.figures.style import COLORS, METHOD_COLORS, WIDTH
from arq_core.results.aggregates import LABELS, OVERALL

# ink and gap, in turn
PATTERNS = [
    (1, 1.5),
    (3, 1.5),
    (6, 2),
    (10, 3),
    (3, 1.5, 1, 1.5),
    (6, 2, 1, 2),
    (10, 2, 1, 2),
    (3, 1.5, 1, 1.5, 1, 1.5),
]


def label(method: str) -> str:
    """A method's name in figures."""
    return METHOD_LABELS.get(method, method)


def color(method: str) -> str:
    """A method's colour in figures; grey where it has none of its own."""
    return METHOD_COLORS.get(method, COLORS["grey"])


def dashes(methods: Iterable[str]) -> dict[str, str | tuple]:
    """A line style for each method: solid with a colour of its own, else one of eight patterns by
    which grey lines can be told apart.
    """
    grey = [m for m in methods if m not in METHOD_COLORS]
    return {m: (0, PATTERNS[grey.index(m) % len(PATTERNS)]) if m in grey else "-" for m in methods}


def group_panels(
    groups: Sequence[str], height: float, more: float, **options
) -> tuple[Figure, list[Axes]]:
    """A panel `height` inches high for each group, one below the other, and `more` inches for what
    stands around them.

    Narrower than other figures of the book, so that words stay legible on a phone.
    """
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(0.7 * WIDTH, height * len(groups) + more), squeeze=False, **options
    )
    for ax, group in zip(axes[:, 0], groups, strict=True):
        ax.set_title(LABELS[group])
    return figure, list(axes[:, 0])


def draw_intervals(ax: Axes, lines: pd.DataFrame) -> None:
    """One line a method: a dot at `value`, a bar from `low` to `high`.

    Words stand in the place of no value.
    """
    ax.set_yticks(range(len(lines)), [label(m) for m in lines["method"]])
    ax.grid(axis="y", visible=False)
    for y, line in enumerate(lines.itertuples()):
        if np.isnan(line.value):
            _say(ax, 0.03, y, f"not run on {line.missing} of {line.tasks + line.missing}")
            continue
        ax.plot(
            [line.low, line.high],
            [y, y],
            color=color(line.method),
            lw=5,
            alpha=0.4,
            solid_capstyle="butt",
        )
        ax.plot(line.value, y, "o", color=color(line.method), ms=6)


def _say(ax: Axes, x: float, y: float, words: str) -> None:
    ax.text(
        x,
        y,
        words,
        transform=ax.get_yaxis_transform(),
        va="center",
        fontsize=8,
        style="italic",
        color=COLORS["grey"],
    )


def glance_figure(means: pd.DataFrame, wins: pd.DataFrame, over: str) -> Figure:
    """One setting of each group, a panel each: the lines of `means`, and in words beside them how
    often a run of the method beats one of `over` (`wins`, which may lack lines).
    """
    groups = list(means["group"].unique())
    most = means.groupby("group").size().max()
    figure, axes = group_panels(groups, 0.6 + 0.24 * most, 0.3)
    won = {(w.group, w.method): w for w in wins.itertuples()}
    for ax, group in zip(axes, groups, strict=True):
        lines = means[means["group"] == group]
        draw_intervals(ax, lines)
        of = lines.iloc[0]
        kind = "" if of.fidelity == "recollected" else f", {of.fidelity} data"
        ax.set_title(f"{LABELS[group]} (profile {of.profile}{kind})")
        ax.set_ylim(len(lines) - 0.5, -0.5)
        for y, method in enumerate(lines["method"]):
            win = won.get((group, method))
            if win is not None and win.profile == of.profile and win.tasks:
                _say(ax, 1.02, y, f"{win.value:.0%}")
    axes[0].text(1.02, 1.03, f"beats {label(over)}", transform=axes[0].transAxes, fontsize=8)
    figure.supxlabel("interquartile mean of the score, and its 95% interval", fontsize=9)
    return figure


def numbers(lines: pd.DataFrame, digits: int) -> pd.DataFrame:
    """The lines of a figure as a table to print, in few columns."""
    # + 0.0: never minus zero
    show = lambda x: f"{round(x, digits) + 0.0:.{digits}f}".replace("-", "−")
    cells = []
    for line in lines.itertuples():
        interval = "" if np.isnan(line.low) else f" ({show(line.low)} to {show(line.high)})"
        total = line.tasks + line.missing
        cells.append(
            {
                "group": LABELS[line.group],
                "method": in_words(line.method),
                "value": "–" if np.isnan(line.value) else show(line.value) + interval,
                "datasets": f"{line.tasks} of {total}" if line.missing else f"{total}",
            }
        )
    return pd.DataFrame(cells, columns=["group", "method", "value", "datasets"])


def remarks(lines: pd.DataFrame) -> str:
    """What a figure leaves out, as a list in Markdown; totals repeat what their groups say, so they
    are not in it.
    """
    said = [
        f"- {LABELS[line.group]}, {in_words(line.method)}: {line.note}."
        for line in lines.itertuples()
        if line.note and line.group != OVERALL
    ]
    return "\n".join(said)


def profile_figure(lines: pd.DataFrame) -> Figure:
    """Performance profiles of one setting, a panel for each group: steps, since a share of few runs
    has few values, with bands.
    """
    groups = list(lines["group"].unique())
    methods = list(lines["method"].unique())
    figure, axes = group_panels(groups, 1.8, 0.5 + 0.2 * -(-len(methods) // 3), sharey=True)
    styles = dashes(methods)
    for ax, group in zip(axes, groups, strict=True):
        for method, curve in lines[lines["group"] == group].groupby("method", sort=False):
            ax.plot(
                curve["tau"],
                curve["value"],
                drawstyle="steps-pre",
                ls=styles[method],
                color=color(method),
                label=label(method),
            )
            ax.fill_between(
                curve["tau"],
                curve["low"],
                curve["high"],
                step="pre",
                color=color(method),
                alpha=0.15,
                lw=0,
            )
        ax.set_ylim(-0.03, 1.03)
    drawn = {
        name: line
        for ax in axes
        for line, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=3)
    figure.supxlabel("score $\\tau$", fontsize=9)
    figure.supylabel("share of runs above $\\tau$", fontsize=9)
    return figure


def draw_coverage(ax: Axes, shares: pd.DataFrame, confidence: float) -> None:
    """How often an interval holds the truth (columns: numbers of tasks) by the number of seeds
    (index), beside what it says of itself.
    """
    for tasks, style in zip(shares.columns, ("-", "--", ":"), strict=False):
        ax.plot(
            shares.index,
            shares[tasks],
            style,
            marker="o",
            color=COLORS["blue"],
            label=f"{tasks} dataset{'s' if tasks > 1 else ''}",
        )
    ax.axhline(confidence, color=COLORS["black"], lw=0.8, label=f"{confidence:.0%}, as it says")
    ax.set(
        xlabel="seeds on each dataset",
        ylabel="intervals with the truth inside",
        xticks=list(shares.index),
        ylim=(0.4, 1.0),
    )
    ax.legend(loc="lower right")
