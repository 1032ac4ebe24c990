"""PointMaze as D4RL's maze2d-*-v1 (Fu et al. 2020): a force-driven ball, a fixed goal, reward
while it is there, no termination.

The simulator is gymnasium-robotics'; its ball, walls and time step are D4RL's. What we change back
to D4RL's:

- Coordinates. D4RL's position counts cells: x along the map's rows, y along its columns, and the
  middle of cell (i, j) is at (i - 0.2, j - 0.2). gymnasium-robotics has x along the columns, y
  against the rows, and 0 in the middle of the map. The two differ by a quarter turn and a shift;
  states, velocities and actions here are D4RL's.
- The goal is D4RL's fixed one, not part of the state; reward 1 within 0.5 of it
  (gymnasium-robotics: 0.45), at every step.
- Starts: any free cell (the goal's included), position within 0.1 of (i, j), velocity normal with
  standard deviation 0.1.
"""

from __future__ import annotations

import numpy as np

from arq_core.envs.parallel import ParallelEnvs, in_workers
from arq_core.envs.simulated_mazes import (
    EPISODES_PER_WORKER,
    MAPS,
    SimulatedMazes,
    free_cells,
    make_simulator,
)

# D4RL's 'G'; its position is (row, column)
GOAL_CELL = {"umaze": (1, 1), "medium": (6, 6), "large": (7, 9)}
# steps; D4RL's time limits of version 1
HORIZON = {"umaze": 300, "medium": 600, "large": 800}
# of a cell's own (row, column), in each coordinate: D4RL's ball starts 0.2 off the cell's middle
CELL_MIDDLE = -0.2
# half-width of the positions, standard deviation of the velocities
START_NOISE = 0.1


class PointMazeEnvs(SimulatedMazes):
    """States (x, y, velocity of x, velocity of y), actions: the force along x and y, in units of
    100 N.
    """

    state_dim, action_dim, terminates = 4, 2, False
    speed_limit = 5.0  # D4RL's and gymnasium-robotics' clip_velocity

    def agent(self):
        """Gymnasium's simulator of the ball in this maze; sets `origin` [2], the map's middle in
        cells of 1 m. EnvError where the simulator cannot be loaded.
        """
        rows = [[int(tile == "#") for tile in row] for row in MAPS[self.maze]]
        # Position of the map's middle, gymnasium-robotics' origin.
        self.origin = np.array([len(rows), len(rows[0])]) / 2 - 0.5 + CELL_MIDDLE
        return make_simulator("PointMaze_UMaze-v3", rows).point_env

    def start(self, rng):
        """A start of an episode: a state [4] in a random free cell, in cells and cells/s, and the
        goal [2].
        """
        cells = free_cells(self.maze)
        position = cells[rng.integers(len(cells))] + rng.uniform(-START_NOISE, START_NOISE, 2)
        velocity = START_NOISE * rng.standard_normal(2)
        return np.concatenate([position, velocity]), np.array(GOAL_CELL[self.maze], float)

    def to_simulator(self, states):
        """qpos [n, 2] and qvel [n, 2], metres and m/s, of states [n, 4]: turned by a quarter,
        positions shifted.
        """
        return self.controls(states[:, :2] - self.origin), self.controls(states[:, 2:])

    def from_simulator(self, qpos, qvel):
        """States [n, 4] of qpos [n, 2] and qvel [n, 2]: `to_simulator` undone."""
        return np.stack(
            [self.origin[0] - qpos[:, 1], self.origin[1] + qpos[:, 0], -qvel[:, 1], qvel[:, 0]], 1
        )

    def controls(self, vectors):
        """Vectors [n, 2] along D4RL's axes, along the simulator's: (x, y) becomes (y, -x)."""
        return np.stack([vectors[:, 1], -vectors[:, 0]], 1)


class PointUMazeEnvs(PointMazeEnvs):
    """A ball in D4RL's umaze, 3 by 3 cells of 1 m inside the walls; horizon 300 steps."""

    maze, horizon = "umaze", HORIZON["umaze"]


class PointMediumEnvs(PointMazeEnvs):
    """A ball in D4RL's medium maze, 6 by 6 cells of 1 m inside the walls; horizon 600 steps."""

    maze, horizon = "medium", HORIZON["medium"]


class PointLargeEnvs(PointMazeEnvs):
    """A ball in D4RL's large maze, 7 by 10 cells of 1 m inside the walls; horizon 800 steps."""

    maze, horizon = "large", HORIZON["large"]


def pointmaze_umaze_envs(n: int) -> SimulatedMazes | ParallelEnvs:
    """n episodes of D4RL's maze2d-umaze-v1; EnvError where the simulator cannot be loaded."""
    return in_workers(PointUMazeEnvs, n, EPISODES_PER_WORKER)


def pointmaze_medium_envs(n: int) -> SimulatedMazes | ParallelEnvs:
    """n episodes of D4RL's maze2d-medium-v1; EnvError where the simulator cannot be loaded."""
    return in_workers(PointMediumEnvs, n, EPISODES_PER_WORKER)


def pointmaze_large_envs(n: int) -> SimulatedMazes | ParallelEnvs:
    """n episodes of D4RL's maze2d-large-v1; EnvError where the simulator cannot be loaded."""
    return in_workers(PointLargeEnvs, n, EPISODES_PER_WORKER)
