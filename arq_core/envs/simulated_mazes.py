"""What PointMaze and AntMaze share: D4RL's maps (Fu et al. 2020) and episodes of one agent in one
maze, simulated by MuJoCo.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from arq_core.envs.vector import EnvError, check_count, checked_states

# Rows from the top as in D4RL's text, '#' a wall. The same three for maze2d and antmaze;
# gymnasium-robotics has them too (tested).
MAPS = {
    "umaze": ("#####", "#   #", "### #", "#   #", "#####"),
    "medium": (
        "########",
        "#  ##  #",
        "#  #   #",
        "##   ###",
        "#  #   #",
        "# #  # #",
        "#   #  #",
        "########",
    ),
    "large": (
        "############",
        "#    #     #",
        "# ## # # # #",
        "#      #   #",
        "# #### ### #",
        "#  # #     #",
        "## # # # ###",
        "#  #   #   #",
        "############",
    ),
}
# D4RL's, for the point and for the ant; gymnasium-robotics has 0.45
GOAL_RADIUS = 0.5
EPISODES_PER_WORKER = 25  # at least: seconds of work, against about 0.3 s to start

Cell = tuple[int, int]  # (row, column) of a map


def free_cells(maze: str) -> list[Cell]:
    """Cells without a wall, row by row."""
    return [(i, j) for i, row in enumerate(MAPS[maze]) for j, tile in enumerate(row) if tile != "#"]


def make_simulator(name: str, maze_map: list[list[int]], **options):
    """gymnasium-robotics' environment `name` with this map (1 a wall) for its own, without time
    limit or checking wrappers.
    """
    try:
        import gymnasium

        with redirect_stderr(StringIO()):  # notices about other environments of the package
            import gymnasium_robotics
        import mujoco  # noqa: F401  Gymnasium names it only when an environment is made
    except ImportError as error:
        raise EnvError(
            f"the maze simulator cannot be loaded ({error}): expected gymnasium, "
            "gymnasium-robotics and mujoco; install the simulators: pip install "
            "'.[sim]' -c constraints.txt"
        ) from error
    gymnasium.register_envs(gymnasium_robotics)
    with warnings.catch_warnings():
        # version 4 of the ant is not the newest, and is what has D4RL's state
        warnings.simplefilter("ignore", DeprecationWarning)
        env = gymnasium.make(name, maze_map=maze_map, **options).unwrapped
    # the package leaves one such file behind per environment
    Path(env.tmp_xml_file_path).unlink()
    return env


class SimulatedMazes:
    """Up to n episodes side by side: one model, one MjData for each. Positions, goals and rewards
    are D4RL's.

    A kind of agent defines `agent` (Gymnasium's simulator of it), `start`, and the two directions
    between D4RL's numbers and the simulator's. Reward: 1 on each step that ends within GOAL_RADIUS
    of the goal, else 0. The goal is not in the state, as in D4RL.
    """

    state_dim: int
    action_dim: int
    horizon: int
    maze: str
    terminates: bool  # at the goal
    speed_limit = np.inf  # of qvel before each step, in each coordinate

    def __init__(self, n: int):
        self.sim = self.agent()
        import mujoco

        self.model, self.frame_skip = self.sim.model, self.sim.frame_skip
        self.data = [mujoco.MjData(self.model) for _ in range(n)]
        # of each running episode
        self.goals = np.zeros((0, 2))
        self.qpos, self.qvel = np.zeros((n, self.model.nq)), np.zeros((n, self.model.nv))

    def agent(self):
        """Gymnasium's simulator of the agent in `maze`; EnvError where it cannot be loaded."""
        raise NotImplementedError

    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """D4RL's start of an evaluation episode: a state [S] and a goal [2]."""
        raise NotImplementedError

    def to_simulator(self, states: Float[np.ndarray, "n S"]) -> tuple[np.ndarray, np.ndarray]:
        """qpos [n Q] and qvel [n V] of the simulator that stand for states."""
        raise NotImplementedError

    def from_simulator(
        self, qpos: Float[np.ndarray, "n Q"], qvel: Float[np.ndarray, "n V"]
    ) -> Float[np.ndarray, "n S"]:
        """States [n, S] that stand for qpos [n, Q] and qvel [n, V] of the simulator."""
        raise NotImplementedError

    def controls(self, actions: Float[np.ndarray, "n A"]) -> Float[np.ndarray, "n A"]:
        """The simulator's actions for actions in D4RL's coordinates."""
        return actions

    def reset(self, seeds: Sequence[int]) -> Float[np.ndarray, "n S"]:
        """Start n episodes, one a seed, as `start` draws them: states [n, S], float32. EnvError for
        no seeds, or for more than it was made for.
        """
        if not 0 < len(seeds) <= len(self.data):
            raise EnvError(
                f"{type(self).__name__}.reset: saw {len(seeds)} seeds, expected 1 to "
                f"{len(self.data)}; make {type(self).__name__}({len(seeds)})."
            )
        starts = [self.start(np.random.default_rng(int(seed))) for seed in seeds]
        states, goals = zip(*starts, strict=True)
        return self.place(np.stack(states), np.stack(goals))

    def place(
        self, states: Float[np.ndarray, "n S"], goals: Float[np.ndarray, "n 2"]
    ) -> Float[np.ndarray, "n S"]:
        """Begin n episodes in given states with given goals; EnvError for none, for more than it
        was made for, or where states and goals are not as many.
        """
        import mujoco

        who = f"{type(self).__name__}.place"
        checked_states(who, states, self.state_dim)
        check_count(who, len(states), len(self.data), "states")
        if np.shape(goals) != (len(states), 2):
            raise EnvError(
                f"{who}: saw goals of shape {np.shape(goals)} and {len(states)} states, expected "
                f"goals of shape {(len(states), 2)}, one per state."
            )
        self.goals = np.array(goals, np.float64)
        self.qpos, self.qvel = self.to_simulator(np.asarray(states, np.float64))
        for data, qpos, qvel in zip(self.data, self.qpos, self.qvel, strict=False):
            mujoco.mj_resetData(self.model, data)
            data.qpos[:], data.qvel[:] = qpos, qvel
            mujoco.mj_forward(self.model, data)
        return np.asarray(states, np.float32)

    def step(
        self, actions: Float[np.ndarray, "n A"]
    ) -> tuple[
        Float[np.ndarray, "n S"],
        Float[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
        Bool[np.ndarray, " n"],
    ]:
        """One step of every running episode: states, rewards, terminated, success (within the
        goal's radius). Actions are clipped.

        MuJoCo is called directly: the numbers are those of Gymnasium's own step, at a fifth of its
        time for the ball.
        """
        n = len(self.goals)
        if actions.shape != (n, self.action_dim) or not np.isfinite(actions).all():
            raise EnvError(
                f"{type(self).__name__}.step: saw actions of shape {actions.shape}, "
                f"{int((~np.isfinite(actions)).sum())} entries not finite, expected finite "
                f"actions of shape {(n, self.action_dim)}, one row per seed; reset first."
            )
        import mujoco

        controls = self.controls(np.clip(actions, -1.0, 1.0).astype(np.float64))
        for i in np.flatnonzero((np.abs(self.qvel) > self.speed_limit).any(1)):
            self.data[i].qvel[:] = np.clip(self.qvel[i], -self.speed_limit, self.speed_limit)
        for i, (data, control) in enumerate(zip(self.data, controls, strict=False)):
            data.ctrl[:] = control
            mujoco.mj_step(self.model, data, self.frame_skip)
            self.qpos[i], self.qvel[i] = data.qpos, data.qvel
        states = self.from_simulator(self.qpos, self.qvel)
        reached = at_goal(states, self.goals)
        return (
            states.astype(np.float32),
            reached.astype(np.float64),
            reached & self.terminates,
            reached,
        )


def at_goal(
    states: Float[np.ndarray, "n S"], goals: Float[np.ndarray, "n 2"]
) -> Bool[np.ndarray, " n"]:
    """Whether the position, a state's first two numbers, is within GOAL_RADIUS of the goal."""
    return np.linalg.norm(states[:, :2] - goals, axis=-1) <= GOAL_RADIUS
