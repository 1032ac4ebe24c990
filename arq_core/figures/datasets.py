"""Pictures and sentences about one dataset: each from Transitions, or from what
`datasets.statistics` found in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from arq_core.algorithm.types import Transitions
from arq_core.datasets import statistics
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.statistics import Coverage, Modes
from arq_core.figures.style import COLORS, MAP, WIDTH

BINS = 40
KINDS = {"ended": "blue", "cut": "amber"}
NEAREST = 1e-3  # ratios of distances below are drawn here: repeated pairs
MANY = 12  # action dimensions beyond which every second one is named


def card(dataset: Dataset) -> dict[str, str]:
    """What a reader wants to know first, in words."""
    f = statistics.facts(dataset.transitions)
    return {
        "fidelity": dataset.fidelity,
        "transitions": f"{f['transitions']:,}",
        "distinct states": f"{f['states']:,}",
        "episodes": f"{f['episodes']:,}, of which {f['ended']:,} ended by themselves and "
        f"{f['episodes'] - f['ended']:,} were cut",
        "state, action": f"{f['state_dim']}, {f['action_dim']} numbers",
        "steps of an episode": f"{f['length_min']:,} to {f['length_max']:,}, median "
        f"{f['length_median']:,.0f}",
        "return of an episode": f"{_digits(f['return_mean'])} ± {_digits(f['return_std'])}, from "
        f"{_digits(f['return_min'])} to {_digits(f['return_max'])}",
        "source": dataset.source,
    }


def _digits(x: float) -> str:
    """Three digits that matter, never in powers of ten."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def returns_and_lengths(data: Transitions) -> Figure:
    """Histograms of the returns and of the lengths of episodes, those that ended apart from those
    that were cut.
    """
    e = statistics.episodes(data)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.8))
    for ax, values, name in ((axes[0], e.returns, "return"), (axes[1], e.length, "steps")):
        edges = np.histogram_bin_edges(values, bins=min(BINS, max(5, int(np.sqrt(len(values))))))
        kinds = [
            (k, values[which])
            for k, which in (("ended", e.ended), ("cut", ~e.ended))
            if which.any()
        ]
        ax.hist(
            [v for _, v in kinds],
            edges,
            stacked=True,
            label=[k for k, _ in kinds],
            color=[COLORS[KINDS[k]] for k, _ in kinds],
            lw=0,
        )
        ax.set(xlabel=f"{name} of an episode", ylabel="episodes")
    axes[0].legend()
    return figure


def said_returns(data: Transitions) -> str:
    """What the histograms show: how far apart the best and the typical episode are, and how
    episodes end.
    """
    e = statistics.episodes(data)
    quarter, middle, most = np.quantile(e.returns, [0.25, 0.5, 0.75])
    n, ended = len(e.ended), int(e.ended.sum())
    how = (
        (
            f"{'All' if ended == n else f'{ended:,} of'} {n:,} episodes ended by "
            "themselves; a learner may take the value after their last step to be 0."
        )
        if ended
        else f"All {n:,} episodes were cut: no last state of this dataset is known to be "
        "worth nothing."
    )
    others = (
        " The others were cut, which says nothing of the value after them." if 0 < ended < n else ""
    )
    return (
        f"Half of the episodes return between {_digits(quarter)} and "
        f"{_digits(most)}; the median is {_digits(middle)} and the best "
        f"{_digits(e.returns.max())}. {how}{others}"
    )


def box(data: Transitions) -> Figure:
    """For each action dimension, the share of entries that lie exactly on either face of the
    box.
    """
    low, high = statistics.atoms(data)
    figure, ax = plt.subplots(figsize=(WIDTH, 2.5))
    x = np.arange(1, len(low) + 1)
    ax.bar(x, high, color=COLORS["blue"], label="at +1", width=0.8)
    ax.bar(x, -low, color=COLORS["orange"], label="at −1", width=0.8)
    ax.axhline(0, color=COLORS["black"], lw=0.8)
    reach = max(1.15 * max(low.max(), high.max()), 0.01)
    ax.set(
        xlabel="action dimension",
        ylabel="share of entries",
        ylim=(-reach, reach),
        xticks=x[:: 1 if len(x) <= MANY else 2],
    )
    ax.yaxis.set_major_formatter(
        lambda value, _: f"{abs(value):.0%}" if reach > 0.05 else f"{abs(value):.1%}"
    )
    ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def said_box(data: Transitions) -> str:
    low, high = statistics.atoms(data)
    both = low + high
    if not both.any():
        return "No entry lies on a face of the box: the density of actions is a density everywhere."
    touched = float(((data.actions == 1) | (data.actions == -1)).any(1).double().mean())
    return (
        f"{both.mean():.1%} of all entries lie exactly on a face of the box, most "
        f"in dimension {both.argmax() + 1} ({both.max():.1%}); {touched:.1%} of the "
        "actions have at least one such entry. A density has no value at such an "
        "atom: a model that fits it well makes it as tall as it likes."
    )


def coverage(data: Transitions, found: Coverage, coordinates: Sequence[int] = ()) -> Figure:
    """Left: state-action pairs in their first two principal axes (or two `coordinates` of the
    state), by return. Right: their isolation.
    """
    e = statistics.episodes(data)
    number = np.unique(data.episode.numpy(), return_inverse=True)[1]
    points = (
        data.states[data.state[found.rows]].numpy()[:, list(coordinates)]
        if len(coordinates)
        else found.points
    )
    axes = [f"principal axis {i + 1} ({share:.0%})" for i, share in enumerate(found.explained)]
    names = [f"state dimension {c + 1}" for c in coordinates] or axes
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.0), width_ratios=(1.3, 1))
    drawn = left.scatter(
        *points.T, c=e.returns[number[found.rows]], s=4, cmap=MAP, alpha=0.7, lw=0, rasterized=True
    )
    left.set(xlabel=names[0], ylabel=names[1])
    figure.colorbar(drawn, ax=left, label="return of the episode", shrink=0.9)
    ratio = (found.nearest / found.typical).clip(NEAREST, 2)
    right.hist(ratio, np.geomspace(NEAREST, 2, BINS), color=COLORS["blue"], lw=0)
    right.axvline(1, color=COLORS["grey"], ls="--", lw=1)
    right.set(xlabel="nearest / typical distance", ylabel="state-action pairs", xscale="log")
    return figure


def said_coverage(found: Coverage) -> str:
    middle, most = np.quantile(found.nearest / found.typical, [0.5, 0.95])
    judged = (
        "Behaviour repeats itself across episodes."
        if middle < 0.1
        else "Episodes share their neighbourhoods, but not their steps."
        if middle < 0.4
        else "Each episode goes a way of its own: elsewhere there is little to compare with."
    )
    return (
        f"The first two axes hold {found.explained.sum():.0%} of the variance of "
        "states and actions. The nearest pair of other episodes is, in the median, "
        f"{middle:.2f} times as far away as a typical one (dashed: 1), and for one "
        f"pair in twenty more than {most:.2f} times. {judged}"
    )


def behaviour(data: Transitions, found: Modes, coordinates: Sequence[int] = ()) -> Figure:
    """Where a Gaussian fails (left), how much by (middle), and the state at which it fails most:
    actions of its neighbourhood (right).
    """
    states = data.states[data.state[found.rows]].numpy()
    scaled = statistics.standardised(states)
    if len(coordinates):
        points, names = (
            states[:, list(coordinates)],
            [f"state dimension {c + 1}" for c in coordinates],
        )
    else:
        axes, _ = statistics.principal_axes(scaled)
        points = np.pad(scaled @ axes[:, :2], ((0, 0), (0, max(0, 2 - axes.shape[1]))))
        names = [f"principal axis {i + 1} of states" for i in range(2)]
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(WIDTH, 2.9), width_ratios=(1.25, 1, 1)
    )
    top = max(float(found.gain.max()), 0.1)
    order = found.gain.argsort()
    drawn = left.scatter(
        *points[order].T, c=found.gain[order], s=9, cmap=MAP, vmin=0, vmax=top, lw=0
    )
    left.set(xlabel=names[0], ylabel=names[1])
    figure.colorbar(drawn, ax=left, label="gain, nats", shrink=0.9)
    middle.hist(found.gain, BINS, color=COLORS["blue"], lw=0)
    middle.axvline(found.chance, color=COLORS["orange"], ls="--", lw=1.2, label="chance")
    middle.set(xlabel="gain, nats", ylabel="states")
    middle.legend(fontsize=7, handlelength=1.2)
    _worst(right, found)
    return figure


def _worst(ax, found: Modes) -> None:
    x = found.neighbours[int(found.gain.argmax())][None]
    pad = max(0.15 * np.ptp(x), 0.2)
    grid = np.linspace(x.min() - pad, x.max() + pad, 400)[None]
    ax.hist(x[0], BINS // 2, density=True, color=COLORS["grey"], alpha=0.45, lw=0)
    ax.plot(
        grid[0],
        np.exp(statistics.gaussian_log_prob(x, grid))[0],
        color=COLORS["orange"],
        ls="--",
        lw=1.4,
        label="Gaussian",
    )
    ax.plot(
        grid[0],
        np.exp(statistics.mixture_log_prob(x, grid))[0],
        color=COLORS["blue"],
        lw=1.4,
        label="mixture",
    )
    ax.set(xlabel="action on its axis", yticks=[], title="largest gain")
    ax.legend(fontsize=7, handlelength=1.2)


def said_behaviour(found: Modes) -> str:
    """How often and by how much one Gaussian is not enough."""
    middle, most = np.quantile(found.gain, [0.5, 0.95])
    failed = found.gain > found.chance
    mean = found.gain[failed].mean() if failed.any() else 0.0
    judged = (
        "Almost nowhere does a second mode pay."
        if found.share < 0.1
        else "Where it does, one Gaussian stretches over a gap that nobody acted in."
        if mean > 0.3
        else "The gain is small: shapes that are no Gaussians, rather than separate modes."
    )
    return (
        (
            f"Near {found.share:.0%} of {len(found.gain)} states a mixture of two "
            "predicts the actions of other episodes better than one Gaussian by more "
            f"than chance ({found.chance:.3f} nats, which chance alone exceeds at one "
            f"state in twenty); there the gain is {mean:.2f} nats an action on average. "
            f"Over all states the median gain is {middle:.2f} and one state in twenty "
            f"gains more than {most:.2f}. {judged}"
        )
        .replace("-0.00", "0.00")
        .replace(" -", " −")
    )
