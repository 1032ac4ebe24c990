"""Drawing for the page on the method: candidates of one state under Eq. 4, 5 and 6.

Each function takes axes and arrays, and computes nothing that a caption would claim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from arq_core.figures.inline import INK

STRIP = 0.5  # height of the bars of the penalty
TICKS = (-1, -0.5, 0, 0.5, 1)  # of the box of actions


def draw_support(
    ax: Axes,
    strip: Axes,
    grid: np.ndarray,
    curve: np.ndarray,
    inside: np.ndarray,
    actions: np.ndarray,
    log_prob: np.ndarray,
    kept: np.ndarray,
    log_epsilon: float,
) -> None:
    """Eq. 4: log-density `curve` [G] over `grid`, candidates [N] on it, and the line; in `strip`
    the penalty, 0 where `inside` [G] and infinite elsewhere.
    """
    floor = min(curve.min(), log_prob.min()) - 0.3
    above = inside & (curve >= log_epsilon)
    ax.fill_between(grid, floor, curve, where=above, color=INK["kept"], alpha=0.2, lw=0)
    ax.plot(grid, curve, color=INK["ink"], lw=1.3)
    ax.axhline(log_epsilon, color=INK["dropped"], lw=1.6)
    middle = grid[~inside][np.abs(grid[~inside]).argmin()]  # between the hills
    more = dict(textcoords="offset points", ha="center", color=INK["dropped"])
    ax.annotate("log ε", (middle, log_epsilon), (0, 4), **more)
    _candidates(ax, actions, log_prob, kept)
    ax.set(ylabel="log β(a | s)", ylim=(floor, None))
    ax.legend(loc="upper left", handletextpad=0.2, borderpad=0)
    edges = np.flatnonzero(np.diff(inside.astype(int))) + 1
    starts, ends = [0, *edges], [*edges, len(grid) - 1]
    for start, end in zip(starts, ends, strict=True):
        free = inside[start]
        low, high = grid[start], grid[end]
        color = INK["kept" if free else "wall"]
        strip.barh(0, high - low, STRIP, low, color=color, alpha=0.35 if free else 1)
        strip.text((low + high) / 2, 0, "0" if free else "∞", ha="center", va="center")
    strip.set(yticks=[0], yticklabels=["p(s, a)"], ylim=(-STRIP / 2, STRIP / 2))
    strip.set(xlabel="action a", xlim=(grid[0], grid[-1]), xticks=TICKS)
    for side in ("left", "bottom"):
        strip.spines[side].set_visible(False)
    strip.tick_params(axis="y", length=0)


def draw_kth(ax: Axes, values: np.ndarray, kept: np.ndarray, k: int, kth: float) -> None:
    """Eq. 5: values [N] as bars from the largest to the smallest, `kth` a line, and the K-th of the
    kept in its colour.
    """
    order = np.argsort(-values, kind="stable")
    rank = np.arange(1, len(values) + 1)
    sorted_kept, place = kept[order], np.flatnonzero(kept[order])[k - 1]
    colors = [INK["kept"] if one else "none" for one in sorted_kept]
    colors[place] = INK["truth"]
    edges = [INK["kept"] if one else INK["dropped"] for one in sorted_kept]
    edges[place] = INK["truth"]
    ax.bar(rank, values[order], 0.72, color=colors, edgecolor=edges, lw=1.1)
    ax.axhline(0, color=INK["soft"], lw=0.8)
    ax.axhline(kth, color=INK["truth"], lw=1.2, ls=(0, (4, 3)))
    ax.annotate(
        f"the K-th kept value, K = {k}",
        (rank[-1] + 0.5, kth),
        (0, 3),
        textcoords="offset points",
        ha="right",
        color=INK["truth"],
    )
    first = np.flatnonzero(~sorted_kept)[0]
    ax.annotate(
        "dropped (outline)",
        (rank[first], values[order][first]),
        (10, -2),
        textcoords="offset points",
        color=INK["dropped"],
    )
    ax.set(xlabel="candidates, from the largest Q to the smallest", ylabel="Q(s′, a′)")
    ax.set(xlim=(0.2, len(values) + 0.8), xticks=[1, *range(5, len(values) + 1, 5)])


def draw_weights(
    axes: Sequence[Axes],
    actions: np.ndarray,
    kept: np.ndarray,
    weights: Sequence[np.ndarray],
    alphas: Sequence[float],
) -> None:
    """Eq. 6: for each alpha a panel, in which the weights [N] stand over their actions; a dropped
    candidate is a cross on the axis.
    """
    for ax, weight, alpha in zip(axes, weights, alphas, strict=True):
        ax.vlines(actions[kept], 0, weight[kept], color=INK["kept"], lw=2)
        ax.plot(actions[kept], weight[kept], "o", color=INK["kept"], ms=3)
        ax.plot(
            actions[~kept],
            np.zeros((~kept).sum()),
            "x",
            color=INK["dropped"],
            ms=5,
            clip_on=False,
            zorder=3,
        )
        ax.set_title(f"α = {alpha:g}")
        ax.set_ylim(0, 1.15 * weight.max())
        ax.set_yticks([0, float(f"{weight.max():.1g}")])
    axes[-1].set(xlabel="action a", xlim=(TICKS[0], TICKS[-1]), xticks=TICKS)
    axes[len(axes) // 2].set_ylabel("π(a | s)")


def _candidates(ax: Axes, x: np.ndarray, y: np.ndarray, kept: np.ndarray) -> None:
    ax.plot(x[kept], y[kept], "o", color=INK["kept"], ms=4, label="kept")
    ax.plot(x[~kept], y[~kept], "x", color=INK["dropped"], ms=5, mew=1.5, label="dropped")
