"""OGBench's simulators in their single tasks (Park et al. 2025; ogbench 1.2), as vectors of
episodes. The package is needed: its mazes, robot arm and goals are no one else's.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np

from arq_core.envs.gym import GymEnvs, success_of
from arq_core.envs.parallel import ParallelEnvs, in_workers
from arq_core.envs.vector import EnvError

# at least: seconds of work in the shortest episodes, against one to three to start
EPISODES_PER_WORKER = 10
INSTALL = (
    "pip install --no-deps ogbench==1.2.2 gives the mazes and the ball; the robot arm needs "
    "dm_control too, and a MuJoCo other than 3.9.0, so an environment of its own"
)


def _unavailable(error: Exception) -> EnvError:
    return EnvError(
        f"ogbench cannot be loaded ({error}): expected it beside MuJoCo and gymnasium; {INSTALL}. "
        "Training needs no simulator, episodes do."
    )


def make_single_task(name: str):
    """The package's environment of a single task, by the name of its dataset
    ("cube-single-play-singletask-v0"), with draws of its own; EnvError where it cannot be made.

    Mazes draw starts and teleports from NumPy's global generator. Here each environment has its own
    state of it, which reset(seed) sets; whoever else draws from it does not notice.
    """
    try:
        import gymnasium

        ogbench = import_module("ogbench")
    except ImportError as error:
        raise _unavailable(error) from error

    class OwnDraws(gymnasium.Wrapper):
        """Rewards are the success of the step, 1 or 0: their sum is what is scored."""

        state = np.random.RandomState(0).get_state()

        def reset(self, *, seed=None, options=None):
            """As the package's; the same seed is the same episode."""
            if seed is not None:
                self.state = np.random.RandomState(seed % 2**32).get_state()
                self.action_space.seed(seed)
            return self._drawing(lambda: self.env.reset(seed=seed, options=options))

        def step(self, action):
            """As the package's, but for the reward."""
            seen, _, ended, cut, info = self._drawing(lambda: self.env.step(action))
            return seen, float(success_of(info)), ended, cut, info

        def _drawing(self, work):
            outside = np.random.get_state()
            np.random.set_state(self.state)
            try:
                return work()
            finally:
                self.state = np.random.get_state()
                np.random.set_state(outside)

    try:
        return OwnDraws(ogbench.make_env_and_datasets(name, env_only=True))
    except Exception as error:  # whatever Gymnasium, MuJoCo or the package raise
        raise EnvError(
            f"{name}: saw {type(error).__name__}: {error}, expected an environment of ogbench; "
            f"{INSTALL}."
        ) from error


class OGBenchEnvs(GymEnvs):
    """n episodes of one single task, which end when it is done: the step that begins there earns 1,
    every other 0, so that the return is the success. (The package's own rewards are 0 or below.)
    """

    name: str

    def __init_subclass__(cls, name: str, dims: tuple[int, int], horizon: int):
        cls.name, (cls.state_dim, cls.action_dim), cls.horizon = name, dims, horizon

    def __init__(self, n: int):
        super().__init__(lambda: make_single_task(self.name), n)


class PointmazeMediumEnvs(
    OGBenchEnvs, name="pointmaze-medium-navigate-singletask-v0", dims=(2, 2), horizon=1000
):
    """A point in the medium maze."""


class AntmazeMediumEnvs(
    OGBenchEnvs, name="antmaze-medium-navigate-singletask-v0", dims=(29, 8), horizon=1000
):
    """An ant in the medium maze."""


class AntmazeLargeEnvs(
    OGBenchEnvs, name="antmaze-large-navigate-singletask-v0", dims=(29, 8), horizon=1000
):
    """An ant in the large maze."""


class AntmazeGiantEnvs(
    OGBenchEnvs, name="antmaze-giant-navigate-singletask-v0", dims=(29, 8), horizon=1000
):
    """An ant in the giant maze."""


class HumanoidmazeMediumEnvs(
    OGBenchEnvs, name="humanoidmaze-medium-navigate-singletask-v0", dims=(69, 21), horizon=2000
):
    """A humanoid in the medium maze."""


class HumanoidmazeLargeEnvs(
    OGBenchEnvs, name="humanoidmaze-large-navigate-singletask-v0", dims=(69, 21), horizon=2000
):
    """A humanoid in the large maze."""


class AntsoccerArenaEnvs(
    OGBenchEnvs, name="antsoccer-arena-navigate-singletask-v0", dims=(42, 8), horizon=1000
):
    """An ant that brings a ball to a place."""


class CubeSingleEnvs(OGBenchEnvs, name="cube-single-play-singletask-v0", dims=(28, 5), horizon=200):
    """A robot arm and one cube."""


class CubeDoubleEnvs(OGBenchEnvs, name="cube-double-play-singletask-v0", dims=(37, 5), horizon=500):
    """A robot arm and two cubes."""


class SceneEnvs(OGBenchEnvs, name="scene-play-singletask-v0", dims=(40, 5), horizon=750):
    """A robot arm, a cube, a drawer, a window and two buttons."""


class Puzzle3x3Envs(OGBenchEnvs, name="puzzle-3x3-play-singletask-v0", dims=(55, 5), horizon=500):
    """A robot arm and nine buttons that switch their neighbours too."""


class Puzzle4x4Envs(OGBenchEnvs, name="puzzle-4x4-play-singletask-v0", dims=(83, 5), horizon=500):
    """A robot arm and sixteen buttons that switch their neighbours too."""


def pointmaze_medium_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of pointmaze-medium-navigate-singletask-v0; EnvError without ogbench."""
    return in_workers(PointmazeMediumEnvs, n, EPISODES_PER_WORKER)


def antmaze_medium_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of antmaze-medium-navigate-singletask-v0; EnvError without ogbench."""
    return in_workers(AntmazeMediumEnvs, n, EPISODES_PER_WORKER)


def antmaze_large_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of antmaze-large-navigate-singletask-v0; EnvError without ogbench."""
    return in_workers(AntmazeLargeEnvs, n, EPISODES_PER_WORKER)


def antmaze_giant_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of antmaze-giant-navigate-singletask-v0; EnvError without ogbench."""
    return in_workers(AntmazeGiantEnvs, n, EPISODES_PER_WORKER)


def humanoidmaze_medium_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of humanoidmaze-medium-navigate-singletask-v0; EnvError without ogbench."""
    return in_workers(HumanoidmazeMediumEnvs, n, EPISODES_PER_WORKER)


def humanoidmaze_large_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of humanoidmaze-large-navigate-singletask-v0; EnvError without ogbench."""
    return in_workers(HumanoidmazeLargeEnvs, n, EPISODES_PER_WORKER)


def antsoccer_arena_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of antsoccer-arena-navigate-singletask-v0; EnvError without ogbench."""
    return in_workers(AntsoccerArenaEnvs, n, EPISODES_PER_WORKER)


def cube_single_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of cube-single-play-singletask-v0; EnvError without ogbench."""
    return in_workers(CubeSingleEnvs, n, EPISODES_PER_WORKER)


def cube_double_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of cube-double-play-singletask-v0; EnvError without ogbench."""
    return in_workers(CubeDoubleEnvs, n, EPISODES_PER_WORKER)


def scene_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of scene-play-singletask-v0; EnvError without ogbench."""
    return in_workers(SceneEnvs, n, EPISODES_PER_WORKER)


def puzzle_3x3_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of puzzle-3x3-play-singletask-v0; EnvError without ogbench."""
    return in_workers(Puzzle3x3Envs, n, EPISODES_PER_WORKER)


def puzzle_4x4_envs(n: int) -> OGBenchEnvs | ParallelEnvs:
    """n episodes of puzzle-4x4-play-singletask-v0; EnvError without ogbench."""
    return in_workers(Puzzle4x4Envs, n, EPISODES_PER_WORKER)
