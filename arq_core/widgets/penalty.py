"""Widget: what each row of Table 1 does to an action that is good but rare in the data, and to
actions whose Q is wrong.
"""

from __future__ import annotations

import math

import numpy as np
import traitlets
from jaxtyping import Bool, Float
from scipy.special import wrightomega

from arq_core.widgets.base import Choice, Slider, Widget, WidgetError, fixed, percent, refuse

ROWS = (
    "no penalty",
    "support of Eq. 4",
    "BRAC-KL",
    "BRAC-MMD²",
    "TD3+BC",
    "anti-exploration",
    "PLOFF",
    "MOPO",
    "CQL",
    "oracle",
)
VERDICTS = ("keeps", "drowns", "falls")
BANDWIDTH = 0.2  # of the Gaussian kernel of BRAC-MMD², in units of the action
STEPS = 4000  # at most, of mirror ascent for BRAC-MMD²
LN10 = math.log(10)
HALVINGS = 100  # of the interval that holds CQL's constant

Numbers = Float[np.ndarray, " N"]


class Penalty(Widget):
    """One state with N actions, whose best is in the data with probability 10^log_rarity; pi =
    softmax(Q - p) for every row of Table 1.

    `actions`, `behavior` (probabilities, of which only the proportions without the best action are
    used), the true `reward`, the learner's `q` and `noise` (std of an outcome) are [N]. Q, rewards
    and p are in nats, in units of the temperature of Theorem 1. Exact stand-ins for what is
    learned: the reconstruction error is the squared distance to the nearest action in the support
    of Eq. 4, PLOFF's D that distance (alpha_1 = 1, alpha_2 = alpha), MOPO's Sigma the noise,
    beta(s) the behaviour's mean. TD3+BC, PLOFF and BRAC-MMD² (its derivative in pi) are the
    published forms, as arq_core.theory.penalties has them with printed=False. BRAC-MMD² and CQL
    depend on pi: theirs is the fixed point pi = softmax(Q - p(pi)).
    """

    title = "A rare good action under each penalty"
    script = "penalty.js"
    row = traitlets.Int(2).tag(sync=True)
    log_rarity = traitlets.Float(-2.0).tag(sync=True)
    log_alpha = traitlets.Float(0.5).tag(sync=True)
    log_epsilon = traitlets.Float(-7.0).tag(sync=True)

    def __init__(
        self,
        actions: Numbers,
        behavior: Numbers,
        reward: Numbers,
        q: Numbers,
        noise: Numbers,
        **position,
    ):
        arrays, problem = (
            dict(actions=actions, behavior=behavior, reward=reward, q=q, noise=noise),
            "",
        )
        try:
            arrays = _checked(arrays)
        except WidgetError as error:
            arrays, problem = {}, str(error)
        controls = [
            Choice("row", "Penalty", ROWS),
            _slider("log_rarity", "Best action in the data", -4.0, -0.3, 0.1, _share),
            _slider("log_alpha", "Strength α", -2.0, 2.0, 0.1, _strength),
            _slider("log_epsilon", "ε", -14.0, 0.0, 0.25, lambda e: _share(e / LN10)),
        ]
        super().__init__(
            arrays,
            dict(
                rows=list(ROWS),
                verdicts=list(VERDICTS),
                bandwidth=BANDWIDTH,
                steps=STEPS,
                halvings=HALVINGS,
            ),
            controls,
            problem,
            **position,
        )

    @property
    def best(self) -> int:
        """The action of the largest true reward, whose probability in the data is dragged."""
        return int(self.arrays["reward"].argmax())

    def wrong(self) -> Bool[np.ndarray, " N"]:
        """Actions whose Q is above their true reward."""
        return self.arrays["q"] > self.arrays["reward"]

    def beta(self) -> Numbers:
        """The behaviour's probabilities: the rarity on the best action, the rest in the proportions
        of `behavior`.
        """
        rarity, others = (
            10.0**self.log_rarity,
            np.where(np.arange(len(self.arrays["q"])) == self.best, 0, self._of("behavior")),
        )
        beta = (1 - rarity) * others / others.sum()
        beta[self.best] = rarity
        return beta

    def inside(self) -> Bool[np.ndarray, " N"]:
        """Eq. 4's support; the likeliest action where it is empty."""
        beta = self.beta()
        kept = beta >= math.exp(self.log_epsilon)
        return kept if kept.any() else np.arange(len(beta)) == beta.argmax()

    def penalty(self, row: int) -> Numbers:
        """p of a row of Table 1 at the policy that it ends with.

        CQL's is infinite where beta = 0: there any mu > 0 would cost that.
        """
        a, q, beta, alpha, name = (
            self._of("actions"),
            self._of("q"),
            self.beta(),
            10.0**self.log_alpha,
            ROWS[row],
        )
        away = np.abs(a[:, None] - a[self.inside()]).min(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "no penalty": lambda: np.zeros_like(q),
                "support of Eq. 4": lambda: np.where(self.inside(), 0, np.inf),
                "BRAC-KL": lambda: -alpha * np.log(beta),
                "BRAC-MMD²": lambda: 2 * alpha * _kernel(a) @ (self.policy(row) - beta),
                "TD3+BC": lambda: alpha * (a - (beta * a).sum()) ** 2,
                "anti-exploration": lambda: alpha * away**2,
                "PLOFF": lambda: q * (1 - np.exp(-alpha * away)),
                "MOPO": lambda: alpha * self._of("noise"),
                "CQL": lambda: np.where(beta > 0, alpha * (self.policy(row) / beta - 1), np.inf),
                "oracle": lambda: q - self._of("reward"),
            }[name]()

    def policy(self, row: int) -> Numbers:
        """softmax(Q - p): where soft policy iteration with that row ends in one state."""
        alpha = 10.0**self.log_alpha
        if ROWS[row] == "BRAC-MMD²":
            return _mmd_fixed_point(self._of("actions"), self._of("q"), self.beta(), alpha)
        if ROWS[row] == "CQL":
            return _cql_fixed_point(self._of("q"), self.beta(), alpha)
        return _softmax(self._of("q") - self.penalty(row))

    def value(self, pi: Numbers) -> float:
        """The true expected reward of a policy."""
        return float((pi * self._of("reward")).sum())

    def verdict(self, pi: Numbers) -> str:
        """keeps: the best action has at least half.

        Otherwise falls: actions of a wrong Q have more than the others; or else drowns.
        """
        wrong = self.wrong()
        rest = pi[~wrong].sum() - pi[self.best]
        return "keeps" if pi[self.best] >= 0.5 else "falls" if pi[wrong].sum() > rest else "drowns"

    def finding(self) -> str:
        policies = {name: self.policy(i) for i, name in enumerate(ROWS)}
        pi, oracle = policies[ROWS[self.row]], fixed(self.value(policies["oracle"]), 2)
        alpha, rarity = _strength(self.log_alpha), _share(self.log_rarity)
        by = {
            v: [name for name, one in policies.items() if self.verdict(one) == v] for v in VERDICTS
        }
        told = {
            v: f"{len(names)} {what} ({', '.join(names) or 'none'})"
            for (v, names), what in zip(
                by.items(),
                ("keep it", "drown it in more frequent actions", "fall for a wrong Q"),
                strict=True,
            )
        }
        return (
            f"The best action is {rarity} of the data. With α = {alpha} and ε = "
            f"{_share(self.log_epsilon / LN10)}, {ROWS[self.row]} takes it with "
            f"{percent(pi[self.best], 1)} and actions of a wrong Q with "
            f"{percent(pi[self.wrong()].sum(), 1)}: a true value of "
            f"{fixed(self.value(pi), 2)}, where the oracle has {oracle}. Of {len(ROWS)} "
            f"penalties {told['keeps']}, {told['drowns']}, {told['falls']}."
        )

    def _of(self, name: str) -> Numbers:
        return self.arrays[name].astype(float)


def _slider(name: str, label: str, low: float, high: float, step: float, said) -> Slider:
    """One over a logarithm, which reads the number itself."""
    places = range(round((high - low) / step) + 1)
    names = tuple(said(round(low + i * step, 2)) for i in places)
    return Slider(name, label, low, high, step, names=names)


def _share(log10: float) -> str:
    """A share by its logarithm, with two digits: 1.0%, 0.010%."""
    return fixed(100 * 10.0**log10, max(1, -1 - math.floor(log10))) + "%"


def _strength(log10: float) -> str:
    """A strength by its logarithm, with two digits: 3.2, 0.10."""
    return fixed(10.0**log10, max(0, 1 - math.floor(log10)))


def _softmax(x: Numbers) -> Numbers:
    weight = np.exp(x - x.max())
    return weight / weight.sum()


def _kernel(a: Numbers) -> Float[np.ndarray, "N N"]:
    return np.exp(-((a[:, None] - a) ** 2) / (2 * BANDWIDTH**2))


def _mmd_fixed_point(a: Numbers, q: Numbers, beta: Numbers, alpha: float) -> Numbers:
    """pi = softmax(Q - witness(pi)) by mirror ascent with steps that never overshoot, as
    penalty_study.mmd_fixed_point.
    """
    logits, twice = np.zeros_like(q), 2 * alpha * _kernel(a)
    for _ in range(STEPS):
        change = (q - twice @ (_softmax(logits) - beta) - logits) / (1 + 2 * alpha)
        logits = logits + change
        if np.abs(change).max() < 1e-12:
            break
    return _softmax(logits)


def _cql_fixed_point(q: Numbers, beta: Numbers, alpha: float) -> Numbers:
    """mu = softmax(Q - alpha (mu/beta - 1)) where beta > 0, by Wright's omega function as
    penalty_study.cql_fixed_point; c by halving.
    """
    inside = beta > 0
    b, y = beta[inside], q[inside]
    low, high = y.min() - alpha - 100, y.max() + 100
    mu = lambda c: b / alpha * wrightomega(y + alpha - c + np.log(alpha / b))
    for _ in range(HALVINGS):
        c = (low + high) / 2
        low, high = (c, high) if mu(c).sum() > 1 else (low, c)
    policy = np.zeros_like(q)
    policy[inside] = mu((low + high) / 2)
    return policy


def _checked(arrays: dict) -> dict[str, np.ndarray]:
    arrays = {k: _numbers(k, v) for k, v in arrays.items()}
    shapes = {k: x.shape for k, x in arrays.items()}
    if len(set(shapes.values())) > 1 or arrays["q"].ndim != 1:
        raise WidgetError(
            f"saw shapes {shapes}, expected five of one shape [N]; give one number for each action."
        )
    for name, x in arrays.items():
        refuse(name, x)
    behavior, reward, noise = arrays["behavior"], arrays["reward"], arrays["noise"]
    if (behavior < 0).any() or abs(behavior.sum() - 1) > 1e-4:
        raise WidgetError(
            f"behavior: saw entries from {behavior.min():.3g} and the sum "
            f"{behavior.sum():.4g}, expected probabilities of sum 1; divide by the sum."
        )
    if not np.delete(behavior, reward.argmax()).any():
        raise WidgetError(
            "behavior: saw no probability besides that of the best action, expected "
            "some; give the data a habit in which it can drown."
        )
    if (noise < 0).any():
        raise WidgetError(
            f"noise: saw {noise.min():.3g}, expected standard deviations of at least 0."
        )
    return arrays


def _numbers(name: str, x) -> np.ndarray:
    try:
        return np.asarray(x, dtype=float)
    except (TypeError, ValueError):
        raise WidgetError(
            f"{name}: saw {x!r}, expected N numbers; give one for each action."
        ) from None
