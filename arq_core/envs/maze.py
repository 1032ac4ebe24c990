"""The maze: a decision problem with a known answer, and a dataset in which the answer is present
only in pieces.

A walker crosses floors one cell wide that wind through lava, about one cell a step. Next to the
start lies a lure (reward 0.3); thirteen steps away lies the goal (reward 1); lava costs -1; all
three end the episode, and nothing else is rewarded but doors, which end it with 0. The behaviour is
memoryless: at every junction it tosses a coin between going on and turning off, so that its actions
have two modes there and their mean points into lava. Episodes of the dataset start anywhere on the
way, hence almost none leads from the start to the goal, though every step of the way is in the
data. So the behaviour's own value prefers the lure, and only the best action among those in the
data, step by step, finds the goal.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from arq_core.envs.vector import check_count, check_step, checked_states

# start to goal
WAY = [
    (0, 0),
    (1, 0),
    (2, 0),
    (3, 0),
    (3, 1),
    (3, 2),
    (2, 2),
    (1, 2),
    (0, 2),
    (0, 3),
    (0, 4),
    (1, 4),
    (2, 4),
    (3, 4),
]
# junction, where its side branch ends
LURE = ((1, 0), (1, -1))
DOORS = [((2, 0), (2, -1)), ((2, 2), (2, 1)), ((1, 4), (1, 5)), ((2, 4), (2, 3))]
LURE_REWARD, GOAL_REWARD, LAVA_REWARD = 0.3, 1.0, -1.0
REACH = 1.5  # cells moved by an action of 1
HALF_WIDTH = 0.40  # of the floors, cells
END_HALF_WIDTH = 0.30  # of the squares in which lure, doors and goal take the walker
# where the behaviour's steps land: normal around a waypoint, cut at the second; cells
STRAY, FARTHEST = 0.05, 0.15
SIDE_CHANCE = 0.5  # of turning off at a junction
# points of a step at which lava and ends are looked for: at most 0.13 cells apart
CHECKS = 16


def maze_layout() -> dict[str, np.ndarray]:
    """What to draw, in cells. `floor` [F, 4] and `doors` [4, 4], `lure` [1, 4], `goal` [1, 4] are
    rectangles (x0, y0, x1, y1); all that is no floor is lava. `edges` [F, 2, 2] are the waypoints a
    floor joins, `start` [2] a point, `bounds` [4] a frame for the picture.
    """
    edges = np.array([*pairwise(WAY), LURE, *DOORS], np.float32)

    def squares(centres):
        centres = np.array(centres, np.float32)
        return np.concatenate([centres - END_HALF_WIDTH, centres + END_HALF_WIDTH], 1)

    return dict(
        floor=np.concatenate([edges.min(1) - HALF_WIDTH, edges.max(1) + HALF_WIDTH], 1),
        edges=edges,
        lure=squares([LURE[1]]),
        goal=squares([WAY[-1]]),
        doors=squares([end for _, end in DOORS]),
        start=np.array(WAY[0], np.float32),
        bounds=np.array([-1, -2, 4, 6], np.float32),
    )


def inside(points: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    """Whether points [..., 2] lie in any of the rectangles [R, 4]."""
    p = points[..., None, :]
    return ((p >= rectangles[:, :2]) & (p <= rectangles[:, 2:])).all(-1).any(-1)


class MazeEnvs:
    """Position (x, y) in cells; an action moves by REACH times itself, in a straight line that ends
    at the first lava or end on it.
    """

    state_dim, action_dim, horizon = 2, 2, 40

    def __init__(self, n: int):
        self.ground = maze_layout()
        self.n, self.position = n, np.zeros((n, 2), np.float32)

    def place(self, states: np.ndarray) -> np.ndarray:
        """Starts episodes at given positions [n, 2]."""
        self.position = checked_states("MazeEnvs.place", states, 2)
        return self.position

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start n episodes, one a seed: positions [n, 2], at most FARTHEST cells off the start.
        EnvError for no seeds, or for more than it was made for.
        """
        check_count("MazeEnvs.reset", len(seeds), self.n)
        return self.place(
            np.concatenate(
                [near(self.ground["start"][None], np.random.default_rng(s)) for s in seeds]
            )
        )

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Move by the clipped actions: positions [n, 2] in cells; rewards [n], by what is met
        first, else 0; terminated [n], at lava, lure, goal or door; success [n], at the goal.
        """
        check_step("MazeEnvs.step", actions, (len(self.position), 2))
        move = REACH * np.clip(np.asarray(actions, np.float32), -1, 1)
        share = np.linspace(1 / CHECKS, 1, CHECKS, dtype=np.float32)
        # [n CHECKS 2]
        points = self.position[:, None] + share[:, None] * move[:, None]
        met = np.stack(
            [~inside(points, self.ground["floor"])]
            + [inside(points, self.ground[k]) for k in ("lure", "goal", "doors")]
        )
        event = met.any(0)
        terminated = event.any(1)
        at = np.where(terminated, event.argmax(1), CHECKS - 1)
        row = np.arange(len(points))
        self.position = points[row, at]
        lava, lure, goal, _ = met[:, row, at]
        reward = np.select([lava, lure, goal], [LAVA_REWARD, LURE_REWARD, GOAL_REWARD], 0.0)
        return self.position, reward, terminated, goal & terminated & ~lava


def near(centres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Normal points around centres [n, 2], drawn again until none is farther off than FARTHEST."""
    off = rng.normal(0, STRAY, centres.shape)
    while (far := np.linalg.norm(off, axis=1) > FARTHEST).any():
        off[far] = rng.normal(0, STRAY, (far.sum(), 2))
    return (centres + off).astype(np.float32)
