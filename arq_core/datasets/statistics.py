"""What a dataset looks like, in the few numbers that decide how a learner fares on it. Everything
is a function of Transitions.

Nothing is drawn at random: where a full computation would be slow, rows at even distances stand for
all of them (`spaced`), so that the same data always give the same numbers. Two halves of the data
are its even and its odd episodes, so that a state is never compared with the steps around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from arq_core.algorithm.types import DataError, Transitions

# transitions that stand for all in searches for neighbours; ours: seconds on one core
ROWS = 50_000
POINTS = 3_000  # of a picture
QUERIES = 400  # states at which the behaviour is looked at from near
# nearest states in each half of the data, whose actions are compared there; ours
NEIGHBOURS = 64
# of a dimension's standard deviation: no width below is resolved, so an atom is not infinitely
# likely; ours
RESOLUTION = 0.05
ROUNDS = 40  # of expectation maximisation
# quantiles at which the two components are split first: a rare mode is found from one of the outer
# ones
STARTS = (0.1, 0.5, 0.9)
NULL_DRAWS = 1_000  # Gaussian neighbourhoods that say what gain is chance
CHANCE = 0.95  # quantile of their gains


@dataclass(frozen=True)
class Episodes:
    """Of each episode, in order: its transitions as kept, the sum of their rewards, whether it
    ended in a terminal (else it was cut).
    """

    length: Int[np.ndarray, " n"]
    returns: Float[np.ndarray, " n"]
    ended: Bool[np.ndarray, " n"]


def episodes(data: Transitions) -> Episodes:
    """Lengths and returns over the transitions that a reader kept: a cut episode lacks the reward
    of its last step.
    """
    number = np.unique(data.episode.numpy(), return_inverse=True)[1]
    returns, ended = (
        np.bincount(number, x.double().numpy()) for x in (data.rewards, data.terminals)
    )
    return Episodes(np.bincount(number), returns, ended > 0)


def spaced(count: int, most: int) -> Int[np.ndarray, " n"]:
    """At most `most` row numbers out of `count`, at even distances from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def atoms(data: Transitions) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"]]:
    """Shares of the entries of each action dimension that lie exactly at -1 and exactly at +1, the
    faces of the box.
    """
    return tuple((data.actions == face).double().mean(0).numpy() for face in (-1, 1))


def standardised(x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
    """Mean 0 and standard deviation 1 in each dimension; dimensions that never change are left
    out.
    """
    x = x.astype(np.float64)
    spread = x.std(0)
    return ((x - x.mean(0)) / np.where(spread > 0, spread, 1))[:, spread > 0]


def principal_axes(
    x: Float[np.ndarray, "n D"],
) -> tuple[Float[np.ndarray, "D D"], Float[np.ndarray, " D"]]:
    """Columns of principal axes of centred data, largest variance first, and each one's share of
    the variance. Signs are fixed.
    """
    variance, axes = np.linalg.eigh(x.T @ x / len(x))
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(len(variance))])
    return axes[:, ::-1], variance[::-1].clip(0) / max(variance.sum(), 1e-300)


@dataclass(frozen=True)
class Coverage:
    """Where the data are. Points are evenly spaced state-action pairs, standardised and projected
    to their first two principal axes.

    `nearest` is the distance of such a pair to the nearest one of the other half of the episodes,
    `typical` the median distance of two pairs of different halves, both in all standardised
    dimensions. Their ratio is 1 where pairs lie as if scattered at random in many dimensions.
    """

    points: Float[np.ndarray, "n 2"]
    explained: Float[np.ndarray, " 2"]  # shares of variance of the two axes
    rows: Int[np.ndarray, " n"]  # of the transitions
    nearest: Float[np.ndarray, " n"]
    typical: float


def coverage(data: Transitions) -> Coverage:
    """Projection and nearest-neighbour spread of state-action pairs; needs two episodes."""
    rows, odd = _halves(data)
    pairs = standardised(
        np.concatenate([data.states[data.state[rows]].numpy(), data.actions[rows].numpy()], 1)
    )
    axes, share = principal_axes(pairs)
    shown = spaced(len(rows), POINTS)
    nearest = np.empty(len(shown))
    for half in (False, True):
        mine = odd[shown] == half
        nearest[mine] = cKDTree(pairs[odd != half]).query(pairs[shown[mine]])[0]
    even, other = pairs[~odd], pairs[odd]
    n = min(len(even), len(other), POINTS)
    apart = np.linalg.norm(
        even[spaced(len(even), n)[:n]] - other[spaced(len(other), n)[:n]][::-1], axis=1
    )
    two = np.pad(pairs[shown] @ axes[:, :2], ((0, 0), (0, max(0, 2 - axes.shape[1]))))
    return Coverage(
        two,
        np.pad(share[:2], (0, max(0, 2 - len(share)))),
        rows[shown],
        nearest,
        float(np.median(apart)),
    )


def _halves(data: Transitions) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Evenly spaced transitions, and whether each is of an odd episode."""
    number = np.unique(data.episode.numpy(), return_inverse=True)[1]
    rows = spaced(len(number), ROWS)
    odd = number[rows] % 2 == 1
    if odd.all() or not odd.any():
        raise DataError(
            f"episodes: saw {number[-1] + 1}, expected at least two, one to compare "
            "with the other; give more data."
        )
    return rows, odd


@dataclass(frozen=True)
class Modes:
    """How much better than one Gaussian a mixture of two predicts the behaviour near a state, in
    nats an action.

    At each of Q states: the NEIGHBOURS nearest states of either half of the episodes, their actions
    along the axis in which those of one half spread most. Both densities are fitted to one half and
    judged on the other, and the other way round (held-out likelihood as the test of a mixture:
    Smyth 2000). Chance is measured by the same procedure on neighbourhoods that are Gaussian. What
    a policy varies with the state within a neighbourhood counts as spread.
    """

    rows: Int[np.ndarray, " Q"]  # transitions whose state was looked at
    # nats an action; below 0 the second component is not worth its fit
    gain: Float[np.ndarray, " Q"]
    # a Gaussian neighbourhood stays below it with probability CHANCE
    chance: float
    # the 2 NEIGHBOURS actions along the axis, standard deviations of the data set
    neighbours: Float[np.ndarray, "Q n"]

    @property
    def share(self) -> float:
        """Of the states at which the mixture's gain is more than chance."""
        return float((self.gain > self.chance).mean())


def modes(data: Transitions) -> Modes:
    """Where one Gaussian for each state does not describe the behaviour."""
    rows, odd = _halves(data)
    states, actions = (
        standardised(data.states[data.state[rows]].numpy()),
        standardised(data.actions[rows].numpy()),
    )
    if states.shape[1] == 0 or actions.shape[1] == 0:
        raise DataError(
            "states or actions: saw no dimension that changes, expected at least one "
            "of each; look at the file."
        )
    at = spaced(len(rows), QUERIES)
    few = min(NEIGHBOURS, int(odd.sum()), int((~odd).sum()))
    near = []
    for half in (False, True):
        mine = np.flatnonzero(odd == half)
        # [Q few A]
        near.append(actions[mine[cKDTree(states[mine]).query(states[at], k=range(1, few + 1))[1]]])
    gains, shown = zip(*(_gain(near[i], near[1 - i]) for i in (0, 1)), strict=True)
    return Modes(rows[at], np.mean(gains, 0), _chance(few), shown[0])


def _gain(
    fitted: Float[np.ndarray, "Q n A"], judged: Float[np.ndarray, "Q m A"]
) -> tuple[np.ndarray, np.ndarray]:
    """The mixture's mean held-out gain at each state, and the actions of both halves along the
    axis.
    """
    centred = fitted - fitted.mean(1, keepdims=True)
    # [Q A]
    axis = np.linalg.svd(centred, full_matrices=False)[2][:, 0]
    x, y = (np.einsum("qna,qa->qn", a, axis) for a in (fitted, judged))
    return (mixture_log_prob(x, y) - gaussian_log_prob(x, y)).mean(1), np.concatenate([x, y], 1)


@cache
def _chance(n: int) -> float:
    x, y = np.random.default_rng(0).standard_normal((2, NULL_DRAWS, n))
    gain = ((mixture_log_prob(a, b) - gaussian_log_prob(a, b)).mean(1) for a, b in ((x, y), (y, x)))
    return float(np.quantile(np.mean(list(gain), 0), CHANCE))


def gaussian_log_prob(
    x: Float[np.ndarray, "Q n"], y: Float[np.ndarray, "Q m"]
) -> Float[np.ndarray, "Q m"]:
    """log-density of y under the Gaussian of x's mean and variance (at least RESOLUTION wide)."""
    return _normal(y, x.mean(1, keepdims=True), np.maximum(x.std(1, keepdims=True), RESOLUTION))


def _normal(y, mean, width):
    return -0.5 * ((y - mean) / width) ** 2 - np.log(width) - 0.5 * math.log(2 * math.pi)


def mixture_log_prob(
    x: Float[np.ndarray, "Q n"], y: Float[np.ndarray, "Q m"]
) -> Float[np.ndarray, "Q m"]:
    """log-density of y under the two-component mixture that expectation maximisation fits to x, the
    likeliest for x of three starts.
    """
    best, kept = np.full(len(x), -np.inf), np.empty_like(y)
    for start in STARTS:
        fit = _fit(x, np.quantile(x, start, axis=1, keepdims=True))
        likelihood = _mixture(x, *fit).mean(1)
        kept = np.where((likelihood > best)[:, None], _mixture(y, *fit), kept)
        best = np.maximum(best, likelihood)
    return kept


def _mixture(y, weight, mean, width):
    """log-density [Q m] of a mixture whose parameters are [2 Q 1]."""
    return np.logaddexp(*(np.log(weight) + _normal(y, mean, width)))


def _fit(x, split):
    """Weights, means and widths [2 Q 1], from the two sides of a split."""
    # [2 Q n]
    share = np.stack([x <= split, x > split]) * 0.8 + 0.1
    for _ in range(ROUNDS):
        weight = share.mean(2, keepdims=True)
        mean = (share * x).mean(2, keepdims=True) / weight
        width = np.maximum(
            np.sqrt((share * (x - mean) ** 2).mean(2, keepdims=True) / weight), RESOLUTION
        )
        part = np.log(weight) + _normal(x, mean, width)
        share = np.exp(part - np.logaddexp(*part)).clip(1e-6)
    return weight, mean, width


def facts(data: Transitions) -> dict[str, float]:
    """Counts, returns and lengths of a dataset as numbers: what a card or a comparison needs."""
    e, (low, high) = episodes(data), atoms(data)
    return {
        "transitions": len(data.actions),
        "states": len(data.states),
        "episodes": len(e.length),
        "ended": int(e.ended.sum()),
        "state_dim": data.states.shape[1],
        "action_dim": data.actions.shape[1],
        "return_mean": float(e.returns.mean()),
        "return_std": float(e.returns.std()),
        "return_min": float(e.returns.min()),
        "return_max": float(e.returns.max()),
        "length_min": int(e.length.min()),
        "length_median": float(np.median(e.length)),
        "length_max": int(e.length.max()),
        "at_box": float((low + high).mean()),
        "rewards_min": float(data.rewards.min()),
        "rewards_max": float(data.rewards.max()),
    }
