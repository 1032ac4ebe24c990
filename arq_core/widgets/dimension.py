"""Widget: what share of a normal behaviour a threshold on its density keeps, as dimensions are
added and as behaviour narrows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import traitlets
from scipy.special import gammainc, gammaincinv

from arq_core.widgets.base import Choice, Slider, Widget, WidgetError, fixed, percent

# dimensions: a hand of 28 actuators
MOST = 28
RULES = ("a fixed ε", "an ε per dimension", "a quantile")


@dataclass(frozen=True)
class Measured:
    """A real behaviour: the share of its candidates above a fixed log epsilon, in `dim`
    dimensions.
    """

    name: str
    dim: int
    share: float
    log_epsilon: float


class Dimension(Widget):
    """The filter has a dimension: the share of N(0, width² I) that each rule keeps, and the
    threshold that it sets.

    Rules: log ε itself; log ε times the dimension; the threshold that keeps the share `keep`.
    Widths are in units of the standardised action. `measured` behaviours are shown as points. The
    share is `support.normal_share`, computed here and in the script for every position.
    """

    title = "The filter has a dimension"
    script = "dimension.js"
    rule = traitlets.Int(0).tag(sync=True)
    dim = traitlets.Int(3).tag(sync=True)
    width = traitlets.Float(1.0).tag(sync=True)
    log_epsilon = traitlets.Float(-5.0).tag(sync=True)
    keep = traitlets.Float(0.95).tag(sync=True)

    def __init__(self, measured: Sequence[Measured] = (), **position):
        problem = ""
        try:
            _check(measured)
        except WidgetError as error:
            problem = str(error)
        controls = [
            Choice("rule", "Rule", RULES),
            Slider("dim", "A, dimensions", 1, MOST, 1),
            Slider("width", "Width", 0.02, 1.5, 0.01),
            Slider("log_epsilon", "log ε", -20.0, 5.0, 0.25, "nats"),
            Slider("keep", "Quantile keeps", 0.5, 0.99, 0.01),
        ]
        points = (
            []
            if problem
            else [
                dict(name=b.name, dim=b.dim, share=float(b.share), log_epsilon=float(b.log_epsilon))
                for b in measured
            ]
        )
        super().__init__(
            {}, dict(rules=list(RULES), most=MOST, measured=points), controls, problem, **position
        )

    def threshold(self, dim: int) -> float:
        """log ε (nats) that the chosen rule sets for the present width in `dim` dimensions."""
        quantile = -gammaincinv(dim / 2, self.keep) + _densest(dim, self.width)
        return (self.log_epsilon, self.log_epsilon * dim, float(quantile))[self.rule]

    def share(self, dim: int) -> float:
        """The share of N(0, width² I) in `dim` dimensions that the chosen rule keeps."""
        return (
            self.keep
            if RULES[self.rule] == "a quantile"
            else float(gammainc(dim / 2, max(0.0, _densest(dim, self.width) - self.threshold(dim))))
        )

    def finding(self) -> str:
        kept = {a: percent(self.share(a), 1) for a in (1, self.dim, MOST)}
        return (
            f"At A = {self.dim} and width {fixed(self.width, 2)} {RULES[self.rule]} "
            f"(log ε = {fixed(self.threshold(self.dim), 2)}) keeps {kept[self.dim]} of "
            "a normal behaviour, whose densest action has log-density "
            f"{fixed(_densest(self.dim, self.width), 2)}; by the same rule {kept[1]} "
            f"are kept at A = 1 and {kept[MOST]} at A = {MOST}."
        )


def _densest(dim: int, width: float) -> float:
    """The log-density of N(0, width² I) at its mean, nats; a draw lies below it by half a
    chi-squared of `dim` degrees.
    """
    return -0.5 * dim * math.log(2 * math.pi * (width * width))


def _check(measured: Sequence[Measured]) -> None:
    for b in measured:
        if not (1 <= b.dim <= MOST and 0 <= b.share <= 1 and math.isfinite(b.log_epsilon)):
            raise WidgetError(
                f"measured: saw {b}, expected 1 to {MOST} dimensions, a share from 0 to 1 "
                "and a finite log epsilon; leave it out or repair its source."
            )
