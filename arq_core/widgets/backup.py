"""Widget: what Eq. 5 bootstraps from a state's candidates, and how Eq. 6 chooses among them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import traitlets

from arq_core.widgets.base import (
    MAX_POINTS,
    Slider,
    Widget,
    WidgetError,
    fixed,
    percent,
    refuse,
    thinned,
)

# of a value of Q: as many decimals as show the spread of all values to so many digits
DIGITS = 3


class Backup(Widget):
    """K-th largest and alpha: candidates by their Q, what the paper and the released code bootstrap
    from, and the implicit policy.

    `q` and `log_prob` [U, N] are those of N candidates at U named states, `q_data` and
    `log_prob_data` [U] those of the dataset's own next action, which the released code adds to the
    candidates without filtering it. One Q serves both equations here; in learning Eq. 5 takes the
    least of two target critics. Rules: `qlearning.BOOTSTRAPS`, `policies.ImplicitPolicy`.
    """

    title = "K-th largest and alpha"
    script = "backup.js"
    state_index = traitlets.Int(0).tag(sync=True)
    k = traitlets.Int(1).tag(sync=True)
    log_epsilon = traitlets.Float(-5.0).tag(sync=True)
    log_alpha = traitlets.Float(1.0).tag(sync=True)

    def __init__(
        self,
        states: Sequence[str],
        q: np.ndarray,
        log_prob: np.ndarray,
        q_data: np.ndarray,
        log_prob_data: np.ndarray,
        **position,
    ):
        arrays, problem, u, n = {}, "", len(states), np.shape(q)[-1] if np.ndim(q) else 0
        try:
            arrays = _checked(q, log_prob, q_data, log_prob_data, u, n)
        except WidgetError as error:
            problem = str(error)
        controls = (
            [Slider("state_index", "State", 0, u - 1, 1, names=tuple(states))] if u > 1 else []
        )
        controls += [
            Slider("k", "K", 1, max(1, min(n, MAX_POINTS)), 1),
            Slider("log_epsilon", "log ε", -20.0, 5.0, 0.25, "nats"),
            Slider("log_alpha", "log₁₀ α", -2.0, 4.0, 0.1),
        ]
        note = (
            f"{MAX_POINTS:,} of {n:,} candidates a state are used, evenly spaced; K "
            "counts among these."
            if n > MAX_POINTS
            else ""
        )
        super().__init__(
            arrays,
            dict(states=list(states), digits=0 if problem else _digits(arrays["q"]), note=note),
            controls,
            problem,
            **position,
        )

    def bootstraps(self) -> dict[str, tuple[float, str]]:
        """By variant, the value that Eq. 5 bootstraps from at the present state, and which action's
        it is.
        """
        q, of_data = self._row("q"), float(self.arrays["q_data"][self.state_index])
        inside = np.sort(q[self._kept()])[::-1]
        m, data = len(inside), (of_data, "the data's own action")
        kth = (
            (inside[self.k - 1], "the K-th largest")
            if m >= self.k
            else (inside[-1], "the least in support, as they are fewer than K")
            if m
            else data
        )
        return {"paper": kth, "released": kth if m >= self.k and kth[0] >= of_data else data}

    def probabilities(self, filtered: bool = True) -> np.ndarray:
        """Eq. 6 over the present candidates, [N]: those in support (the first where none is), or
        all of them.
        """
        q, kept = self._row("q"), self._kept()
        kept = (
            np.ones_like(kept) if not filtered else kept if kept.any() else np.arange(len(q)) == 0
        )
        weight = np.where(
            kept, np.exp(np.minimum(10.0**self.log_alpha * (q - q[kept].max()), 0)), 0
        )
        return weight / weight.sum()

    def finding(self) -> str:
        n, m = self.arrays["q"].shape[1], int(self._kept().sum())
        paper, released = (
            f"{fixed(value, self.words['digits'])} ({whose})"
            for value, whose in self.bootstraps().values()
        )
        p, free = self.probabilities(), self.probabilities(filtered=False)
        alpha = fixed(10.0**self.log_alpha, max(0, 1 - math.floor(self.log_alpha)))
        return (
            f"{self.words['states'][self.state_index]}: {m} of {n} candidates are in "
            f"support; with K = {self.k} the paper bootstraps from {paper}, the "
            f"released code from {released}; at α = {alpha} Eq. 6 "
            f"{'' if m else 'takes the first, a plain draw, and '}gives the likeliest candidate "
            f"{percent(p.max(), 1)} and chooses as if among {fixed(_effective(p), 1)} "
            f"equal ones, without the filter {percent(free.max(), 1)} and "
            f"{fixed(_effective(free), 1)}."
        )

    def _row(self, name: str) -> np.ndarray:
        return self.arrays[name][self.state_index].astype(float)

    def _kept(self) -> np.ndarray:
        # Eq. 4
        return self.arrays["log_prob"][self.state_index] >= self.log_epsilon


def _effective(p: np.ndarray) -> float:
    """exp of the entropy of p: so many equally likely candidates would be as uncertain."""
    return math.exp(-sum(x * math.log(x) for x in p if x > 0))


def _digits(q: np.ndarray) -> int:
    spread = float(q.max()) - float(q.min())
    return 2 if spread == 0 else min(6, max(0, DIGITS - 1 - math.floor(math.log10(spread))))


def _checked(
    q: np.ndarray,
    log_prob: np.ndarray,
    q_data: np.ndarray,
    log_prob_data: np.ndarray,
    u: int,
    n: int,
) -> dict[str, np.ndarray]:
    arrays = {
        "q": np.asarray(q),
        "log_prob": np.asarray(log_prob),
        "q_data": np.asarray(q_data),
        "log_prob_data": np.asarray(log_prob_data),
    }
    seen, expected = [x.shape for x in arrays.values()], [(u, n), (u, n), (u,), (u,)]
    if seen != expected:
        raise WidgetError(
            f"{', '.join(arrays)}: saw shapes {seen} with {u} names of states, expected "
            f"{expected}; give U names, and for each N candidates and one action of the "
            "data."
        )
    for name, x in arrays.items():
        refuse(name, x)
    return {name: thinned(x, 1) if x.ndim == 2 else x for name, x in arrays.items()}
