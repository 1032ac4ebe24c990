"""Widget: every policy of the maze walks it in the page, and a slider goes back in training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import traitlets

from arq_core.envs.maze import (
    CHECKS,
    FARTHEST,
    GOAL_REWARD,
    LAVA_REWARD,
    LURE_REWARD,
    REACH,
    STRAY,
    WAY,
    MazeEnvs,
    maze_layout,
)
from arq_core.widgets.base import Choice as OneOf
from arq_core.widgets.base import Slider, Widget, WidgetError, fixed
from arq_core.widgets.noise import TRIES, Noise
from arq_core.widgets.walking import MAZE, WATCHER, Choice, Trained, Walked, choose, walk

LINES = (-math.inf, *np.arange(-12, 10.5, 0.5).tolist())  # log epsilon, nats; the first is "off"
SEEDS, WALKERS = 50, 30
CELLS = np.array(WAY[:-1], np.float32)  # on the way, before the goal
# how a walk ends, counted from 1; lost is who is still on the way when it is cut
ENDS = ("goal", "lava", "lure", "door", "lost")
GOAL, LAVA, LURE, DOOR, LOST = range(1, 6)
NOTE = (
    "The policies themselves run in this page. Walkers begin near the start (the recordings where "
    "they were recorded) and are lost after {steps} steps. A number in a cell is what the policy’s "
    "critic would pass on from there by Eq. 5: the K-th largest Q of {n} candidates in support. "
    "The handle ε moves in acting, of Qᵝ and ARQ, and K in the numbers of the cells; ARQ’s critic "
    "learned with log ε = {learned} and K = 1. Its slider goes back in its training; the clone "
    "stays the trained one. Wide layers of critics are sent as products of rank {rank} with 8 "
    "bits. What is believed and earned is discounted by {gamma} a step."
)
ROWS_NOTE = " {rows}: rows of Table 1, trained apart with smaller networks."


@dataclass(frozen=True)
class Button:
    """A policy to choose. `of` says where its candidates come from: "recordings" (it has none),
    "score", "uniform", or the place of an actor; `policies`, one for each snapshot of training or a
    single one, have the critics of these places `critics` (-1: none).
    """

    label: str
    of: str | int
    policies: tuple[Any, ...] = ()
    critics: tuple[int, ...] = ()

    @property
    def filtered(self) -> bool:
        """Whether Eq. 4 applies."""
        return bool(self.policies) and self.policies[0].log_epsilon is not None


@dataclass(frozen=True)
class MazePolicies:
    """What a page needs to run all policies of the maze: `trained` has the score network and, by
    the names `critics` and `actors`, all other numbers; `steps` are those of the snapshots, and
    `recordings` episodes: (states [L + 1, 2], rewards [L]).
    """

    trained: Trained
    buttons: tuple[Button, ...]
    steps: tuple[int, ...]
    critics: tuple[str, ...]
    actors: tuple[str, ...]
    recordings: tuple[tuple[np.ndarray, np.ndarray], ...]
    rank: int

    @property
    def n(self) -> int:
        """Candidates a step of those who draw any."""
        return self.trained.policy.n

    def whole(self) -> int:
        """How many of the recordings lead from the first cell to the goal."""
        ways = [_cell_of(states[0]) == 0 and r[-1] >= GOAL_REWARD for states, r in self.recordings]
        return int(np.sum(ways))

    def replayed(self) -> Walked:
        """The recordings as a walk."""
        steps = np.array([len(rewards) for _, rewards in self.recordings])
        if steps.max(initial=0) > MAZE.steps:
            raise WidgetError(
                f"recordings: saw {steps.max()} steps, expected at most {MAZE.steps}; check them."
            )
        times = np.arange(MAZE.steps + 1)
        states = [s[np.minimum(times, len(r))] for s, r in self.recordings]
        last = np.array([rewards[-1] for _, rewards in self.recordings])
        ended = steps < MAZE.steps - 1  # one that is cut loses its last step (datasets.ours)
        gains = [float(r @ self.trained.gamma ** np.arange(len(r))) for _, r in self.recordings]
        arrived = last >= GOAL_REWARD
        return Walked(
            np.stack(states, 1), steps, arrived, ended, last, 0, 0.0, float(np.mean(gains))
        )


class MazeWalk(Widget):
    """Choose who walks the maze: recordings, the clone, Q_beta, no restriction, ARQ, and rows of
    Table 1, each computed in the page at every step.

    Where the numbers come from. The page's notebook trains ARQ and Q_beta, with snapshots of ARQ's
    critic on the way (engine.train), and these are sent: the score network with 16 bits, critics
    with their hidden layer of 256 x 256 as a product of low rank with 8 bits
    (experiments.small_critics), since eight of them would not fit otherwise. What the page does not
    train is read from a file of a benchmark (experiments.maze_page). Python walks with the same
    numbers. Candidates of the clone are those of the solve that gives their densities
    (ScoreBehavior.sample_with_log_prob), also where no density is asked for. How a policy draws,
    filters and chooses, and the clock, are the bridge's (walk_engine.js, walk_stage.js); the maze's
    own are its simulator and its drawing.

    `policy` is the place of a button, `trained_at` of a snapshot, `epsilon_at` in `lines`; `seed`
    names the random numbers, `cell` is looked at. `arrived` and `positions` [steps + 1][W] are
    those of the walk that is shown.
    """

    title = "Who finds the goal of the maze?"
    parts = ("walk_engine.js", "walk_stage.js")
    script = "maze_walk.js"
    policy = traitlets.Int(0).tag(sync=True)
    trained_at = traitlets.Int(0).tag(sync=True)
    epsilon_at = traitlets.Int(0).tag(sync=True)
    k = traitlets.Int(1).tag(sync=True)
    cell = traitlets.Int(1).tag(sync=True)
    seed = traitlets.Int(1).tag(sync=True)
    arrived = traitlets.Int(0).tag(sync=True)
    positions = traitlets.List().tag(sync=True)

    def __init__(
        self, policies: MazePolicies | None, walkers: int = WALKERS, problem: str = "", **position
    ):
        self.policies, self.walkers, self._walks, self._looks = policies, walkers, {}, {}
        p = policies
        line = p.trained.policy.log_epsilon if p else None
        self.lines = tuple(sorted({*LINES, line} if line is not None else LINES))
        self.labels = tuple(b.label for b in p.buttons) if p else ("none",)
        steps = p.steps if p else (0,)
        places = tuple("off" if math.isinf(v) else fixed(v, 1) for v in self.lines)
        controls = [
            OneOf("policy", "Who walks", self.labels, kind="radio"),
            Slider(
                "trained_at",
                "ARQ’s critic after",
                0,
                len(steps) - 1,
                1,
                "steps",
                names=tuple(f"{s:,}" for s in steps),
            ),
            Slider("epsilon_at", "log ε", 0, len(self.lines) - 1, 1, names=places),
            Slider("k", "K", 1, p.n if p else 1, 1),
            Slider("cell", "Look at cell", 0, len(CELLS) - 1, 1),
            Slider("seed", "Random numbers", 1, SEEDS, 1),
        ]
        arrays, words = {}, {}
        if p and not problem:
            own = {"policy": self.labels.index("ARQ"), "trained_at": len(steps) - 1}
            position = own | {"epsilon_at": self.lines.index(line)} | position
            arrays, words = self._sent()
        elif not problem:
            problem = "policies: saw none, expected trained ones; run the notebook again."
        super().__init__(arrays, words, controls, problem, **position)
        if not self.problem:
            self._put_first()

    def _sent(self) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays and words that do not depend on where the controls stand."""
        p, ground = self.policies, maze_layout()
        looked = self._choices(p.trained.policy)
        replayed = p.replayed()
        arrays = p.trained.arrays() | {
            "cells": CELLS,
            "cell_actions": looked.actions,
            "cell_log_prob": looked.log_prob,
            "recorded": _until_the_last(replayed),
        }
        rows = [b.label for b in p.buttons if isinstance(b.of, int)]
        words = p.trained.words() | {
            "critics": list(p.critics),
            "actors": list(p.actors),
            "named": "place",
            "needs": ["cells", "cell_actions", "cell_log_prob", "recorded", "walked"],
            "policies": [
                {
                    "label": b.label,
                    "of": b.of,
                    "critics": list(b.critics),
                    "alpha": _finite(b.policies[0].alpha if b.policies else 0.0),
                    "n": b.policies[0].n if b.policies else 0,
                    "filtered": b.filtered,
                }
                for b in p.buttons
            ],
            "steps": list(p.steps),
            "lines": [_finite(v) for v in self.lines],
            "walkers": self.walkers,
            "most": p.n,
            "recordings": _of_walk(replayed),
            "whole": p.whole(),
            "maze": {
                **{k: ground[k].tolist() for k in ("floor", "lure", "goal", "doors", "start")},
                "steps": MAZE.steps,
                "reach": REACH,
                "checks": CHECKS,
                "stray": STRAY,
                "farthest": FARTHEST,
                "tries": TRIES,
                "rewards": [GOAL_REWARD, LAVA_REWARD, LURE_REWARD, 0.0],
            },
            "note": NOTE.format(
                steps=MAZE.steps,
                n=p.n,
                learned=fixed(p.trained.learned_epsilon, 1),
                rank=p.rank,
                gamma=f"{p.trained.gamma:g}",
            )
            + (ROWS_NOTE.format(rows=", ".join(rows)) if rows else ""),
        }
        return arrays, words

    def _put_first(self) -> None:
        """The walk of the first position goes with the page."""
        first = self.walked()
        self.arrays["walked"] = _until_the_last(first)
        self.words["first"] = {"key": list(self._key()), **_of_walk(first)}
        self.arrived, self.positions = int(first.arrived.sum()), first.positions()
        self.spec = self._spec()

    def _button(self) -> Button:
        return self.policies.buttons[self.policy]

    def _snapshot(self) -> int:
        return self.trained_at if len(self._button().policies) > 1 else 0

    def _key(self) -> tuple[int, ...]:
        """What the walk depends on."""
        b = self._button()
        line = self.epsilon_at if b.filtered else 0
        return self.policy, self._snapshot(), line, self.seed if b.policies else 0

    def _policy(self):
        b = self._button()
        policy = b.policies[self._snapshot()]
        return replace(policy, log_epsilon=self.lines[self.epsilon_at] if b.filtered else -math.inf)

    def walked(self) -> Walked:
        """The walk of the present position, by the project's own functions."""
        key = self._key()
        if key not in self._walks:
            gamma = self.policies.trained.gamma
            self._walks[key] = (
                walk(MAZE, self._policy(), gamma, self.walkers, self.seed)
                if self._button().policies
                else self.policies.replayed()
            )
        return self._walks[key]

    def _choices(self, policy) -> Choice:
        return choose(policy, CELLS, Noise(1, 0, WATCHER - np.arange(len(CELLS))))

    def looked(self) -> Choice | None:
        """What the policy chooses from in the middle of each cell; None for recordings."""
        if not self._button().policies:
            return None
        key = self._key()[:3]
        if key not in self._looks:
            self._looks[key] = self._choices(self._policy())
        return self._looks[key]

    def passed_on(self) -> np.ndarray | None:
        """The K-th largest Q in support of each cell (NaN: there are fewer); None without a
        critic.
        """
        b, choice = self._button(), self.looked()
        if choice is None or b.critics[0] < 0:
            return None
        line, n = self._policy().log_epsilon, choice.q.shape[1]
        inside = np.where(choice.log_prob >= line, choice.q, -np.inf)
        kth = -np.sort(-inside, 1)[:, self.k - 1] if self.k <= n else np.full(len(inside), -np.inf)
        kth = inside[:, 0] if isinstance(b.of, int) else kth  # an actor has one candidate
        return np.where(np.isfinite(kth), kth, np.nan)

    def above_the_lure(self) -> int | None:
        """How many cells are worth more than the lure to the critic; None without one."""
        kth = self.passed_on()
        return None if kth is None else int((kth > LURE_REWARD).sum())

    def finding(self) -> str:
        return " ".join(filter(None, (self._of_all(), self._of_cells(), self._of_cell())))

    def counts(self) -> dict[str, int]:
        """How many walks ended where, by the names of ENDS."""
        ends = _ends(self.walked())
        return {name: int((ends == end).sum()) for end, name in enumerate(ENDS, start=GOAL)}

    def _of_all(self) -> str:
        b, w = self._button(), self.walked()
        who = b.label[:1].upper() + b.label[1:]
        if len(b.policies) > 1:
            who += f" after {self.policies.steps[self.trained_at]:,} steps"
        if b.filtered:
            line = self.lines[self.epsilon_at]
            who += ", no filter" if math.isinf(line) else f", log ε = {fixed(line, 1)}"
        goal, lava, lure, door, lost = self.counts().values()
        believed = f"believed in {worth(w.believed)} and "
        told = believed if b.critics and b.critics[0] >= 0 else ""
        empty = (
            f" At {w.empty} of {int(w.steps.sum())} steps nothing was in support, and the first "
            "draw was taken."
        )
        return (
            f"{who}: {goal} of {len(w.steps)} walkers reach the goal, {lure} the lure, {door} a "
            f"door; {lava} end in lava, {lost} are lost. They {told}earned {fixed(w.earned, 2)}."
            f"{empty if w.empty else ''}"
        )

    def _of_cells(self) -> str:
        if not self._button().policies:
            return f"{self.policies.whole() or 'None'} of them walked the whole way from the start."
        if (more := self.above_the_lure()) is None:
            return ""
        cells = f"{more} of {len(CELLS)} cells of the way"
        return f"To its critic {cells} are worth more than the lure."

    def _of_cell(self) -> str:
        b, where = self._button(), f"At cell {self.cell}"
        if not b.policies:
            return f"{where}, {len(self.steps_at(self.cell))} of their steps begin."
        c = self.looked()
        q, actions = c.q[self.cell], c.actions[self.cell]
        falls = _rewards(self.cell, actions) < 0
        if b.critics[0] < 0:
            return (
                f"{where}, one of {len(q)} candidates is taken by chance; "
                f"{int(falls.sum())} lead into lava."
            )
        if isinstance(b.of, int):
            into = "into lava" if falls[0] else "on"
            return f"{where} it has one action, worth {worth(q[0])}, which leads {into}."
        best = int(q.argmax())
        into = "leads into lava" if falls[best] else "leads on"
        if not b.filtered:
            return f"{where}, the best of {len(q)} candidates is worth {worth(q[best])} and {into}."
        kept = c.log_prob[self.cell] >= self._policy().log_epsilon  # Eq. 4
        inside = np.sort(q[kept])[::-1]
        if not len(inside):
            return f"{where}, none of {len(q)} candidates is in support: the first draw is taken."
        dropped = f"; the best of all, worth {worth(q[best])}, {into} and is dropped"
        told = f", which {into}" if falls[best] else ""
        passed = (
            f"K = {self.k} passes on {worth(inside[self.k - 1])}"
            if len(inside) >= self.k
            else f"there are fewer than K = {self.k}"
        )
        return (
            f"{where}, {len(inside)} of {len(q)} candidates are in support, the best worth "
            f"{worth(inside[0])}{told if kept[best] else dropped}; {passed}."
        )

    def steps_at(self, cell: int) -> list[tuple[int, int]]:
        """(recording, step) of the recorded steps that begin nearest to a cell."""
        return [
            (i, t)
            for i, (states, rewards) in enumerate(self.policies.recordings)
            for t in range(len(rewards))
            if _cell_of(states[t]) == cell
        ]

    def picture(self) -> str:
        """The walk as a drawing for readers without JavaScript."""
        if self.problem:
            return ""
        w, ground = self.walked(), maze_layout()
        x = lambda v: f"{20 + 60 * (v + 0.7):.0f}"
        y = lambda v: f"{20 + 60 * (5.7 - v):.0f}"

        def squares(name: str) -> str:
            return "".join(f"M{x(a)} {y(b)}H{x(c)}V{y(d)}H{x(a)}z" for a, b, c, d in ground[name])

        trails = "".join(
            "M" + "L".join(f"{x(a)} {y(b)}" for a, b in w.states[: n + 1, i])
            for i, n in enumerate(w.steps)
        )
        ends = _ends(w)
        goal, lava = int((ends == GOAL).sum()), int((ends == LAVA).sum())
        crosses = "".join(
            f"M{float(x(a)) - 4:.0f} {float(y(b)) - 4:.0f}l8 8m0 -8l-8 8"
            for a, b in w.states[-1, ends == LAVA]
        )
        label = (
            f"The maze from above and the walks of {len(ends)} walkers by "
            f"{self._button().label}: {goal} reach the goal, {lava} end in lava."
        )
        places = "".join(
            f'<path class="arq-area arq-{color} arq-faint" d="{squares(name)}"/>'
            for name, color in (("lure", "extra"), ("goal", "truth"), ("doors", "soft"))
        )
        return (
            '<noscript><div class="arq-plots"><svg viewBox="0 0 304 484" width="304" role="img" '
            f'aria-label="{label}"><path class="arq-area arq-wall" d="M20 20H284V464H20z"/>'
            f'<path class="arq-floor" d="{squares("floor")}"/>{places}'
            f'<path class="arq-line arq-kept arq-thin" d="{trails}"/>'
            f'<path class="arq-line arq-dropped" d="{crosses or "M0 0"}"/></svg></div></noscript>'
        )


def _cell_of(states: np.ndarray) -> np.ndarray:
    """The cell of the way that is nearest to states [..., 2]."""
    return np.square(states[..., None, :] - CELLS).sum(-1).argmin(-1)


def worth(value: float) -> str:
    """A value in words: two decimals, none where it is beyond all that this problem pays."""
    return fixed(value, 2 if abs(value) < 100 else 0)


def _finite(v: float) -> float | None:
    return v if math.isfinite(v) else None


def _until_the_last(w: Walked) -> np.ndarray:
    return w.states[: int(w.steps.max()) + 1].astype(np.float32)


def _ends(w: Walked) -> np.ndarray:
    """How each walk ended."""
    cases = [w.arrived, ~w.ended, w.rewards < 0, w.rewards > 0]
    return np.select(cases, [GOAL, LOST, LAVA, LURE], DOOR)


def _of_walk(w: Walked) -> dict[str, Any]:
    return {
        "steps": w.steps.tolist(),
        "ends": _ends(w).tolist(),
        "empty": w.empty,
        "believed": w.believed,
        "earned": w.earned,
    }


def _rewards(cell: int, actions: np.ndarray) -> np.ndarray:
    """What actions [n, 2] from the middle of a cell meet."""
    envs = MazeEnvs(len(actions))
    envs.place(np.tile(CELLS[cell], (len(actions), 1)))
    return envs.step(actions)[1]
