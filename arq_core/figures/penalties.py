"""Tables and drawings of Table 1's rows: penalties side by side, and what
data/benchmarks/penalties.json says of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from arq_core.figures.style import COLORS

LABELS = {
    "support": "support (Eq. 4)",
    "brac-kl": "BRAC-KL",
    "brac-mmd": "BRAC-MMD²",
    "td3+bc": "TD3+BC",
    "anti-exploration": "anti-exploration",
    "ploff": "PLOFF",
    "mopo": "MOPO",
    "cql": "CQL",
    "oracle": "oracle",
    "none": "no penalty",
}
PENALTIES = {
    "support": "0 or ∞",
    "brac-kl": "−α log β",
    "brac-mmd": "α MMD²(π, β)",
    "td3+bc": "α‖a − β(s)‖²",
    "anti-exploration": "α‖a − Dec(Enc(s, a))‖²",
    "ploff": "Q (1 − exp(−αD))",
    "mopo": "α|Σ|",
    "cql": "α(μ/β − 1)",
    "oracle": "Q − Q^π",
    "none": "0",
}
PREDICTED = {
    "support": "none",
    "brac-kl": "drowns rare good actions",
    "brac-mmd": "inaccurate: loose",
    "td3+bc": "drowns rare ones if α is not tuned",
    "anti-exploration": "proxy, no function of β",
    "ploff": "proxy, no function of β",
    "mopo": "proxy, no function of β",
    "cql": "drowns rare ones if α is large",
    "oracle": "none: the best",
    "none": "over-estimation",
}
STYLES = {
    "brac-kl": ("blue", "-"),
    "brac-mmd": ("sky", "--"),
    "td3+bc": ("amber", "-."),
    "anti-exploration": ("pink", "-"),
    "ploff": ("green", "--"),
    "mopo": ("grey", ":"),
    "cql": ("orange", "-"),
    "support": ("black", "-"),
}


def line(
    found: Mapping, row: str, problem: str, form: str, rarity: float | None = None
) -> dict | None:
    """The summary's line, or None where it was not measured."""
    return next(
        (
            s
            for s in found["summary"]
            if (s["row"], s["problem"], s["form"], s["rarity"]) == (row, problem, form, rarity)
        ),
        None,
    )


def said(value: Sequence[float], form: str) -> str:
    """An exact number alone, a learned one with its standard error over seeds."""
    return f"{value[0]:.3f}" if form == "exact" else f"{value[0]:.3f} ± {value[1]:.3f}"


def ranks(
    found: Mapping, merit: str, form: str, rarity: float, densities: Sequence[str]
) -> pd.DataFrame:
    """A row a method, a column a problem: a figure of merit with its standard error over seeds."""
    columns = {
        f"rare, {rarity:.0%}": ("rare", rarity),
        "hole": ("hole", None),
        **{d: (d, None) for d in densities},
    }
    table = {
        LABELS[r]: {
            c: said(x[merit], form) if (x := line(found, r, p, form, q)) else "–"
            for c, (p, q) in columns.items()
        }
        for r in STYLES
    }
    return pd.DataFrame(table).T.rename_axis(f"{form}")


def draw_penalty(
    ax: Axes,
    actions: np.ndarray,
    exact: np.ndarray,
    learned: np.ndarray | None,
    inside: np.ndarray,
    title: str,
) -> None:
    """One row's penalty over the actions, scaled to its own range among finite values; infinite is
    drawn at the top. The support is shaded.
    """
    ax.fill_between(
        actions, 0, 1.15, where=inside, color=COLORS["grey"], alpha=0.2, lw=0, step="mid"
    )
    for values, color, style, label in (
        (exact, "black", "-", "β known"),
        (learned, "orange", "--", "learned"),
    ):
        if values is not None:
            ax.plot(actions, _unit(values), color=COLORS[color], ls=style, lw=1.3, label=label)
    ax.set(title=title, ylim=(-0.05, 1.15), yticks=[])


def _unit(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    low, span = finite.min(), np.ptp(finite)
    return np.where(np.isfinite(values), (values - low) / (span if span > 1e-9 else 1), 1.1)


def draw_values(
    ax: Axes, found: Mapping, problem: str, form: str, rarity: float | None, rows: Sequence[str]
) -> None:
    """What policy iteration earns against the penalty's strength."""
    for row in rows:
        if (x := line(found, row, problem, form, rarity)) is not None:
            mean, error = np.array(x["value"]).T
            color, style = STYLES[row]
            ax.errorbar(
                found["alphas"],
                mean,
                yerr=error,
                color=COLORS[color],
                ls=style,
                marker=".",
                capsize=2,
                label=LABELS[row],
            )
    ax.set(xscale="log", xlabel="α", ylim=(-0.05, 1.05))


def draw_rarity(ax: Axes, found: Mapping, alpha: float, rows: Sequence[str]) -> None:
    """What policy iteration earns against how rare the good action is, with beta known."""
    i = list(found["alphas"]).index(alpha)
    for row in rows:
        some = sorted(
            (s["rarity"], s["value"][i][0])
            for s in found["summary"]
            if (s["row"], s["problem"], s["form"]) == (row, "rare", "exact")
        )
        color, style = STYLES[row]
        ax.plot(
            *zip(*some, strict=True), color=COLORS[color], ls=style, marker=".", label=LABELS[row]
        )
    ax.set(xscale="log", title=f"α = {alpha:g}", ylim=(0.4, 1.05))


def best_of_both(found: Mapping, row: str, form: str, rarity: float) -> tuple[float, float]:
    """(the strength at which the worse of the two bandits is best, and what is earned there): one
    alpha for both problems.
    """
    rare, hole = (line(found, row, *at) for at in (("rare", form, rarity), ("hole", form, None)))
    worse = np.minimum(np.array(rare["value"])[:, 0], np.array(hole["value"])[:, 0])
    return found["alphas"][int(worse.argmax())], float(worse.max())


def maze_table(maze: Mapping) -> pd.DataFrame:
    """data/benchmarks/penalised_maze.json: strength, return and how episodes ended, a method a
    row.
    """
    rows = {
        m["method"]: dict(strength="" if m["strength"] is None else f"{m['strength']:g}")
        | {"return": f"{m['mean']:.2f} ± {m['std']:.2f}"}
        | {end: f"{m['ends'][end]:.0%}" for end in ("goal", "lure", "lava")}
        for m in maze["reported"]
    }
    return pd.DataFrame(rows).T.rename_axis("method")


FORMS = {"exact": "with β known", "learned": "learned from samples"}


def failures(found: Mapping, maze: Mapping, rarity: float, lost: float) -> pd.DataFrame:
    """Method, penalty, the failure that the paper predicts, and what was observed: earnings, and
    whether one alpha loses less than `lost` on both bandits.
    """
    rows, returns = {}, {m["method"]: m for m in maze["reported"]}
    for row in LABELS:
        cells = dict(penalty=PENALTIES[row], predicted=PREDICTED[row])
        for form in ("exact", "learned"):
            if line(found, row, "hole", form) is None:
                continue
            alpha, value = best_of_both(found, row, form, rarity)
            passes = "✗ fails" if value < 1 - lost else "✓ passes"
            cells[FORMS[form]] = f"{passes}: {value:.2f} at α = {alpha:g}"
        strong = line(found, row, "rare", "exact", rarity)["value"]
        cells["rare, α = 1 / 1,000"] = f"{strong[1][0]:.2f} / {strong[-1][0]:.2f}"
        if m := returns.get("arq+s_psi" if row == "support" else f"dqp {row}"):
            cells["maze"] = f"{m['mean']:.2f} ± {m['std']:.2f}" + (
                " (ARQ)" if row == "support" else ""
            )
        rows[LABELS[row]] = cells
    return pd.DataFrame(rows).T.fillna("–").rename_axis("method")
