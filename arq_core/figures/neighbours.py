"""What the neighbours do, side by side: their actions on a problem of two modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from arq_core.config.labels import METHOD_LABELS
from arq_core.figures.style import COLORS, METHOD_COLORS


def draw_acts(
    ax: Axes,
    recorded: np.ndarray,
    acts: Mapping[str, np.ndarray],
    modes: Sequence[tuple[float, float]],
) -> None:
    """A line of marks for each method's actions, [n] each, below those that were recorded; where
    actions were recorded is shaded."""
    rows = {"recorded": recorded} | dict(acts)
    for low, high in modes:
        ax.axvspan(low, high, color=COLORS["green"], alpha=0.15, lw=0)
    for y, (name, actions) in enumerate(rows.items()):
        color = COLORS["black"] if y == 0 else METHOD_COLORS.get(name, COLORS["grey"])
        ax.plot(actions, np.full(len(actions), y), "|", color=color, ms=9, alpha=0.35)
    ax.set_yticks(range(len(rows)), [METHOD_LABELS.get(name, name) for name in rows])
    ax.set(xlim=(-1, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="action")
    ax.grid(axis="y", visible=False)
