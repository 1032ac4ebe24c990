"""Drawing shared by notebooks.

Each function takes axes and arrays, and computes nothing that a caption would claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from arq_core.config.labels import METHOD_LABELS
from arq_core.figures.style import COLORS, METHOD_COLORS
from arq_core.results.rows import summary

PLACES = {
    "lure": (COLORS["amber"], "lure 0.3"),
    "goal": (COLORS["green"], "goal 1"),
    "doors": (COLORS["grey"], "door 0"),
}


def draw_maze(ax: Axes, layout: Mapping[str, np.ndarray]) -> None:
    """Floors on lava, with the squares that end an episode."""
    x0, y0, x1, y1 = layout["bounds"]
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, color="#f3d9cc", zorder=0))
    for a, b, c, d in layout["floor"]:
        ax.add_patch(Rectangle((a, b), c - a, d - b, color="white", zorder=1))
    for name, (color, label) in PLACES.items():
        for i, (a, b, c, d) in enumerate(layout[name]):
            ax.add_patch(
                Rectangle(
                    (a, b),
                    c - a,
                    d - b,
                    facecolor=color,
                    alpha=0.55,
                    zorder=2,
                    label=label if i == 0 else None,
                )
            )
    ax.plot(
        *layout["start"], marker="o", color=COLORS["black"], ms=6, zorder=4, ls="", label="start"
    )
    ax.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal", xticks=[], yticks=[])
    ax.grid(False)


def draw_steps(
    ax: Axes, start: np.ndarray, end: np.ndarray, color: str = COLORS["blue"], alpha: float = 0.25
) -> None:
    """Steps as line segments from `start` to `end`, both [n, 2]."""
    ax.plot(
        np.stack([start[:, 0], end[:, 0]]),
        np.stack([start[:, 1], end[:, 1]]),
        color=color,
        alpha=alpha,
        lw=0.8,
        zorder=3,
    )


def draw_losses(ax: Axes, curves: Mapping[str, np.ndarray], every: int) -> None:
    """Loss curves [E, points] by name: the mean over members and their range."""
    for (name, curve), color in zip(curves.items(), COLORS.values(), strict=False):
        steps = every * np.arange(1, curve.shape[1] + 1)
        ax.plot(steps, curve.mean(0), label=name, color=color)
        ax.fill_between(steps, curve.min(0), curve.max(0), color=color, alpha=0.2, lw=0)
    ax.set(xlabel="optimiser steps", ylabel="loss")
    ax.legend()


def draw_seed_scores(
    ax: Axes, rows: Sequence[dict], methods: Sequence[str], field: str = "score"
) -> None:
    """One dot a seed (its mean over episodes) and a bar for the mean over seeds, a method a
    line.
    """
    seeds = pd.DataFrame(rows).groupby(["method", "seed"])[field].mean()
    for y, method in enumerate(methods):
        values, color = seeds[method], METHOD_COLORS.get(method, COLORS["grey"])
        ax.barh(y, values.mean(), color=color, alpha=0.35, height=0.6)
        ax.plot(values, np.full(len(values), y), "o", color=color, ms=5, alpha=0.9)
    ax.set_yticks(range(len(methods)), [METHOD_LABELS.get(m, m) for m in methods])
    ax.invert_yaxis()
    ax.axvline(0, color=COLORS["black"], lw=0.8)


def comparison(rows: Sequence[dict], methods: Sequence[str]) -> pd.DataFrame:
    """Our summary as a table to print: mean and std over seeds, success, length, in-support
    share.
    """
    frame = summary(rows).set_index("method").loc[list(methods)]
    out = pd.DataFrame(
        {
            "score": [
                f"{m:.2f} ± {s:.2f}"
                for m, s in zip(frame["score"], frame["score_std"], strict=True)
            ],
            "success": [f"{x:.0%}" for x in frame["success"]],
            "steps": [f"{x:.0f}" for x in frame["length"]],
            "in support": ["" if np.isnan(x) else f"{x:.1%}" for x in frame["in_support"]],
            "seeds × episodes": [
                f"{s} × {e}" for s, e in zip(frame["seeds"], frame["episodes"], strict=True)
            ],
        },
        index=frame.index,
    )
    return out.rename_axis("policy")


def panels(n: int, width: float, height: float, **options):
    """n axes side by side."""
    figure, axes = plt.subplots(1, n, figsize=(width, height), **options)
    return figure, np.atleast_1d(axes)
