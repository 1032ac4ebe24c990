"""Widget: Theorem 1 as bars. What a learner believes, times the policy that its penalty stands for,
is the policy that it gets.
"""

from __future__ import annotations

import numpy as np
import traitlets
from jaxtyping import Float

from arq_core.widgets.base import Slider, Widget, WidgetError, fixed, percent, refuse

SUM_TOLERANCE = 1e-6  # of probabilities
NOTE = (
    "Q and penalties are in nats: the temperature is 1. Dashed on the right: the policy at the "
    "least strength."
)


class Pull(Widget):
    """One state with A actions at T strengths of a penalty, evenly spaced from `strengths[0]`.

    q [A]; pi_p [T, A], the policy proportional to e^-p; pi [T, A], that of both algorithms; sides
    [T, 2]: the two objectives of T3 at pi, nats. The action of the largest Q is the one watched,
    beside the one that the strongest penalty likes best.
    """

    title = "A pull towards a policy"
    script = "pull.js"
    strength = traitlets.Float(1.0).tag(sync=True)

    def __init__(
        self,
        q: Float[np.ndarray, " A"],
        strengths: Float[np.ndarray, " T"],
        pi_p: Float[np.ndarray, "T A"],
        pi: Float[np.ndarray, "T A"],
        sides: Float[np.ndarray, "T 2"],
        **position,
    ):
        arrays, problem, words = dict(q=q, pi_p=pi_p, pi=pi, sides=sides), "", {}
        low, high, step = 0.0, 1.0, 1.0
        try:
            arrays = {name: np.asarray(x, dtype=float) for name, x in arrays.items()}
            strengths = np.asarray(strengths, dtype=float)
            _check(strengths, **arrays)
            low, high = float(strengths[0]), float(strengths[-1])
            step = round((high - low) / (len(strengths) - 1), 9)
            watched, usual = int(arrays["q"].argmax()), int(arrays["pi"][-1].argmax())
            words = dict(low=low, step=step, watched=watched, usual=usual, note=NOTE)
        except WidgetError as error:
            problem = str(error)
        control = Slider("strength", "Strength", low, high, step)
        super().__init__(arrays, words, [control], problem, **position)

    def finding(self) -> str:
        words, arrays = self.words, self.arrays
        i, j = round((self.strength - words["low"]) / words["step"]), words["watched"]
        given, ours, free = arrays["pi_p"][i, j], arrays["pi"][i, j], arrays["pi"][0, j]
        left, right = (fixed(x, 2) for x in arrays["sides"][i])
        return (
            f"Strength {fixed(self.strength, 1)}: of action {j + 1} the penalty's own policy πₚ "
            f"has {percent(given, 1)}, and the policy π ∝ πₚ exp(Q) has {percent(ours, 1)}, where "
            f"it has {percent(free, 1)} at strength {fixed(words['low'], 1)}. Both objectives at "
            f"π: ⟨π, Q⟩ − KL(π, πₚ) = {left}, ⟨π, Q − p⟩ − Z + H(π) = {right}."
        )


def _check(strengths: np.ndarray, **arrays: np.ndarray) -> None:
    refuse("strengths", strengths)
    for name, x in arrays.items():
        refuse(name, x)
    places, actions = len(strengths), arrays["q"].shape[-1]
    wanted = dict(q=(actions,), pi_p=(places, actions), pi=(places, actions), sides=(places, 2))
    if (seen := {name: x.shape for name, x in arrays.items()}) != wanted or strengths.ndim != 1:
        raise WidgetError(
            f"saw shapes {seen} for {strengths.shape} strengths, expected {wanted}; give a row for "
            "each strength."
        )
    steps = np.diff(strengths)
    if places < 2 or not (steps > 0).all() or np.ptp(steps) > 1e-4 * steps[0]:
        raise WidgetError(
            f"strengths: saw {strengths}, expected at least two that rise in equal steps."
        )
    for name in ("pi_p", "pi"):
        p = arrays[name]
        if (p < 0).any() or (np.abs(p.sum(-1) - 1) > SUM_TOLERANCE).any():
            raise WidgetError(
                f"{name}: saw entries from {p.min():.3g} and sums from {p.sum(-1).min():.4g} to "
                f"{p.sum(-1).max():.4g}, expected probabilities of sum 1 in each row."
            )
