"""Drawing for the pages on policy iteration and Theorem 1.

Each function takes axes and arrays, and computes nothing that a caption would claim.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from arq_core.figures.style import COLORS, MAP

# the maximum's range -> its colour
WAYS = {"unconstrained": COLORS["amber"], "inside the support": COLORS["blue"]}


def draw_convergence(
    ax: Axes, errors: Mapping[str, np.ndarray], gamma: float, exact: float = 1e-10
) -> None:
    """Largest |Q_k - Q*| at iterations 1 .. n by name, on logarithmic axes, with gamma^k; a line
    ends where it falls to `exact`, at the lower edge.
    """
    for (name, error), color in zip(
        errors.items(), (COLORS["blue"], COLORS["orange"]), strict=False
    ):
        end = int((error <= exact).argmax()) + 1 if (error <= exact).any() else len(error)
        ax.plot(
            np.arange(1, end + 1),
            np.maximum(error[:end], exact),
            color=color,
            marker="o" if end < 30 else None,
            ms=4,
            label=name,
        )
    longest = max(errors.values(), key=len)
    k = np.arange(1, len(longest) + 1)
    ax.plot(
        k,
        longest[0] * gamma ** (k - 1),
        color=COLORS["black"],
        ls=":",
        lw=1.2,
        label=rf"falling as {gamma:g}$^k$",
    )
    ax.set(xscale="log", yscale="log", xlabel="iteration $k$", ylabel="largest $|Q_k - Q^*|$")
    ax.legend(loc="lower left")


def draw_cycle(
    ax: Axes, estimated: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray], best: float
) -> None:
    """Value of the policy's own actions, estimated (lines) and true (dashes), [n, E] by the
    maximum's range: medians and the middle half of E.
    """
    for name, color in WAYS.items():
        k = np.arange(1, len(estimated[name]) + 1)
        for values, style, said in ((estimated[name], "-", "estimate"), (true[name], ":", "truth")):
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=1)
            ax.plot(k, middle, style, color=color, label=f"{name}, {said}")
            ax.fill_between(k, low, high, color=color, alpha=0.15, lw=0)
    ax.axhline(best, color=COLORS["black"], lw=0.9, ls="--", label="no policy is worth more")
    ax.set(xlabel="iteration $k$")
    ax.set_yscale("symlog", linthresh=20)


def draw_plane(
    ax: Axes, values: np.ndarray, low: float, high: float, data_reach: float, chosen: np.ndarray
) -> AxesImage:
    """Values [S, A] over position in [0, 1] (across) and action in [-1, 1] (up), the band of the
    data between lines, the chosen action as dots.
    """
    image = ax.imshow(
        values.T,
        origin="lower",
        extent=(0, 1, -1, 1),
        aspect="auto",
        vmin=low,
        vmax=high,
        cmap=MAP,
        interpolation="nearest",
    )
    for edge in (-data_reach, data_reach):
        ax.axhline(edge, color="white", lw=1, ls="--")
    ax.plot(
        np.linspace(0, 1, len(chosen)),
        chosen,
        "o",
        ms=3,
        color=COLORS["orange"],
        mec="white",
        mew=0.4,
        clip_on=False,
        zorder=5,
    )
    ax.set(xlabel="position $s$", yticks=[-1, 0, 1])
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    first, *_, last = ax.get_xticklabels()
    first.set_horizontalalignment("left")  # the last of one panel and the first of the next: apart
    last.set_horizontalalignment("right")
    ax.grid(False)
    return image


def draw_z_error(
    ax: Axes, spread: np.ndarray, error: np.ndarray, factor: float, worst: np.ndarray
) -> None:
    """Spread of Z across states against the spread of the error of Q, a dot a process; the line is
    the bound, crosses the two-branch problem [n, 2].
    """
    ax.plot(
        spread, error, "o", ms=4, alpha=0.3, color=COLORS["blue"], mew=0, label="random processes"
    )
    top = max(spread.max(), worst[:, 0].max())
    ax.plot(
        [0, top],
        [0, factor * top],
        color=COLORS["black"],
        lw=1.2,
        label=rf"bound $\gamma/(1-\gamma)$ = {factor:g} times the spread",
    )
    ax.plot(*worst.T, "x", color=COLORS["orange"], ms=6, mew=1.8, label="two absorbing branches")
    ax.set(xlabel="spread of $Z$ over states (nats)", ylabel="spread of the error of $Q$ (nats)")
    ax.legend()


def draw_by_temperature(
    ax: Axes, temperatures: np.ndarray, shares: Mapping[str, np.ndarray]
) -> None:
    """Shares of states by temperature, a line a comparison."""
    for (name, share), color, marker in zip(
        shares.items(), (COLORS["orange"], COLORS["blue"], COLORS["green"]), "os^", strict=False
    ):
        ax.plot(temperatures, share, marker + "-", ms=4, color=color, label=name)
    ax.set(xscale="log", xlabel="temperature", ylabel="share of states", ylim=(-0.02, None))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend()


def draw_bound(ax: Axes, bound: np.ndarray, loss: np.ndarray) -> None:
    """What the support costs against its bound, a dot a process, logarithmic axes; a loss of zero
    is drawn at the lower edge.
    """
    floor = loss[loss > 1e-9].min() / 2
    ax.plot(bound, np.maximum(loss, floor), ".", ms=4, alpha=0.4, color=COLORS["blue"], mew=0)
    ends = np.array([bound[bound > 0].min(), bound.max()])
    ax.plot(ends, ends, color=COLORS["black"], lw=1.2)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=r"bound $\alpha(\Pi)/(1-\gamma)$",
        ylabel=r"largest $Q^* - Q_\Pi$",
    )
