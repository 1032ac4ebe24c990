"""A picture for each of Eq. 4, 5 and 6, of the functions that compute them: the road of the first
screen, and candidates of a clone that was trained for too short a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from arq_core.algorithm.policies import implicit_probabilities
from arq_core.algorithm.support import kth_largest
from arq_core.algorithm.types import in_support
from arq_core.figures import method
from arq_core.figures.inline import LOOK, WIDTH, Picture
from arq_core.widgets.hero import HABITS, believed, log_density, true_value

LOG_EPSILON, N, K, ALPHAS = -1.5, 30, 3, (0.0, 3.0, 10.0)
SPREAD = (0.2, 0.0, 0.5)  # the share of the clone's draws that are of no habit, middle and width
CLONE = (*((share * (1 - SPREAD[0]), m, w) for share, m, w in HABITS), SPREAD)
GRID = np.linspace(-1, 1, 2001)


@dataclass(frozen=True)
class Candidates:
    """N draws of a clone in one state: action, log-density (nats), Q, what is kept, all [N]."""

    actions: Tensor
    log_prob: Tensor
    q: Tensor
    kept: Tensor


def candidates() -> Candidates:
    """At the middles of N equally likely parts of the clone's law: draws without luck."""
    density = np.exp(log_density(GRID, CLONE))
    below = (density.cumsum() - density / 2) / density.sum()
    actions = np.interp((np.arange(N) + 0.5) / N, below, GRID)
    log_prob = torch.from_numpy(log_density(actions, CLONE))
    kept = in_support(log_prob, LOG_EPSILON)
    return Candidates(
        torch.from_numpy(actions), log_prob, torch.from_numpy(believed(actions)), kept
    )


def eq_4() -> Picture:
    """What epsilon keeps, and the penalty."""
    c, curve = candidates(), log_density(GRID, CLONE)
    inside = in_support(torch.from_numpy(curve), LOG_EPSILON).numpy()
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, 2.7))
        ax, strip = figure.subplots(2, 1, sharex=True, height_ratios=[7, 1])
        numbers = (x.numpy() for x in (c.actions, c.log_prob, c.kept))
        method.draw_support(ax, strip, GRID, curve, inside, *numbers, LOG_EPSILON)
    dense = np.exp([curve[GRID < 0].max(), curve[GRID > 0].max()])
    return Picture(
        figure,
        "A log-density over the action with a low hill on the left and a high one on the right, "
        "candidates on it, and a level line. Those above the line are kept, those below it "
        "dropped; the penalty under them is zero on both hills and infinite elsewhere.",
        f"{{eq}}`eq-4` at $\\log\\epsilon = {LOG_EPSILON:g}$ on the road of the first screen, "
        f"with a clone that was trained too briefly: {SPREAD[0]:.0%} of its draws are of no habit. "
        f"The line keeps {int(c.kept.sum())} of {N} candidates. Right is "
        f"{dense[1] / dense[0]:.0f} times as dense as left, and the penalty is the same on both: "
        "0.",
    )


def eq_5() -> Picture:
    """The K-th largest of what is kept."""
    c = candidates()
    kth = kth_largest(c.q, c.kept, K).item()
    best = int(c.q.argmax())
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, 2.5))
        method.draw_kth(figure.subplots(), c.q.numpy(), c.kept.numpy(), K, kth)
    true = float(true_value(c.actions[best].numpy()))
    return Picture(
        figure,
        f"{N} bars, the values of the candidates from the largest to the smallest. The first is "
        f"dropped; the {K}th largest of those that are kept is marked, and a line goes through it.",
        f"What {{eq}}`eq-5` takes from these candidates. The largest value, {_said(c.q[best])}, is "
        f"of a dropped candidate; in truth it is {_said(true)}. The {_ordinal(K)} largest of the "
        f"kept ones, {_said(kth)}, becomes the target; with $K = 1$ it would be "
        f"{_said(kth_largest(c.q, c.kept, 1))}.",
    )


def eq_6() -> Picture:
    """How the policy weighs what is kept."""
    c = candidates()
    weights = [implicit_probabilities(c.q, c.kept, alpha) for alpha in ALPHAS]
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, 3.3))
        axes = figure.subplots(len(ALPHAS), 1, sharex=True)
        drawn = [w.numpy() for w in weights]
        method.draw_weights(axes, c.actions.numpy(), c.kept.numpy(), drawn, ALPHAS)
    left = [float(w[c.actions < 0].sum()) for w in weights]
    told = ", ".join(f"{share:.0%} at {alpha:g}" for share, alpha in zip(left, ALPHAS, strict=True))
    return Picture(
        figure,
        "Three panels, in each the probability of every candidate over its action. With alpha 0 "
        "all that are kept are equally likely; with a larger alpha those on the left, whose value "
        "is higher, take over. A dropped candidate has none in any.",
        f"{{eq}}`eq-6` on the candidates that are kept. At $\\alpha = 0$ each has the same weight, "
        "so the policy is the clone inside its support. The better of the two habits is the rare "
        f"one on the left: its share grows with $\\alpha$, {told}. Crosses are dropped: they have "
        "no weight at any $\\alpha$.",
    )


def _said(value) -> str:
    return f"{float(value):.2f}".replace("-", "−")


def _ordinal(k: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(k, f"{k}th")
