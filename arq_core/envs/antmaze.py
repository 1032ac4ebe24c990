"""AntMaze as D4RL's antmaze-* (Fu et al. 2020): an ant of eight motors walks to a goal; reward 1
and the end there.

The simulator is gymnasium-robotics'; what we change back to D4RL's:

- The ant. Three numbers of its model differ (`d4rl_ant`): its motors are five times as strong, its
  time step half as long, its contacts stiffer. The model here has D4RL's. D4RL's data were made
  with MuJoCo 2.0 and have never been replayed here: a score in this environment is not set beside a
  published one as a reproduction.
- Coordinates. D4RL starts at 0 with y down the map; gymnasium-robotics has 0 in the map's middle
  and y up. Its ant cannot be mirrored, so the map is turned over instead; then both differ by a
  shift, and states here are D4RL's.
- Goals: one for each episode, within [0, 1.5] beyond the goal's cell in x and y, as in D4RL's
  version 2; versions 0 and 1 draw one such goal for a whole evaluation. It is not in the state.
  `play` and `diverse` are evaluated alike, and so is umaze-diverse.
- Starts: the origin, all positions and angles within 0.1 of D4RL's pose, velocities normal with
  standard deviation 0.1.
"""

from __future__ import annotations

import numpy as np

from arq_core.envs.parallel import ParallelEnvs, in_workers
from arq_core.envs.simulated_mazes import (
    EPISODES_PER_WORKER,
    MAPS,
    Cell,
    SimulatedMazes,
    make_simulator,
)

# D4RL's 'R' in all three, and the origin
START_CELL = (1, 1)
# D4RL's 'G' of the mazes it evaluates in
GOAL_CELL = {"umaze": (3, 1), "medium": (6, 6), "large": (7, 9)}
HORIZON = {"umaze": 700, "medium": 1000, "large": 1000}  # steps
CELL_SIZE = 4.0  # metres
# half-width of positions and angles, standard deviation of velocities
START_NOISE = 0.1
GOAL_NOISE = (1.0, 0.5)  # metres: the sum of two uniform draws, from 0 to each of these
# qpos after x and y: height, quaternion, joints; what the model starts in
POSE = (0.75, 1.0, 0.0, 0.0, 0.0, *8 * (0.0,))
TORQUE = 30.0  # N m of a whole action
TIME_STEP = 0.02  # s; five of them in one step
CONTACT = (0.8, 0.8, 0.01)  # solimp's first three


def cell_position(cell: Cell) -> np.ndarray:
    """Position [2] of a cell's middle: x along the columns, y along the rows, from the start's
    cell.
    """
    return CELL_SIZE * np.array([cell[1] - START_CELL[1], cell[0] - START_CELL[0]], float)


def draw_goal(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """D4RL's goal in a cell: beyond its middle by two uniform draws in each coordinate, never below
    0.
    """
    return np.maximum(
        cell_position(cell) + sum(rng.uniform(0, width, 2) for width in GOAL_NOISE), 0.0
    )


def make_ant(rows: list[list[int]]):
    """Gymnasium's simulator of D4RL's ant among the walls (1) of a map; its first row is the one
    with the largest y.
    """
    ant = make_simulator("AntMaze_UMaze-v4", rows).ant_env
    d4rl_ant(ant.model)
    return ant


def d4rl_ant(model) -> None:
    """Gymnasium's ant made D4RL's, in place: motors of 30 N m (150), steps of 0.02 s (0.01),
    contacts of impedance 0.8 (0.9 to 0.95).
    """
    model.actuator_gear[:, 0] = TORQUE
    model.opt.timestep = TIME_STEP
    model.geom_solimp[:, :3] = CONTACT


class AntMazeEnvs(SimulatedMazes):
    """States: qpos [15] (x, y, height, quaternion, joints) and qvel [14]; actions: the motors'
    torques, in units of 30 N m.
    """

    state_dim, action_dim, terminates = 29, 8, True

    def agent(self):
        """Gymnasium's simulator of D4RL's ant in this maze; sets `origin` [2], the map's middle in
        metres. EnvError where the simulator cannot be loaded.
        """
        rows = [[int(tile == "#") for tile in row] for row in reversed(MAPS[self.maze])]
        # Position of the map's middle, gymnasium-robotics' origin.
        self.origin = CELL_SIZE * (np.array([len(rows[0]), len(rows)]) / 2 - 0.5 - START_CELL[::-1])
        return make_ant(rows)

    def start(self, rng):
        """A start of an episode: a state [29] at the origin with D4RL's noise, and a goal [2] in
        metres.
        """
        return self.pose(cell_position(START_CELL), rng), draw_goal(GOAL_CELL[self.maze], rng)

    def pose(self, position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The state of an ant that stands at `position` [2], with D4RL's noise."""
        qpos = np.array([*position, *POSE])
        return np.concatenate(
            [
                qpos + rng.uniform(-START_NOISE, START_NOISE, 15),
                START_NOISE * rng.standard_normal(14),
            ]
        )

    def to_simulator(self, states):
        """qpos [n, 15] and qvel [n, 14] of states [n, 29]: x and y, metres, are counted from the
        map's middle.
        """
        return np.concatenate([states[:, :2] - self.origin, states[:, 2:15]], 1), states[
            :, 15:
        ].copy()

    def from_simulator(self, qpos, qvel):
        """States [n, 29] of qpos [n, 15] and qvel [n, 14]: x and y, metres, are counted from the
        start's cell.
        """
        return np.concatenate([qpos[:, :2] + self.origin, qpos[:, 2:], qvel], 1)


class AntUMazeEnvs(AntMazeEnvs):
    """An ant in D4RL's umaze, 3 by 3 cells of 4 m inside the walls; horizon 700 steps."""

    maze, horizon = "umaze", HORIZON["umaze"]


class AntMediumEnvs(AntMazeEnvs):
    """An ant in D4RL's medium maze, 6 by 6 cells of 4 m inside the walls; horizon 1,000 steps."""

    maze, horizon = "medium", HORIZON["medium"]


class AntLargeEnvs(AntMazeEnvs):
    """An ant in D4RL's large maze, 7 by 10 cells of 4 m inside the walls; horizon 1,000 steps."""

    maze, horizon = "large", HORIZON["large"]


def umaze_envs(n: int) -> SimulatedMazes | ParallelEnvs:
    """n episodes of D4RL's antmaze-umaze; EnvError where the simulator cannot be loaded."""
    return in_workers(AntUMazeEnvs, n, EPISODES_PER_WORKER)


def umaze_diverse_envs(n: int) -> SimulatedMazes | ParallelEnvs:
    """The same as umaze_envs: D4RL's diverse dataset differs, its evaluation does not."""
    return umaze_envs(n)


def medium_envs(n: int) -> SimulatedMazes | ParallelEnvs:
    """n episodes of D4RL's antmaze-medium, play or diverse; EnvError where the simulator cannot be
    loaded.
    """
    return in_workers(AntMediumEnvs, n, EPISODES_PER_WORKER)


def large_envs(n: int) -> SimulatedMazes | ParallelEnvs:
    """n episodes of D4RL's antmaze-large, play or diverse; EnvError where the simulator cannot be
    loaded.
    """
    return in_workers(AntLargeEnvs, n, EPISODES_PER_WORKER)
