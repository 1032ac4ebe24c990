"""Widget: a trained policy walks the bridge, and epsilon, alpha, N and K move while it does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import traitlets

from arq_core.envs import bridge
from arq_core.widgets.base import Slider, Widget, fixed
from arq_core.widgets.walking import BRIDGE, Choice, Trained, Walked, falls, look, walk

LINES = (-math.inf, *np.arange(-12, 3.5, 0.5).tolist())  # log epsilon, nats; the first is "off"
ALPHAS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
SEEDS, MOST, WALKERS = 50, 60, 30  # walks to choose from, candidates at most, walkers
NOTE = (
    "The policy itself runs in this page: its score network and its critic, with weights of 16 "
    "bits, draw and judge new candidates at every step. ε moves in acting alone; the critic was "
    "learned once, with log ε = {learned}. What is believed, and what is earned, is discounted by "
    "{gamma} a step, as Q is. The walk shown first is that of the random numbers, of a few, by "
    "which a dropped candidate of some plank outdoes the kept ones most."
)


def _places(values: tuple[float, ...], digits: int) -> tuple[str, ...]:
    return tuple("off" if math.isinf(v) else fixed(v, digits) for v in values)


class Walk(Widget):
    """Drag epsilon, watch it walk: Eq. 4 to 6 of one trained policy, in the page, on the bridge.

    `epsilon_at` and `alpha_at` are places (from 0) in `lines` (log epsilon, nats) and `alphas`, to
    which the policy's own belong; `seed` names the random numbers, `plank` is looked at. `crossed`
    and `positions` [PLANKS + 1][W] (plank, sideways) are those of the walk that is shown.
    """

    title = "Drag epsilon, watch it walk"
    parts = ("walk_engine.js", "walk_stage.js")
    script = "walk.js"
    epsilon_at = traitlets.Int(0).tag(sync=True)
    alpha_at = traitlets.Int(0).tag(sync=True)
    n = traitlets.Int(30).tag(sync=True)
    k = traitlets.Int(1).tag(sync=True)
    seed = traitlets.Int(1).tag(sync=True)
    plank = traitlets.Int(3).tag(sync=True)
    crossed = traitlets.Int(0).tag(sync=True)
    positions = traitlets.List().tag(sync=True)

    def __init__(
        self, trained: Trained | None, walkers: int = WALKERS, problem: str = "", **position
    ):
        self.trained, self.walkers, self._walks, self._looks = trained, walkers, {}, {}
        own = trained.policy if trained else None
        self.lines = tuple(sorted({*LINES, own.log_epsilon} if own else LINES))
        self.alphas = tuple(sorted({*ALPHAS, own.alpha} if own else ALPHAS))
        controls = [
            Slider("epsilon_at", "log ε", 0, len(self.lines) - 1, 1, names=_places(self.lines, 1)),
            Slider("alpha_at", "α", 0, len(self.alphas) - 1, 1, names=_places(self.alphas, 0)),
            Slider("n", "Candidates N", 1, MOST, 1),
            Slider("k", "K", 1, MOST, 1),
            Slider("plank", "Look at plank", 0, bridge.PLANKS - 1, 1),
            Slider("seed", "Random numbers", 1, SEEDS, 1),
        ]
        arrays, words = {}, {}
        if own and not problem:
            arrays, words = self._sent()
            at = self.lines.index(own.log_epsilon), self.alphas.index(own.alpha)
            position = dict(epsilon_at=at[0], alpha_at=at[1], n=own.n) | position
        elif not problem:
            problem = "policy: saw none, expected a trained one; run the notebook again."
        super().__init__(arrays, words, controls, problem, **position)
        if not self.problem:
            self._put_first()

    def _sent(self) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays and words that do not depend on where the controls stand."""
        t = self.trained
        planks = np.arange(bridge.PLANKS + 1, dtype=np.float32)
        arrays = t.arrays() | {"middle": bridge.middle(planks)}
        words = t.words() | {
            "critics": ["critic"],
            "actors": [],
            "named": "plank",
            "needs": ["middle", "walked"],
            "lines": [None if math.isinf(v) else v for v in self.lines],
            "alphas": list(self.alphas),
            "walkers": self.walkers,
            "most": MOST,
            "bridge": {
                "planks": bridge.PLANKS,
                "half": bridge.HALF_WIDTH,
                "grasp": bridge.GRASP,
                "stray": bridge.START_STRAY,
                "fall": bridge.FALL_REWARD,
            },
            "note": NOTE.format(learned=fixed(t.learned_epsilon, 1), gamma=f"{t.gamma:g}"),
        }
        return arrays, words

    def _put_first(self) -> None:
        """The walk of the first position goes with the page, which shows it before any handle is
        moved.
        """
        first = self.walked()
        self.arrays["walked"] = first.states.astype(np.float32)
        self.words["first"] = {
            "key": self._key(),
            "steps": first.steps.tolist(),
            "ends": np.where(first.arrived, 1, 2).tolist(),
            "empty": first.empty,
            "believed": first.believed,
            "earned": first.earned,
        }
        self.crossed, self.positions = int(first.arrived.sum()), first.positions()
        self.spec = self._spec()

    def _key(self) -> list[int]:
        return [self.epsilon_at, self.alpha_at, self.n, self.seed]

    def _policy(self):
        return replace(
            self.trained.policy,
            log_epsilon=self.lines[self.epsilon_at],
            alpha=self.alphas[self.alpha_at],
            n=self.n,
        )

    def walked(self) -> Walked:
        """The walk of the present position, by the project's own functions."""
        key = tuple(self._key())
        if key not in self._walks:
            self._walks[key] = walk(
                BRIDGE, self._policy(), self.trained.gamma, self.walkers, self.seed
            )
        return self._walks[key]

    def looked(self) -> Choice:
        """What the policy chooses from on the middle of the plank that is looked at."""
        key = *self._key(), self.plank
        if key not in self._looks:
            self._looks[key] = look(self._policy(), self.plank, self.seed)
        return self._looks[key]

    def finding(self) -> str:
        return f"{self._of_walk(self.walked())} {self._of_plank(self.looked())}"

    def _of_walk(self, w: Walked) -> str:
        line, across = self.lines[self.epsilon_at], int(w.arrived.sum())
        filtered = "No filter" if math.isinf(line) else f"log ε = {fixed(line, 1)}"
        empty = (
            f" At {w.empty} of {int(w.steps.sum())} steps nothing was in support, and the first "
            "draw was taken."
        )
        return (
            f"{filtered}, α = {fixed(self.alphas[self.alpha_at])}, N = {self.n}: {across} of "
            f"{self.walkers} walkers cross, {self.walkers - across} fall; they believed in "
            f"{fixed(w.believed, 2)} and earned {fixed(w.earned, 2)}.{empty if w.empty else ''}"
        )

    def _of_plank(self, c: Choice) -> str:
        q, kept = c.q[0], c.log_prob[0] >= self.lines[self.epsilon_at]  # Eq. 4
        inside, where = np.sort(q[kept])[::-1], f"From plank {self.plank},"
        if not len(inside):
            return f"{where} none of {self.n} candidates is in support: the first draw is taken."
        best = int(q.argmax())
        off = falls(self.plank, c.actions[0])[best]
        leads = "leads off the bridge" if off else "leads on"
        dropped = f"; the best of all, worth {fixed(q[best], 2)}, {leads} and is dropped"
        passed = (
            f"K = {self.k} passes on {fixed(inside[self.k - 1], 2)}"
            if len(inside) >= self.k
            else f"there are fewer than K = {self.k}"
        )
        return (
            f"{where} {len(inside)} of {self.n} candidates are in support, the best worth "
            f"{fixed(inside[0], 2)}{'' if kept[best] else dropped}; {passed}."
        )

    def picture(self) -> str:
        """The walk as a drawing for readers without JavaScript."""
        if self.problem:
            return ""
        w = self.walked()
        x = lambda plank: f"{30 + 58 * plank:.0f}"
        y = lambda sideways: f"{95 - 80 * sideways:.0f}"
        at = np.arange(bridge.PLANKS + 1)
        middles = bridge.middle(at.astype(np.float32))
        planks = "".join(
            f'<rect class="arq-dots arq-wall" x="{30 + 58 * p - 25}" y="{y(m + bridge.HALF_WIDTH)}"'
            f' width="50" height="{160 * bridge.HALF_WIDTH:.0f}"/>'
            for p, m in zip(at, middles, strict=True)
        )
        trails = "".join(
            "M" + "L".join(f"{x(p)} {y(w.states[p, i, 1])}" for p in range(w.steps[i] + 1))
            for i in range(self.walkers)
        )
        fallen = "".join(
            f"M{float(x(w.steps[i])) - 4:.0f} {float(y(w.states[-1, i, 1])) - 4:.0f}l8 8m0 -8l-8 8"
            for i in np.flatnonzero(~w.arrived)
        )
        return (
            '<noscript><div class="arq-plots"><svg viewBox="0 0 640 190" width="640" role="img" '
            f'aria-label="The walks on the bridge, and crosses where walkers fell">{planks}<path '
            f'class="arq-line arq-kept arq-thin" d="{trails}"/><path class="arq-line arq-dropped" '
            f'd="{fallen}"/></svg></div></noscript>'
        )
