"""Widget of the first screen: a learner that believes in an action nobody recorded, and a line
through the density of the recordings that takes it away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import traitlets

from arq_core.widgets.base import Slider, Widget, fixed, percent

GRID = np.linspace(-1, 1, 401)
# the recordings, a mixture of normals: (share, middle, width)
HABITS = ((0.2, -0.5, 0.1), (0.8, 0.45, 0.1))
# the true value: what hitting the tree costs, and a hill (height, middle, width) for each way round
CRASH, WAYS = -0.5, ((1.3, -0.5, 0.22), (1.0, 0.45, 0.22))
ERROR = (1.6, -0.03, 0.05)  # of the learner's Q, a hill where nobody went
PLACES = ("left", "straight on", "right")
EDGES = (-0.25, 0.2)  # between the places
PAPER = -5.0  # log epsilon of the paper; what a reader without scripts is shown
OPENING = -11.0  # a line so low that the false peak is above it
NOTE = (
    "An example made for this figure, so its true value is known: {crash} for hitting the tree, "
    "and a hill for each way round it. The learner’s Q is that value and an error where the "
    "recordings say nothing. The density is the clone’s, in nats: a step of one is a factor of "
    "2.7. The paper’s line is log ε = {paper}."
)


@dataclass(frozen=True)
class Choice:
    """The best of some actions by Q: the action, what it is believed to be worth, and is worth."""

    action: float
    believed: float
    true: float

    def place(self) -> str:
        """Where it steers, in words."""
        return f"{PLACES[sum(self.action > edge for edge in EDGES)]} ({fixed(self.action, 2)})"


def _hills(actions: np.ndarray, hills) -> np.ndarray:
    return sum(h * np.exp(-0.5 * ((actions - m) / w) ** 2) for h, m, w in hills)


def log_density(actions: np.ndarray, habits=HABITS) -> np.ndarray:
    """Of a mixture of normals (share, middle, width), nats."""
    return np.log(
        _hills(actions, [(share / (w * math.sqrt(2 * math.pi)), m, w) for share, m, w in habits])
    )


def true_value(actions: np.ndarray) -> np.ndarray:
    """What an action is worth."""
    return CRASH + _hills(actions, WAYS)


def believed(actions: np.ndarray) -> np.ndarray:
    """The learner's Q: the true value and its error."""
    return true_value(actions) + _hills(actions, [ERROR])


def steering() -> dict[str, np.ndarray]:
    """One moment of a drive towards a tree, at a grid of actions [401] from left (-1) to right (1).

    log_prob: the clone's log-density, nats; truth: the true value; q: what the learner believes.
    """
    return dict(actions=GRID, log_prob=log_density(GRID), truth=true_value(GRID), q=believed(GRID))


class Hero(Widget):
    """Drag epsilon: of the actions whose density reaches it, the greedy learner takes the best.

    Rules: Eq. 4 (`types.in_support`) and Eq. 6 with infinite alpha
    (`policies.implicit_probabilities`).
    """

    title = "What nobody tried, and a line below which nothing may be chosen"
    script = "hero.js"
    log_epsilon = traitlets.Float(OPENING).tag(sync=True)

    def __init__(self, **position):
        words = dict(
            places=list(PLACES),
            edges=list(EDGES),
            note=NOTE.format(crash=fixed(CRASH, 1), paper=fixed(PAPER)),
        )
        controls = [Slider("log_epsilon", "log ε, the line", -14.0, 2.0, 0.25)]
        super().__init__(steering(), words, controls, **position)

    def kept(self, log_epsilon: float) -> np.ndarray:
        """Eq. 4: which actions may be chosen, [401]."""
        return self.arrays["log_prob"] >= log_epsilon

    def choice(self, log_epsilon: float = -math.inf) -> Choice | None:
        """The greedy choice among those in support (without a line: of all), None of none."""
        kept = self.kept(log_epsilon)
        if not kept.any():
            return None
        best = int(np.where(kept, self.arrays["q"], -np.inf).argmax())
        return Choice(*(float(self.arrays[name][best]) for name in ("actions", "q", "truth")))

    def finding(self) -> str:
        return self.said(self.log_epsilon)

    def said(self, e: float) -> str:
        """The sentences for a line at e."""
        line, kept, density = f"log ε = {fixed(e, 2)}", self.kept(e), self._density()
        free, chosen = self.choice(), self.choice(e)
        if not chosen:
            return (
                f"{line} is above the densest action: nothing is left to choose from, not even "
                "what the recordings do most."
            )
        shares = (
            f"{line} keeps {percent(kept.sum(), len(kept))} of the actions, and with them "
            f"{percent(density[kept].sum(), density.sum())} of what was recorded."
        )
        told = _told(chosen)
        if chosen == free:
            return f"{shares} The learner picks {told}: as if it were free."
        return f"{shares} The learner picks {told}. Free, it would pick {_told(free)}."

    def _density(self) -> np.ndarray:
        return np.exp(self.arrays["log_prob"].astype(float))

    def picture(self) -> str:
        """Both curves with the paper's line, as a drawing for readers without JavaScript."""
        if self.problem:
            return ""
        free, chosen = self.choice(), self.choice(PAPER)
        kept = self.kept(PAPER)
        cut = "".join(
            f"M{_x(a):.1f} 10V330"
            for a, k in zip(self.arrays["actions"], kept, strict=True)
            if not k
        )
        hill = f"M{_x(-1):.1f} 330L{self._curve('log_prob', _down)[1:]}L{_x(1):.1f} 330z"
        ring = lambda c, y: f"M{_x(c.action) - 5:.1f} {y:.1f}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0"
        marks = [
            ("arq-line arq-wall", cut),
            ("arq-hill arq-kept", hill),
            ("arq-rule arq-dropped", f"M{_x(-1):.1f} {_down(PAPER):.1f}H{_x(1):.1f}"),
            ("arq-rule arq-truth", self._curve("truth", _up)),
            ("arq-line arq-extra", self._curve("q", _up)),
            ("arq-hollow arq-extra", ring(free, _up(free.believed))),
            ("arq-dots arq-extra", ring(chosen, _up(chosen.believed))),
        ]
        words = [
            (_x(free.action) + 9, _up(free.believed) + 4, "free choice"),
            (_x(chosen.action), _up(chosen.believed) - 10, "kept choice"),
            (_x(0.55), _down(PAPER) - 5, f"log ε = {fixed(PAPER)}"),
            (12, 170, "above: Q (line) and the true value (dashes); below: the density"),
        ]
        drawn = "".join(f'<path class="{kind}" d="{d}"/>' for kind, d in marks)
        texts = "".join(f'<text x="{x:.0f}" y="{y:.0f}">{text}</text>' for x, y, text in words)
        return (
            '<noscript><div class="arq-plots"><svg viewBox="0 0 420 340" width="420" role="img" '
            f'aria-label="{self.title}; the line is the paper’s.">{drawn}{texts}</svg></div>'
            f"<p>{self.said(PAPER)}</p></noscript>"
        )

    def _curve(self, name: str, y) -> str:
        points = zip(self.arrays["actions"], self.arrays[name], strict=True)
        return "M" + "L".join(f"{_x(a):.1f} {y(v):.1f}" for a, v in points)


def _told(c: Choice) -> str:
    return f"{c.place()}, believes in {fixed(c.believed, 2)} and gets {fixed(c.true, 2)}"


def _x(action: float) -> float:
    return 10 + 200 * (action + 1)


def _up(value: float) -> float:  # values, in the upper half of the picture
    return 110 - 65 * value


def _down(log_prob: float) -> float:  # log-densities, in the lower half
    return 200 - 9 * log_prob
