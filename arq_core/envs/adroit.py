"""The Adroit hand at its four tasks, with D4RL's rewards, horizons and ends (Rajeswaran et al.
2018; D4RL's door, hammer, pen, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import StringIO

import numpy as np
from jaxtyping import Bool, Float

from arq_core.envs.parallel import ParallelEnvs, in_workers
from arq_core.envs.vector import EnvError

PACKAGES = ("gymnasium", "gymnasium-robotics", "mujoco")
# at least: 1.2 s of work in 200 steps, against about 0.3 s to start
EPISODES_PER_WORKER = 25
# entry of the state, and below what a pen is dropped, metres (D4RL, pen_v0.step)
PEN_HEIGHT, DROPPED = 26, 0.075


@dataclass(frozen=True)
class Hand:
    """One of the tasks. A reset changes the model: `moved` says where, since episodes that share a
    model must each keep their own.

    `reach` gives, from the state, the vector from object to palm. gymnasium-robotics 1.4.2 adds 0.1
    times its length to the reward where D4RL subtracts it. The pen has no such term.
    """

    simulator: str  # its name in Gymnasium
    state_dim: int
    action_dim: int
    # (array of the model, attribute of the simulator that holds the row)
    moved: tuple[tuple[str, str], ...]
    # attributes of the simulator that a reset sets
    measured: tuple[str, ...] = ()
    reach: Callable[[np.ndarray], np.ndarray] | None = None
    horizon: int = 200  # steps; D4RL's time limit
    # whether the episode ends, as D4RL's does, when the object is dropped
    drops: bool = False


DOOR = Hand("AdroitHandDoor-v1", 39, 28, (("body_pos", "door_body_id"),), reach=lambda s: s[35:38])
HAMMER = Hand(
    "AdroitHandHammer-v1",
    46,
    26,
    (("body_pos", "target_body_id"),),
    reach=lambda s: s[33:36] - s[36:39],
)
RELOCATE = Hand(
    "AdroitHandRelocate-v1",
    39,
    30,
    (("body_pos", "obj_body_id"), ("site_pos", "target_obj_site_id")),
    reach=lambda s: s[30:33],
)
PEN = Hand(
    "AdroitHandPen-v1",
    45,
    24,
    (("body_quat", "target_obj_body_id"),),
    ("pen_length", "tar_length"),
    horizon=100,
    drops=True,
)


def _unavailable(error: Exception) -> EnvError:
    return EnvError(
        f"the simulator cannot be loaded ({error}): expected {', '.join(PACKAGES)}; "
        "install the simulators: pip install '.[sim]' -c constraints.txt"
    )


def simulator_versions() -> dict[str, str]:
    """What the simulators' numbers depend on."""
    try:
        return {package: version(package) for package in PACKAGES}
    except PackageNotFoundError as error:
        raise _unavailable(error) from error


def make_simulator(name: str, **options):
    """A simulator of gymnasium-robotics without time limit or checking wrappers.

    `options` go to Gymnasium (render_mode, width, height).
    """
    try:
        import gymnasium

        # a notice about the reward, which d4rl_reward corrects: every worker would print it
        with redirect_stderr(StringIO()):
            import gymnasium_robotics
        import mujoco  # noqa: F401  Gymnasium names it only when an environment is made
    except ImportError as error:
        raise _unavailable(error) from error
    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make(name, **options).unwrapped


def d4rl_reward(hand: Hand, reward: float, state: Float[np.ndarray, " S"]) -> float:
    """D4RL's reward from the simulator's: the term of `reach` with its sign turned."""
    return reward if hand.reach is None else reward - 0.2 * float(np.linalg.norm(hand.reach(state)))


class AdroitEnvs:
    """Up to n episodes side by side. They share one model; what differs (dynamic state, what a
    reset moved) is kept for each.

    `success` is true while the simulator says so, which is D4RL's goal_achieved: the hinge at 1.35
    rad or beyond, the nail within 0.01 m of its goal, the object within 0.1 m, the pen within 0.075
    m and a cosine of 0.95. (D4RL's evaluate_success asks for more than 25 such steps, 20 for the
    pen.) Only a dropped pen terminates; the horizon is the evaluator's to enforce, and further
    steps are harmless.
    """

    hand: Hand

    def __init_subclass__(cls, hand: Hand):
        cls.hand, cls.state_dim, cls.action_dim, cls.horizon = (
            hand,
            hand.state_dim,
            hand.action_dim,
            hand.horizon,
        )

    def __init__(self, n: int):
        self.sim = make_simulator(self.hand.simulator)
        import mujoco

        self.data = [mujoco.MjData(self.sim.model) for _ in range(n)]
        # views of the model
        self.rows = [
            getattr(self.sim.model, array)[getattr(self.sim, row)] for array, row in self.hand.moved
        ]
        # of each running episode: its rows and its measures
        self.kept: list[tuple[list[np.ndarray], list[float]]] = []

    def reset(self, seeds: Sequence[int]) -> Float[np.ndarray, "n S"]:
        """Start n episodes, one a seed: states [n, S], float32. EnvError for no seeds, or for more
        than it was made for.
        """
        if not 0 < len(seeds) <= len(self.data):
            name = type(self).__name__
            raise EnvError(
                f"{name}.reset: saw {len(seeds)} seeds, expected 1 to {len(self.data)}; "
                f"make {name}({len(seeds)})."
            )
        states, self.kept = [], []
        for data, seed in zip(self.data, seeds, strict=False):
            self.sim.data = data
            states.append(self.sim.reset(seed=int(seed))[0])
            self.kept.append(
                (
                    [row.copy() for row in self.rows],
                    [getattr(self.sim, name) for name in self.hand.measured],
                )
            )
        return np.stack(states).astype(np.float32)

    def step(
        self, actions: Float[np.ndarray, "n A"]
    ) -> tuple[
        Float[np.ndarray, "n S"],
        Float[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
    ]:
        """One step of every running episode: states, D4RL's rewards, terminated, success.

        Actions are clipped.
        """
        n, hand = len(self.kept), self.hand
        check_actions(type(self).__name__, actions, n, hand.action_dim)
        states, rewards, success = np.empty((n, hand.state_dim)), np.empty(n), np.empty(n, bool)
        for i in range(n):
            self._resume(i)
            states[i], reward, _, _, info = self.sim.step(actions[i])
            rewards[i], success[i] = d4rl_reward(hand, reward, states[i]), info["success"]
        terminated = states[:, PEN_HEIGHT] < DROPPED if hand.drops else np.zeros(n, bool)
        return states.astype(np.float32), rewards, terminated, success

    def _resume(self, i: int) -> None:
        """Makes the simulator that of episode i."""
        self.sim.data = self.data[i]
        rows, measures = self.kept[i]
        for row, value in zip(self.rows, rows, strict=False):
            row[:] = value
        for name, value in zip(self.hand.measured, measures, strict=False):
            setattr(self.sim, name, value)


class DoorEnvs(AdroitEnvs, hand=DOOR):
    """Opens a door."""


class HammerEnvs(AdroitEnvs, hand=HAMMER):
    """Drives a nail into a board."""


class PenEnvs(AdroitEnvs, hand=PEN):
    """Turns a pen in the hand. The episode ends when the pen is dropped."""


class RelocateEnvs(AdroitEnvs, hand=RELOCATE):
    """Carries a ball to a place in the air."""


def check_actions(name: str, actions: np.ndarray, n: int, action_dim: int) -> None:
    """Refuses what no simulator should be stepped with."""
    if actions.shape != (n, action_dim) or not np.isfinite(actions).all():
        raise EnvError(
            f"{name}.step: saw actions of shape {actions.shape}, "
            f"{int((~np.isfinite(actions)).sum())} entries not finite, expected finite "
            f"actions of shape {(n, action_dim)}, one row per seed; reset first."
        )


def door_envs(n: int) -> DoorEnvs | ParallelEnvs:
    """n episodes of D4RL's door-v0."""
    return in_workers(DoorEnvs, n, EPISODES_PER_WORKER)


def hammer_envs(n: int) -> HammerEnvs | ParallelEnvs:
    """n episodes of D4RL's hammer-v0."""
    return in_workers(HammerEnvs, n, EPISODES_PER_WORKER)


def pen_envs(n: int) -> PenEnvs | ParallelEnvs:
    """n episodes of D4RL's pen-v0."""
    return in_workers(PenEnvs, n, EPISODES_PER_WORKER)


def relocate_envs(n: int) -> RelocateEnvs | ParallelEnvs:
    """n episodes of D4RL's relocate-v0."""
    return in_workers(RelocateEnvs, n, EPISODES_PER_WORKER)
