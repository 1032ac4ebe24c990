"""Franka kitchen with D4RL's observations, rewards and ends (Gupta et al. 2019; D4RL's kitchen-*):
a robot arm, four things to do.

D4RL's state of 60 is rebuilt from the simulator of gymnasium-robotics, which by itself shows 59
other numbers: joint positions of the robot (9) and of the kitchen (21), both with D4RL's noise,
then the goal (30: the entries of the four tasks, else 0). Each task is paid once, 1 at the step
that completes it. D4RL's files were labelled otherwise: 1 at every step for every task that is then
complete (scripts/generation/generate_kitchen_datasets.py), so the returns of the data are far above
4. The scene is gymnasium-robotics' own. Its arm and actuators are D4RL's, number by number; whether
all bodies move alike has not been checked against a published file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from arq_core.envs.adroit import check_actions, make_simulator
from arq_core.envs.parallel import ParallelEnvs, in_workers
from arq_core.envs.vector import EnvError

STATE_DIM, ACTION_DIM = 60, 9
HORIZON = 280  # steps; D4RL's time limit
ROBOT = 9  # joints of the robot, the first entries of the state
# of observed positions, the robot's and the kitchen's (D4RL, kitchen_multitask_v0:
# robot_noise_ratio)
NOISE = 0.1
# amplitude of the last position's noise (franka_config.xml, qpos29); gymnasium-robotics leaves it
# out
KETTLE_LAST = 0.005
# a task is complete where its joints are nearer to the goal than this (D4RL, BONUS_THRESH)
NEAR = 0.3
EPISODES_PER_WORKER = 4  # at least: some 4 s of work in 280 steps

# Entries of the state, and their goals (D4RL, kitchen_envs.py): radians, metres, for the kettle a
# position and a quaternion.
GOALS = {
    "bottom burner": {11: -0.88, 12: -0.01},
    "light switch": {17: -0.69, 18: -0.05},
    "slide cabinet": {19: 0.37},
    "microwave": {22: -0.75},
    "kettle": {23: -0.23, 24: 0.75, 25: 1.62, 26: 0.99, 27: 0.0, 28: 0.0, 29: -0.06},
}
ENTRIES = {task: np.array(list(goal)) for task, goal in GOALS.items()}
TARGETS = {task: np.array(list(goal.values())) for task, goal in GOALS.items()}
# kitchen-complete and kitchen-partial
LIGHT_AND_SLIDER = ("microwave", "kettle", "light switch", "slide cabinet")
BURNER_AND_LIGHT = ("microwave", "kettle", "bottom burner", "light switch")  # kitchen-mixed


def goal_of(tasks: Sequence[str]) -> Float[np.ndarray, " 30"]:
    """The goal as D4RL writes it into the state: entries of the tasks, 0 elsewhere."""
    goal = np.zeros(STATE_DIM // 2)
    for task in tasks:
        goal[ENTRIES[task]] = TARGETS[task]
    return goal


def is_complete(state: Float[np.ndarray, " 60"], task: str) -> bool:
    """Whether the observed joints of a task are within NEAR of its goal (Euclidean distance, units
    mixed as in D4RL).
    """
    return bool(np.linalg.norm(state[ENTRIES[task]] - TARGETS[task]) < NEAR)


class KitchenEnvs:
    """Up to n episodes side by side. They share one model; what differs (dynamic state, noise, what
    is left to do) is kept for each.

    An episode terminates, with success, when its four tasks have been completed, in any order. The
    robot's controller starts from the noisy positions that were last seen, as D4RL's does. The
    horizon is the evaluator's to enforce, and further steps are harmless.
    """

    state_dim, action_dim, horizon = STATE_DIM, ACTION_DIM, HORIZON
    tasks: tuple[str, ...]

    def __init_subclass__(cls, tasks: tuple[str, ...]):
        cls.tasks = tasks

    def __init__(self, n: int):
        self.robot = make_simulator("FrankaKitchen-v1", robot_noise_ratio=NOISE).robot_env
        # it is a view of the speeds of whatever runs
        self.robot.init_qvel = self.robot.init_qvel.copy()
        import mujoco

        self.data = [mujoco.MjData(self.robot.model) for _ in range(n)]
        self.goal = goal_of(self.tasks)
        self.amplitude = NOISE * np.append(self.robot.robot_pos_noise_amp[ROBOT:], KETTLE_LAST)
        # of each running episode: its noise, the robot's positions [9] last seen,
        self.noise: list[np.random.Generator] = []
        self.seen: list[np.ndarray] = []
        # and the tasks that are not completed yet
        self.left: list[set[str]] = []

    def reset(self, seeds: Sequence[int]) -> Float[np.ndarray, "n 60"]:
        """Start n episodes, one a seed, with four tasks to do: states [n, 60], float32, in radians
        and metres. EnvError for no seeds, or for more than it was made for.
        """
        if not 0 < len(seeds) <= len(self.data):
            name = type(self).__name__
            raise EnvError(
                f"{name}.reset: saw {len(seeds)} seeds, expected 1 to {len(self.data)}; "
                f"make {name}({len(seeds)})."
            )
        states, self.noise, self.seen = [], [], []
        self.left = [set(self.tasks) for _ in seeds]
        for data, seed in zip(self.data, seeds, strict=False):
            self.robot.data = data
            robot = self.robot.reset(seed=int(seed))[0][:ROBOT]
            self.noise.append(self.robot.np_random)
            self.seen.append(robot)
            states.append(self._state(robot))
        return np.stack(states).astype(np.float32)

    def step(
        self, actions: Float[np.ndarray, "n 9"]
    ) -> tuple[
        Float[np.ndarray, "n 60"],
        Float[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
    ]:
        """One step of every running episode: states, tasks it completed, terminated and success
        (all four done). Actions are clipped.
        """
        n = len(self.left)
        check_actions(type(self).__name__, actions, n, ACTION_DIM)
        states, rewards = np.empty((n, STATE_DIM)), np.empty(n)
        for i, left in enumerate(self.left):
            self.robot.data, self.robot.np_random, self.robot._last_robot_qpos = (
                self.data[i],
                self.noise[i],
                self.seen[i],
            )
            self.seen[i] = self.robot.step(actions[i])[0][:ROBOT]
            states[i] = self._state(self.seen[i])
            done = {task for task in left if is_complete(states[i], task)}
            rewards[i] = len(done)
            left -= done
        finished = np.array([not left for left in self.left])
        return states.astype(np.float32), rewards, finished, finished.copy()

    def _state(self, robot: np.ndarray) -> Float[np.ndarray, " 60"]:
        """The state of the episode whose data and noise the simulator holds."""
        noise = self.amplitude * self.robot.np_random.uniform(-1, 1, len(self.amplitude))
        return np.concatenate([robot, self.robot.data.qpos[ROBOT:] + noise, self.goal])


class LightAndSliderEnvs(KitchenEnvs, tasks=LIGHT_AND_SLIDER):
    """Microwave, kettle, light switch, slide cabinet."""


class BurnerAndLightEnvs(KitchenEnvs, tasks=BURNER_AND_LIGHT):
    """Microwave, kettle, bottom burner, light switch."""


def kitchen_complete_envs(n: int) -> LightAndSliderEnvs | ParallelEnvs:
    """n episodes of D4RL's kitchen-complete-v0."""
    return in_workers(LightAndSliderEnvs, n, EPISODES_PER_WORKER)


def kitchen_partial_envs(n: int) -> LightAndSliderEnvs | ParallelEnvs:
    """n episodes of D4RL's kitchen-partial-v0: the tasks of kitchen-complete-v0."""
    return kitchen_complete_envs(n)


def kitchen_mixed_envs(n: int) -> BurnerAndLightEnvs | ParallelEnvs:
    """n episodes of D4RL's kitchen-mixed-v0."""
    return in_workers(BurnerAndLightEnvs, n, EPISODES_PER_WORKER)
