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

from arq_core.config.labels import METHOD_LABELS, in_words
from arq_core.figures.style import COLORS, METHOD_COLORS
from arq_core.results.rows import one_setting, summary

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
    """One dot a seed (its mean over episodes) and a bar for the mean over seeds, a method a line.

    Of several settings one is shown (rows.one_setting). A method without rows has a line that says
    so.
    """
    frame = pd.DataFrame(one_setting(rows), columns=["method", "seed", field]).astype(
        {field: float}
    )
    seeds = frame.groupby(["method", "seed"])[field].mean().dropna()
    measured = set(seeds.index.get_level_values("method"))
    for y, method in enumerate(methods):
        if method not in measured:
            words = "no score" if method in set(frame["method"]) else "not run"
            ax.text(0.02, y, words, va="center", style="italic", transform=ax.get_yaxis_transform())
            continue
        values, color = seeds[method], METHOD_COLORS.get(method, COLORS["grey"])
        ax.barh(y, values.mean(), color=color, alpha=0.35, height=0.6)
        ax.plot(values, np.full(len(values), y), "o", color=color, ms=5, alpha=0.9)
    ax.set_yticks(range(len(methods)), [METHOD_LABELS.get(m, m) for m in methods])
    ax.set_ylim(-0.5, len(methods) - 0.5)
    ax.invert_yaxis()
    ax.axvline(0, color=COLORS["black"], lw=0.8)


def mean_and_std(mean: float, std: float, form: str = ".2f", std_form: str = "") -> str:
    """A mean and its spread over seeds as text: the first alone where there is one seed, – where
    there is no number.
    """
    if np.isnan(mean):
        return "–"
    return f"{mean:{form}}" + ("" if np.isnan(std) else f" ± {std:{std_form or form}}")


def seeds_said(seeds: Sequence[int]) -> str:
    """In words: `seed 10`, or `seeds 10, 11`."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def comparison(rows: Sequence[dict], methods: Sequence[str]) -> pd.DataFrame:
    """Our summary as a table to print: mean and std over seeds, success, length, in-support
    share.

    Of several settings one is shown (rows.one_setting). A method without rows is not run.
    """
    frame = summary(one_setting(rows)).set_index("method").reindex(list(methods))
    lines = []
    for job in frame.itertuples():
        run = not np.isnan(job.seeds)
        lines.append(
            {
                "score": mean_and_std(job.score, job.score_std) if run else "not run",
                "success": f"{job.success:.0%}" if run else "",
                "steps": f"{job.length:.0f}" if run else "",
                "in support": "" if np.isnan(job.in_support) else f"{job.in_support:.1%}",
                "seeds × episodes": f"{job.seeds:.0f} × {job.episodes:.0f}" if run else "",
            }
        )
    names = pd.Index([in_words(method) for method in frame.index], name="policy")
    return pd.DataFrame(lines, index=names)


def panels(n: int, width: float, height: float, **options):
    """n axes side by side."""
    figure, axes = plt.subplots(1, n, figsize=(width, height), **options)
    return figure, np.atleast_1d(axes)
