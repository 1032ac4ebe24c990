"""What `benchmarks/` measured, as tables and pictures: the files of data/benchmarks, nothing
computed anew.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from arq_core.figures.style import COLORS

SHORT = {
    "predictor_corrector": "PC, released norms",
    "predictor_corrector_batch": "PC",
    "euler_maruyama": "Euler-Maruyama",
    "dpmpp_2m": "DPM++(2M)",
    "sde_dpmpp_2m": "SDE-DPM++(2M)",
    "probability_flow": "Heun",
    "log_snr_grid": "log-SNR",
    "uniform_grid": "",
    "same_solve": "walk",
    "multistep": "walk back",
}
PAPER = "the paper's path, both"  # predictor-corrector, then RK45
AXES = {
    "states": "states",
    "seeds": "seeds",
    "action_dim": "action dimension $A$",
    "candidates": "candidates per state",
}


def three_digits(x: float) -> str:
    """x to three digits, or to its last whole one: 0.938, 1,330."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def speed_table(line: dict) -> pd.DataFrame:
    """One row a competitor (not one a yardstick): milliseconds, times ours with the range over
    rounds, and the share of plain products where it was measured.
    """
    rows = {
        label: {
            "ms": three_digits(c["milliseconds"]),
            "times ours": "1"
            if c["times_ours"] == 1
            else f"{c['times_ours']:.3g} ({c['smallest']:.3g} to {c['largest']:.3g})",
            "of products": f"{c['share_of_products']:.0%}" if "gflops" in c else "",
        }
        for label, c in line["competitors"].items()
        if not label.startswith(("products", "copy"))
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(
        f"{line['title']}, a {line['per']}"
    )


def kernels_table(profile: dict) -> pd.DataFrame:
    """Microseconds that a GPU works in a step or a solve, and in how many kernels, in two states of
    the code; an empty cell was not measured again.
    """
    states, shown = ("before", "after"), lambda x: f"{x:,.0f}"
    loops = [k for k, v in profile["before"].items() if isinstance(v, dict) and "kernels" in v]
    rows = {
        loop.partition(", 20 ")[0]: {
            f"{what} {state}": shown(profile[state][loop][key]) if loop in profile[state] else ""
            for state in states
            for what, key in (("us", "kernels_us"), ("kernels", "kernels"))
        }
        for loop in loops
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("a step, or a solve")


def gpu_headline(cuda: dict, profile: dict) -> str:
    """A million steps of three seeds, beside JAX's of one; and how long the device waits in a small
    solve. Every number is read from the files.
    """
    lines = {line["title"]: line["competitors"] for line in cuda["cuda"]}
    minutes = {
        loop: {
            label: lines[f"{loop}, three seeds at once"][label]["milliseconds"] * 1e3 / 60
            for label in ("ours", "JAX, jit + scan, one seed")
        }
        for loop in ("score_step", "arq_step")
    }
    small = next(v for k, v in profile["before"].items() if k.startswith("300 states"))
    return (
        f"A million steps of three seeds take {minutes['score_step']['ours']:.1f} "
        f"minutes for the score model and {minutes['arq_step']['ours']:.1f} for Eq. "
        "5, in bfloat16; JAX takes "
        f"{minutes['score_step']['JAX, jit + scan, one seed']:.1f} and "
        f"{minutes['arq_step']['JAX, jit + scan, one seed']:.1f} for one seed, in "
        "its own default arithmetic, with a diffusion time for each row. A solve "
        f"for 300 states took {small['wall_us'] / 1e3:.0f} ms, of which the device "
        f"worked {small['kernels_us'] / 1e3:.0f}: the rest it waited for Python. "
        "Policies are therefore replayed as one graph of kernels, with the same "
        "episodes; what that gains has not been measured."
    )


def headlines(speed: dict, fidelity: dict) -> str:
    """What the two measurements say, in four sentences of Markdown; every number is read from
    them.
    """
    lines = {
        line["title"]: line["competitors"]
        for part in ("training", "sampling")
        for line in speed[part]
    }

    def ratio(title: str, label: str) -> str:
        return (
            f"{next(c for t, c in lines.items() if t.startswith(title))[label]['times_ours']:.3g}"
        )

    def error(a: int, **wanted) -> str:
        found = next(
            s
            for s in fidelity["settings"]
            if s["score"] == "exact" and s["A"] == a and wanted.items() <= s.items()
        )
        return f"{found['mean_abs']:.2g}"

    walk, released = (
        dict(density="same_solve", grid="t ~ u^4", evaluations=20, probes=0),
        dict(density="rk45 at t = 1e-5", probes=10),
    )
    return "\n".join(
        [
            "- Samples with their log-density: the paper's path takes "
            f"{ratio('30 samples with log-density, A = 3', PAPER)} times as long at A = "
            f"3 and {ratio('30 samples with log-density, A = 24', PAPER)} times at 24.",
            f"- Its log-densities err by {error(3, **released)} and "
            f"{error(24, **released)} nats (ten probes), ours by {error(3, **walk)} and "
            f"{error(24, **walk)} (20 evaluations, exact divergence), against the "
            "closed form.",
            "- A training step: the straightforward loop takes "
            f"{ratio('score step', 'straightforward')} times as long for the score "
            f"model and {ratio('ARQ step', 'straightforward')} times for Eq. 5; JAX "
            f"{ratio('score step', 'JAX, jit + scan')} and "
            f"{ratio('ARQ step', 'JAX, jit + scan')} times. Ours is in bfloat16 with 64 "
            "diffusion times a batch, theirs in float32 with one a row; ours in "
            "float32 is in the tables below.",
            "- Without candidates (IQL through the same loop): in float32, d3rlpy "
            f"takes {ratio('value-and-policy', 'd3rlpy')} times as long, JAX "
            f"{ratio('value-and-policy', 'JAX, jit + scan')} times.",
        ]
    )


def draw_speed(ax: Axes, line: dict) -> None:
    """Milliseconds of each competitor on a logarithmic axis; ours in blue."""
    shown = {k: c for k, c in line["competitors"].items() if not k.startswith("products")}
    for y, (label, c) in enumerate(shown.items()):
        color = COLORS["blue"] if label.startswith("ours") else COLORS["grey"]
        ax.plot([c["milliseconds"]], [y], "o", color=color, ms=6)
        ax.annotate(
            three_digits(c["milliseconds"]),
            (c["milliseconds"], y),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    ax.set(xscale="log", xlabel=f"ms a {line['per']}", ylim=(len(shown) - 0.5, -0.7))
    ax.set_yticks(range(len(shown)), list(shown))
    ax.set_title(line["title"], fontsize=10)
    ax.margins(x=0.15)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def draw_growth(ax: Axes, points: list[dict], axis: str) -> None:
    """Seconds by one of AXES, with what proportional growth from the first point would cost."""
    x, y = (
        np.array([p[k] for p in points if p["axis"] == axis], float) for k in ("value", "seconds")
    )
    ax.plot(x, y, "o-", color=COLORS["blue"], label="measured")
    ax.plot(x, y[0] * x / x[0], "--", color=COLORS["grey"], lw=1, label="proportional")
    ax.set(xscale="log", yscale="log", xlabel=AXES[axis])
    ax.set_xticks(x, [f"{v:,.0f}" for v in x])
    ax.minorticks_off()


def fidelity_table(settings: list[dict], score: str) -> pd.DataFrame:
    """Samplers by action dimension: distance in units of two true samples' (1 is no difference),
    its z, and the share off support.
    """
    shown = [
        s
        for s in settings
        if s["score"] == score and "sampler" in s and "ratio" in s and not s.get("coupled")
    ]
    return _by_dimension(
        shown,
        lambda s: f"{s['ratio']:.2g} ({s['z']:.2g}) {s['off_support']:.2%}",
        lambda s: [s["sampler"], s.get("grid"), s.get("evaluations"), _unusual(s)],
    )


def density_table(settings: list[dict], score: str) -> pd.DataFrame:
    """Log-densities by action dimension: mean absolute error in nats inside the support, and
    agreement of the kept set at epsilon.
    """
    shown = [
        s for s in settings if s["score"] == score and "density" in s and s["mean_abs"] is not None
    ]
    return _by_dimension(
        shown,
        lambda s: f"{s['mean_abs']:.3g} nats, {s['kept_agreement']:.1%}",
        lambda s: [s["density"], s.get("grid"), s.get("evaluations"), _divergence(s), _unusual(s)],
    )


def returns_table(measurement: dict) -> pd.DataFrame:
    """What a policy scores when it draws its candidates in other ways: mean over seeds and
    episodes, and each seed's.
    """
    rows = {
        s["setting"]: {
            "mean return": f"{s['mean']:.3f} ± {s['standard_error']:.3f}",
            "by seed": ", ".join(f"{m:.2f}" for m in s["by_seed"]),
            "seconds": f"{s['seconds']:.0f}",
        }
        for s in measurement["settings"]
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("candidates")


def _divergence(setting: dict) -> str:
    return (
        ""
        if "probes" not in setting
        else f"{setting['probes']} probes"
        if setting["probes"]
        else "exact"
    )


def _unusual(setting: dict) -> str:
    return (
        setting["precision"]
        if setting.get("precision") != "float32" and "precision" in setting
        else ""
    )


def _by_dimension(
    settings: list[dict], cell: Callable[[dict], str], parts: Callable[[dict], list]
) -> pd.DataFrame:
    """A row a setting, in the order of the file, and a column for each action dimension."""
    cells: dict[str, dict[str, str]] = {}
    for s in settings:
        row = cells.setdefault(
            " ".join(SHORT.get(part, str(part)) for part in parts(s) if part).replace("  ", " "), {}
        )
        row.setdefault(f"A = {s['A']}", cell(s))
    columns = [f"A = {a}" for a in sorted({s["A"] for s in settings})]
    return (
        pd.DataFrame.from_dict(cells, orient="index")
        .reindex(columns=columns)
        .fillna("")
        .rename_axis("setting")
    )
