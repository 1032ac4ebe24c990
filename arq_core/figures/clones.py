"""Tables and drawings of data/benchmarks/clones.json: how well families of explicit clones recover
the four densities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from arq_core.figures.style import COLORS

LABELS = {
    "gaussian": "Gaussian",
    "mdn-2": "mixture of 2",
    "mdn-5": "mixture of 5",
    "mdn-10": "mixture of 10",
    "mdn-20": "mixture of 20",
    "vae-bcq": "VAE, BCQ's loss",
    "vae": "VAE",
    "score": r"score model",
}
MERITS = {
    "tv": "TV",
    "kl": "KL (nats)",
    "recall": "recall",
    "dropped_far": "dropped beyond 0.1",
    "rank": "rank",
}
COLOR_OF_DENSITY = dict(
    zip(("staircases", "bands", "fork", "arcs"), ("blue", "orange", "green", "pink"), strict=True)
)
MARKERS = "osD^"  # densities are told apart by shape as well


def families(found: Mapping, steps: int) -> list[str]:
    """Those that were measured after so many steps, in the order of LABELS."""
    measured = {row["family"] for row in found["summary"] if row["steps"] == steps}
    return [family for family in LABELS if family in measured]


def row(found: Mapping, family: str, steps: int, density: str = "all") -> dict:
    """The summary of a family on a density: figures of merit as [mean over seeds, its standard
    error].
    """
    return next(
        r
        for r in found["summary"]
        if (r["family"], r["steps"], r["density"]) == (family, steps, density)
    )


def said(value: Sequence[float] | None, digits: int = 3) -> str:
    """'0.104 ± 0.002', or a dash where there is no such number."""
    return "–" if value is None else f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}"


def table(found: Mapping, steps: int, density: str = "all") -> pd.DataFrame:
    """A family a row: figures of merit with standard errors over seeds, and the number of
    parameters.
    """
    rows = {LABELS[f]: row(found, f, steps, density) for f in families(found, steps)}
    return pd.DataFrame(
        {
            name: {title: said(r.get(key)) for key, title in MERITS.items()}
            | {"seeds": r["seeds"], "parameters": f"{r['parameters']:,}"}
            for name, r in rows.items()
        }
    ).T.rename_axis("clone")


def draw_families(ax: Axes, found: Mapping, steps: int, merit: str, xlabel: str) -> None:
    """A family a line, a density a point with its standard error over seeds."""
    names = families(found, steps)
    for (density, color), marker, shift in zip(
        COLOR_OF_DENSITY.items(), MARKERS, np.linspace(-0.24, 0.24, 4), strict=True
    ):
        mean, error = np.array([row(found, f, steps, density)[merit] for f in names]).T
        ax.errorbar(
            mean,
            np.arange(len(names)) + shift,
            xerr=error,
            fmt=marker,
            ms=4,
            capsize=2,
            color=COLORS[color],
            label=density,
        )
    ax.set(xlabel=xlabel, yticks=range(len(names)), yticklabels=[LABELS[f] for f in names])
    ax.invert_yaxis()
