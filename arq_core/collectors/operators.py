"""Scripted operators of robosuite's one-armed tasks: proportional controllers that work through the
phases of a pick as people do.

They see the low-dimensional state and remember the phase. Proficiency is a `Skill`; manner (which
way the fingers close, how high the hand comes, whether it swoops down, how fast it is) is drawn
anew for each demonstration, so that one state has several good actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEP, TURN = 0.05, 0.5  # metres and radians that an action of 1 asks for
GAIN, TURN_GAIN = 4.0, 2.0  # on errors of place and of orientation, in units of STEP and TURN
INERTIA = 0.7  # of the noise from one step to the next
NEAR, NEAR_ANGLE = 0.012, 0.12  # metres and radians: close enough to go on
LOST = 0.05  # metres between hand and handle: the object has slipped away
CLOSE_STEPS, OPEN_STEPS = 8, 4  # that the fingers get to close and to open
# radians: heading of the fingers at the start, and how far the wrist turns from it
FINGERS_AT_REST, MOST_TWIST = -np.pi / 2, 1.8
PATIENCE = 80  # steps in one phase before the operator starts over
# of the state
EEF, QUAT, OBJECT, OBJECT_QUAT = slice(0, 3), slice(3, 7), slice(9, 12), slice(12, 16)


@dataclass(frozen=True)
class Skill:
    """Proficiency of an operator."""

    speed: float  # largest entry of an action that is meant
    noise: float  # standard deviation of what is added to it
    # metres, standard deviation of where the object is believed to be, anew for each attempt
    aim: float
    pause: float  # chance at each step to stop for a few


@dataclass(frozen=True)
class Job:
    """What differs between the tasks.

    Angles are of the line through the fingers, which has no direction, in the plane of the table.
    """

    handle: Callable[[np.ndarray], np.ndarray]  # state -> where to grasp, metres
    # state -> angles at which the fingers may close
    turns: Callable[[np.ndarray], np.ndarray]
    lift: float  # height to carry the object at, metres
    place: tuple[float, float] | None = None  # where to let it down; None: lifting is all
    # metres: each demonstration's place lies so far from it at most
    spread: float = 0.0
    # metres from its place at which it may come down
    fit: float = 0.0
    release: float = 0.0  # height to let go at, metres
    square: bool = False  # the object must arrive parallel to the axes


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrix of a unit quaternion (x, y, z, w)."""
    x, y, z, w = quaternion.astype(float)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def heading(axis: np.ndarray) -> float:
    """Angle of a vector in the plane of the table."""
    return float(np.arctan2(axis[1], axis[0]))


def half_turn(angle: float, period: float = np.pi) -> float:
    """The angle in [-period/2, period/2) that is the same up to whole periods."""
    return float((angle + period / 2) % period - period / 2)


def _cube_turns(s: np.ndarray) -> np.ndarray:
    return heading(rotation(s[OBJECT_QUAT])[:, 0]) + np.array([0, np.pi / 2])


def _nut_handle(s: np.ndarray) -> np.ndarray:
    return s[OBJECT] + rotation(s[OBJECT_QUAT]) @ np.array([0.054, 0, 0])  # its handle_site


JOBS = {
    "lift": Job(handle=lambda s: s[OBJECT].astype(float), turns=_cube_turns, lift=0.95),
    "can": Job(
        handle=lambda s: s[OBJECT] + np.array([0, 0, 0.02]),
        turns=lambda s: np.linspace(0, np.pi, 6, endpoint=False),
        lift=1.0,
        place=(0.16, 0.36),
        spread=0.03,
        fit=0.02,
        release=0.90,
    ),
    "square": Job(
        handle=_nut_handle,
        turns=lambda s: heading(rotation(s[OBJECT_QUAT])[:, 1]) + np.zeros(1),
        lift=1.01,
        place=(0.23, 0.1),
        fit=0.006,
        release=0.90,
        square=True,
    ),
}


class Operator:
    """One demonstration: `act(state)` until it ends. All its numbers come from `rng`."""

    def __init__(self, job: Job, skill: Skill, rng: np.random.Generator):
        self.job, self.skill, self.rng = job, skill, rng
        self.speed = skill.speed * rng.uniform(0.8, 1.1)
        self.hover = rng.uniform(0.03, 0.12)
        self.swoop = rng.random() < 0.5  # goes down while it still moves over
        # takes the second nearest way to close the fingers
        self.second = int(rng.random() < 0.3)
        self.place = np.array(job.place or (0, 0)) + rng.uniform(-job.spread, job.spread, 2)
        self.noise, self.resting = np.zeros(6), 0
        self._start_over()

    def _start_over(self) -> None:
        self.phase, self.since, self.turn = self.reach, 0, None
        self.miss = self.rng.normal(0, self.skill.aim, 3) * [1, 1, 0.5]

    def _go(self, phase: Callable) -> None:
        self.phase, self.since = phase, 0

    def act(self, state: np.ndarray) -> np.ndarray:
        """An action [7] in [-1, 1]: the phase's move, sometimes none, always with noise that lasts
        a little; the gripper without.
        """
        self.since += 1
        if self.since > PATIENCE:
            self._start_over()
        move, turn, grip = self.phase(state)
        if self.resting == 0 and self.rng.random() < self.skill.pause:
            self.resting = int(self.rng.integers(2, 10))
        if self.resting:
            self.resting -= 1
            move, turn = np.zeros(3), 0.0
        fresh = self.skill.noise * np.array([1, 1, 1, 0.3, 0.3, 0.3]) * self.rng.standard_normal(6)
        self.noise = INERTIA * self.noise + np.sqrt(1 - INERTIA**2) * fresh
        meant = np.concatenate(
            [GAIN * move / STEP, TURN_GAIN * (self._upright(state) + [0, 0, turn]) / TURN]
        )
        return np.clip(
            np.append(np.clip(meant, -self.speed, self.speed) + self.noise, grip), -1, 1
        ).astype(np.float32)

    def _upright(self, state: np.ndarray) -> np.ndarray:
        """Rotation vector that turns the hand's axis downwards."""
        return np.cross(rotation(state[QUAT])[:, 2], [0, 0, -1])

    def _turn_error(self, state: np.ndarray) -> float:
        """To the angle chosen for this attempt, as it is now: objects move."""
        fingers = heading(rotation(state[QUAT])[:, 1])
        errors = np.array([half_turn(a - fingers) for a in self.job.turns(state)])
        if self.turn is None:
            order = np.argsort(np.abs(errors))
            self.turn = order[min(self.second, len(order) - 1)]
        return float(errors[self.turn])

    # Phases: state -> (metres to move [3], radians to turn, gripper). Each says itself what comes
    # next.

    def reach(self, state):
        aim, turn = self.job.handle(state) + self.miss - state[EEF], self._turn_error(state)
        over = np.hypot(*aim[:2])
        if over < NEAR and abs(turn) < NEAR_ANGLE:
            self._go(self.descend)
        height = self.hover if not self.swoop else np.clip(over, 0.03, self.hover)
        return aim + [0, 0, height], turn, -1.0

    def descend(self, state):
        aim, turn = self.job.handle(state) + self.miss - state[EEF], self._turn_error(state)
        if abs(aim[2]) < NEAR:
            self._go(self.close)
        return aim, turn, -1.0

    def close(self, state):
        if self.since >= CLOSE_STEPS:
            self._go(self.raise_)
        return np.zeros(3), 0.0, 1.0

    def raise_(self, state):
        self._check_hold(state)
        rise = self.job.lift - state[OBJECT][2]
        if self.job.place and rise < NEAR:
            self._go(self.carry)
        return np.array([0, 0, rise]), 0.0, 1.0

    def carry(self, state):
        self._check_hold(state)
        way = np.append(self.place - state[OBJECT][:2], self.job.lift - state[OBJECT][2])
        turn = self._square_error(state)
        if np.hypot(*way[:2]) < self.job.fit and abs(turn) < NEAR_ANGLE / 2:
            self._go(self.lower)
        return way, turn, 1.0

    def lower(self, state):
        self._check_hold(state)
        way = np.append(self.place - state[OBJECT][:2], self.job.release - state[OBJECT][2] - 0.01)
        if state[OBJECT][2] < self.job.release:
            self._go(self.let_go)
        return way, self._square_error(state), 1.0

    def let_go(self, state):
        return np.array([0, 0, 0.1 if self.since > OPEN_STEPS else 0.0]), 0.0, -1.0

    def _check_hold(self, state) -> None:
        if np.linalg.norm(self.job.handle(state) - state[EEF]) > LOST:
            self._start_over()

    def _square_error(self, state) -> float:
        """Radians that bring the object parallel to the axes, where that matters: the least turn
        that the arm and its wrist can do.
        """
        if not self.job.square:
            return 0.0
        own, fingers = (
            heading(rotation(state[OBJECT_QUAT])[:, 0]),
            heading(rotation(state[QUAT])[:, 1]),
        )
        ways = half_turn(-own, np.pi / 2) + np.array([0, np.pi / 2, -np.pi / 2])
        twisted = np.array(
            [
                abs(half_turn(fingers - FINGERS_AT_REST + way, 2 * np.pi)) > MOST_TWIST
                for way in ways
            ]
        )
        # the handle points away from the robot: beyond its reach
        too_far = np.cos(own + ways) > 0.5
        return float(ways[np.argmin(np.abs(ways) + 10 * twisted + 10 * too_far)])
