"""Drawings and tables of data/benchmarks/choosing_blind.json: estimates made without a simulator
against what the simulator says.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import Container

from arq_core.config.labels import METHOD_LABELS
from arq_core.figures.style import COLORS, METHOD_COLORS
from arq_core.results.calibration import half_width, regret

ESTIMATORS = {
    "fqe": "fitted Q evaluation",
    "fqe_at_starts": "the same, simulator's starts",
    "own": "the learner's own critic",
    "weighted": "importance sampling",
    "recorded": "recorded return, for all",
}


def draw_estimates(ax: Axes, found: Mapping) -> dict[str, Container]:
    """Fitted Q evaluation of each policy where the simulator begins, with its 95% interval,
    against the discounted return there; the line is the truth.
    Returns the marks of each kind of policy, for a legend."""
    shown: dict[str, Container] = {}
    for line in found["lines"].values():
        x = float(np.mean(line["discounted"]))
        heads = np.mean(line["fqe_at_starts"], 0)
        y, half = heads.mean(), half_width(heads)
        color = METHOD_COLORS.get(line["method"], COLORS["grey"])
        off = line["changes"].get("log_epsilon") == "off"
        bars = ax.errorbar(
            x, y, half, fmt="o", ms=5, capsize=2, lw=1, color=color, mfc="none" if off else color
        )
        name = METHOD_LABELS.get(line["method"]) or line["method"]
        shown[f"{name}, no filter" if off else name] = bars
    low, high = ax.get_xlim()
    ends = np.array([low, high])
    ax.plot(ends, ends, color=COLORS["black"], lw=1, zorder=0)
    ax.set(xlabel="discounted return", ylabel="estimate")
    return shown


def table(found: Mapping) -> pd.DataFrame:
    """An estimator of a task a row: rank correlation with the returns of the policies that it
    speaks of, regret@1 and @3, with 95% intervals."""
    rows = {}
    for task, measured in found["tasks"].items():
        for name, words in ESTIMATORS.items():
            c = measured["calibration"][name]
            rows[task, words] = {
                "rank correlation": _with_interval(c, "rank_correlation", name != "recorded"),
                "regret@1": _with_interval(c, "regret_at_1"),
                "regret@3": _with_interval(c, "regret_at_3"),
            }
    return pd.DataFrame(rows).T.rename_axis(["task", "estimate"])


def _with_interval(c: Mapping, name: str, ranks: bool = True) -> str:
    if not ranks:
        return "–"
    low, high = c[f"{name}_interval"]
    return f"{c[name]:.2f} ({low:.2f} to {high:.2f})"


def errors(found: Mapping) -> pd.DataFrame:
    """How far fitted Q evaluation is from the discounted return where the simulator begins, a task
    a row, and of how many policies its interval holds it."""
    rows = {}
    for task, measured in found["tasks"].items():
        c = measured["calibration"]["fqe_at_starts"]
        rows[task] = {
            "range of returns": f"{c['range']:.3g}",
            "mean error": f"{c['mean_error']:.3f}",
            "root mean square error": f"{c['rms_error']:.3f}",
            "intervals that hold the truth": f"{c['covered']} of {c['policies']}",
        }
    return pd.DataFrame(rows).T


def chosen(measured: Mapping, estimator: str = "fqe", method: str = "arq+s_psi") -> dict:
    """The epsilon, alpha and K that an estimator chooses for one method, and what that costs:
    names, returns as scored, and regret of the first, beside that of a choice by chance."""
    lines = {k: x for k, x in measured["lines"].items() if x["method"] == method}
    names = list(lines)
    estimates = np.nan_to_num([np.mean(x[estimator]) for x in lines.values()], nan=-np.inf)
    returns = np.array([np.mean(x["return"]) for x in lines.values()])
    first, best = int(estimates.argmax()), int(returns.argmax())
    return dict(
        policies=len(names),
        first=names[first],
        best=names[best],
        returned=float(returns[first]),
        most=float(returns[best]),
        range=float(np.ptp(returns)),
        regret=regret(estimates, returns, 1),
        by_chance=float(returns.max() - returns.mean()),
    )


def choices(found: Mapping) -> pd.DataFrame:
    """What fitted Q evaluation chooses for ARQ + s_psi on each task, a row each, with what it
    returns, beside the best; and the regret of that choice beside those of the learner's own
    critic, importance sampling and chance."""
    rows = {}
    for task, measured in found["tasks"].items():
        c = chosen(measured)
        rows[task] = {
            "chosen": f"{_short(c['first'])}: {c['returned']:.2f}",
            "best": f"{_short(c['best'])}: {c['most']:.2f}",
            "regret": f"{c['regret']:.2f}",
            "own critic's": f"{chosen(measured, 'own')['regret']:.2f}",
            "importance's": f"{chosen(measured, 'weighted')['regret']:.2f}",
            "chance's": f"{c['by_chance']:.2f}",
        }
    return pd.DataFrame(rows).T


def _short(name: str) -> str:
    return name.partition(", ")[2].replace("e^-5", "e⁻⁵")
