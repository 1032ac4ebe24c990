"""Drawings and tables of data/benchmarks/critics.json: what critics say and what their policies
earn, by steps of training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from arq_core.figures.style import COLORS

CLONE, REFERENCE = "none (s_psi)", "Monte-Carlo"
LOOKS = {
    "SARSA": ("blue", "o", "-"),
    "ARQ": ("orange", "s", "-"),
    "SARSA from Monte-Carlo": ("blue", "^", "--"),
    "ARQ from Monte-Carlo": ("orange", "D", "--"),
}


def of_critic(found: Mapping, critic: str) -> list[dict]:
    """Its lines, by steps; of several of one number of steps that with the most episodes."""
    lines = [line for line in found["lines"].values() if line["critic"] == critic]
    often = {line["steps"]: line for line in sorted(lines, key=lambda x: x["episodes_a_seed"])}
    return [often[steps] for steps in sorted(often)]


def draw_scores(ax: Axes, found: Mapping) -> None:
    """Score by steps with standard errors over episodes; bands for the clone alone and for the
    critic regressed on returns.
    """
    for critic, color, text in (
        (CLONE, "grey", "clone alone"),
        (REFERENCE, "green", "regressed on returns"),
    ):
        for line in of_critic(found, critic):
            mean, error = line["score"], line["standard_error"]
            ax.axhspan(mean - error, mean + error, color=COLORS[color], alpha=0.2, lw=0)
            ax.axhline(mean, color=COLORS[color], lw=1, label=text)
    for critic, (color, marker, dashes) in LOOKS.items():
        if lines := of_critic(found, critic):
            x, y, error = (
                [line[k] for line in lines] for k in ("steps", "score", "standard_error")
            )
            ax.errorbar(
                x, y, error, color=COLORS[color], marker=marker, ls=dashes, capsize=2, label=critic
            )
    ax.set(xscale="log", xlabel="critic steps", ylabel="score", ylim=(-1, None))


def table(found: Mapping) -> pd.DataFrame:
    """A critic a row: score with its standard error, share of successes, mean value said of the
    recorded actions beside what followed, and rank correlation at equal times.
    """
    rows = {}
    for line in sorted(
        found["lines"].values(), key=lambda x: (x["critic"], x["steps"], x["episodes_a_seed"])
    ):
        told = line.get("rank_correlation", {})
        episodes = f"{len(found['seeds'])} × {line['episodes_a_seed']}"
        rows[line["critic"].replace("s_psi", "s_ψ"), f"{line['steps']:,}", episodes] = {
            "score": f"{line['score']:.1f} ± {line['standard_error']:.1f}",
            "successes": f"{line['success']:.0%}",
            "said": f"{line['said']:.0f}" if "said" in line else "–",
            "followed": f"{line['followed']:.0f}" if "said" in line else "–",
        } | {f"rank, t {band}": f"{value:.2f}" for band, value in told.items()}
    made = pd.DataFrame(rows).T.fillna("–")
    return made.rename_axis(["critic", "steps", "episodes"])


def draw_along(ax: Axes, said: np.ndarray, followed: np.ndarray, color: str) -> None:
    """What a critic says of each recorded action [M] against the return that followed [M]."""
    ax.plot(followed, said, ".", ms=2, alpha=0.4, color=COLORS[color], rasterized=True)
    ends = np.array([followed.min(), followed.max()])
    ax.plot(ends, ends, color=COLORS["black"], lw=1)
    ax.set(xlabel="discounted return that followed", ylabel="Q of the recorded action")
