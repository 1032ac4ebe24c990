"""What `benchmarks/` measured, as tables and pictures: the files of data/benchmarks, nothing computed anew."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from arq_core.settings import DATA
from arq_core.style import COLORS

AXES = {"states": "states", "seeds": "seeds", "action_dim": "action dimension $A$", "candidates": "candidates per state"}


def measured(name: str) -> dict:
    """data/benchmarks/<name>.json."""
    return json.loads((DATA / "benchmarks" / f"{name}.json").read_text())


def said_of(measurement: dict) -> str:
    """Machine, date and commit in one line."""
    versions = ", ".join(f"{k} {v}" for k, v in measurement["versions"].items() if k in ("python", "torch"))
    return f"{measurement['device']}; {versions}; {measurement['created'][:10]}; commit {measurement['commit']}"


def speed_table(lines: list[dict]) -> pd.DataFrame:
    """One row a competitor: milliseconds, times ours with the range over rounds, and the share of plain products where it was measured."""
    rows = []
    for line in lines:
        for label, c in line["competitors"].items():
            if label.startswith("products"):
                continue
            rows.append({"loop": line["title"], "whose": label, f"ms": f"{c['milliseconds']:.3g} a {line['per']}",
                         "times ours": "1" if c["times_ours"] == 1 else f"{c['times_ours']:.3g} ({c['smallest']:.3g} to {c['largest']:.3g})",
                         "of plain products": f"{c['share_of_products']:.0%} of {c['product_gflops']:.0f} GFLOP/s" if "gflops" in c else ""})
    return pd.DataFrame(rows).set_index(["loop", "whose"])


def draw_speed(ax: Axes, line: dict) -> None:
    """Milliseconds of each competitor on a logarithmic axis; ours in blue."""
    shown = {k: c for k, c in line["competitors"].items() if not k.startswith("products")}
    for y, (label, c) in enumerate(shown.items()):
        color = COLORS["blue"] if label.startswith("ours") else COLORS["grey"]
        ax.plot([c["milliseconds"]], [y], "o", color=color, ms=6)
        ax.annotate(f"{c['milliseconds']:.3g}", (c["milliseconds"], y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    ax.set(xscale="log", xlabel=f"ms a {line['per']}", ylim=(len(shown) - 0.5, -0.7))
    ax.set_yticks(range(len(shown)), list(shown))
    ax.set_title(line["title"], fontsize=10)
    ax.margins(x=0.15)


def draw_growth(ax: Axes, points: list[dict], axis: str) -> None:
    """Seconds by one of AXES, with what proportional growth from the first point would cost."""
    x, y = (np.array([p[k] for p in points if p["axis"] == axis], float) for k in ("value", "seconds"))
    ax.plot(x, y, "o-", color=COLORS["blue"], label="measured")
    ax.plot(x, y[0] * x / x[0], "--", color=COLORS["grey"], lw=1, label="proportional")
    ax.set(xscale="log", yscale="log", xlabel=AXES[axis])
    ax.set_xticks(x, [f"{v:,.0f}" for v in x])
    ax.minorticks_off()


def fidelity_table(settings: list[dict], score: str) -> pd.DataFrame:
    """Samplers by action dimension: distance in units of two true samples' (1 is no difference), its z, and the share off support."""
    frame = pd.DataFrame([s for s in settings if s["score"] == score and s.get("sampler") and not s.get("reference") and "ratio" in s])
    names = ["sampler", "grid", "evaluations", "precision"]
    frame["coupled"] = frame.get("coupled", False)
    frame = frame[frame["coupled"] != True].copy()                                                     # noqa: E712  (None counts as False)
    frame[names] = frame[names].astype(object).where(frame[names].notna(), "")
    frame["cell"] = [f"{r:.2f} (z {z:.1f}), {o:.2%}" for r, z, o in zip(frame["ratio"], frame["z"], frame["off_support"], strict=True)]
    frame["setting"] = [" ".join(str(int(v) if isinstance(v, float) else v) for v in row if v not in ("", "float32")) for row in frame[names].itertuples(index=False)]
    table = frame.drop_duplicates(["setting", "A"]).pivot(index="setting", columns="A", values="cell").fillna("")
    return table.reindex(frame["setting"].drop_duplicates()).rename(columns=lambda a: f"A = {a}")


def density_table(settings: list[dict], score: str) -> pd.DataFrame:
    """Log-densities by action dimension: mean absolute error in nats inside the support, and agreement of the kept set at epsilon."""
    frame = pd.DataFrame([s for s in settings if s["score"] == score and s.get("density")])
    names = ["density", "grid", "evaluations", "probes", "precision"]
    for n in names:
        frame[n] = frame[n] if n in frame else ""
    frame[names] = frame[names].astype(object).where(frame[names].notna(), "")
    frame["setting"] = [f"{d} {g} {int(n) if n != '' else ''} {'exact' if p == 0 else f'{int(p)} probes' if p != '' else ''} {b if b != 'float32' else ''}".replace("  ", " ").strip()
                        for d, g, n, p, b in frame[names].itertuples(index=False)]
    frame["cell"] = [f"{e:.3g} nats, {k:.1%}" for e, k in zip(frame["mean_abs"], frame["kept_agreement"], strict=True)]
    table = frame.drop_duplicates(["setting", "A"]).pivot(index="setting", columns="A", values="cell").fillna("")
    return table.reindex(frame["setting"].drop_duplicates()).rename(columns=lambda a: f"A = {a}")
