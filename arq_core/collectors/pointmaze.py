"""PointMaze datasets by D4RL's recipe for maze2d (Fu et al. 2020): a ball goes from goal to goal
without end.

Goals are drawn from all free cells. A breadth-first search gives the way, a proportional-derivative
controller with noise follows it. The reward is that of the task's own fixed goal, which the ball
passes by chance. `timeouts` are where one goal was reached and the next drawn; the ball goes on
from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from jaxtyping import Float

from arq_core.collectors.planner import draw_cell, shortest_path
from arq_core.collectors.recording import Episode, Recipe, record
from arq_core.config.settings import pick
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.engine.streams import derive_seed
from arq_core.envs.adroit import simulator_versions
from arq_core.envs.pointmaze import (
    CELL_MIDDLE,
    GOAL_CELL,
    START_NOISE,
    PointLargeEnvs,
    PointMazeEnvs,
    PointMediumEnvs,
    PointUMazeEnvs,
)
from arq_core.envs.simulated_mazes import Cell, free_cells

RECIPE = 1  # raise it when the same key would give other numbers
SEED = 0
# WALKS side by side in each part; D4RL's umaze has a million steps too, medium two, large four
PARTS, WALKS, STEPS = 20, 10, 5_000
# distance at which a waypoint or a goal counts as reached; D4RL's solve_thresh
REACHED = 0.1
GAIN, DAMPING = 10.0, 1.0  # of the controller; D4RL's p_gain and -d_gain
# standard deviation added to actions; what D4RL's script adds when asked for noise
NOISE = 0.5
# waypoints lie this far at most below (i, j): between a cell's middle and where D4RL starts the
# ball
WAYPOINT_SPREAD = 0.2

KINDS: dict[str, type[PointMazeEnvs]] = {
    "pointmaze-umaze-recollected": PointUMazeEnvs,
    "pointmaze-medium-recollected": PointMediumEnvs,
    "pointmaze-large-recollected": PointLargeEnvs,
}
CARD = dict(
    how="D4RL's maze2d recipe on gymnasium-robotics' PointMaze: goal after goal "
    f"from all free cells, the way by breadth-first search, {PARTS * WALKS} "
    f"walks of {STEPS:,} steps that begin anywhere",
    behaviour=f"proportional-derivative controller (gains {GAIN:g} and {DAMPING:g}) plus "
    f"normal noise of standard deviation {NOISE:g}, clipped to [-1, 1]; it "
    "knows a goal that is not in the state",
    licence="MIT, as this repository",
    differences="MuJoCo 3 instead of 2; a million steps for each maze; rewards[t] is that "
    "of the state reached, as in the environment (D4RL's files have that of "
    "the state left); no state is recorded twice where the goal changes; goals "
    "differ from the cell that the ball is in; `goal` is the way's last "
    "waypoint; noise is always added",
)


def cell_of(position: np.ndarray) -> Cell:
    """The cell that a position [2] is in: cell (i, j) reaches half a cell around its middle."""
    i, j = np.floor(position - CELL_MIDDLE + 0.5).astype(int).tolist()
    return i, j


def controller(
    states: Float[np.ndarray, "n 4"], waypoints: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 2"]:
    """Proportional-derivative control: GAIN·(waypoint - position) - DAMPING·velocity; not yet
    clipped.
    """
    return GAIN * (waypoints - states[:, :2]) - DAMPING * states[:, 2:]


def way_to(maze: str, position: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The way [K] from a position to a goal, the last waypoint, in a cell drawn from the others."""
    start = cell_of(position)
    goal = draw_cell(free_cells(maze), start, rng)
    between = [
        cell - WAYPOINT_SPREAD * rng.uniform(size=2)
        for cell in map(np.array, shortest_path(maze, start, goal)[1:-1])
    ]
    return [*between, goal + rng.uniform(-START_NOISE, START_NOISE, 2)]


def walks(envs: PointMazeEnvs, steps: int, rng: np.random.Generator) -> list[Episode]:
    """As many walks of `steps` steps as `envs` has, cut into an episode for each goal: where it is
    reached, and at the task's horizon.
    """
    maze, n = envs.maze, len(envs.data)
    states = [
        envs.place(
            np.stack([envs.start(rng)[0] for _ in range(n)]), np.array([GOAL_CELL[maze]] * n)
        )
    ]
    ways = [way_to(maze, state[:2], rng) for state in states[0]]
    actions, rewards, goals, ends = [], [], [], []
    # steps that each has walked to its present goal
    age = np.zeros(n, int)
    for _ in range(steps):
        next_waypoints = np.stack([way[0] for way in ways])
        noise = NOISE * rng.standard_normal((n, 2))
        actions.append(
            np.clip(controller(states[-1], next_waypoints) + noise, -1, 1).astype(np.float32)
        )
        goals.append([way[-1] for way in ways])
        after, reward, _, _ = envs.step(actions[-1])
        states.append(after)
        rewards.append(reward)
        age += 1
        for i in np.flatnonzero(np.linalg.norm(after[:, :2] - next_waypoints, axis=1) < REACHED):
            del ways[i][0]
        ends.append((age >= envs.horizon) | ~np.array([bool(way) for way in ways]))
        for i in np.flatnonzero(ends[-1]):
            ways[i], age[i] = way_to(maze, after[i, :2], rng), 0
    arrays = [np.stack(x, 1) for x in (states, actions, rewards, np.float32(goals), ends)]
    return [episode for walk in zip(*arrays, strict=True) for episode in _cut(*walk)]


def _cut(states, actions, rewards, goals, ends) -> Iterator[Episode]:
    """The episodes of one walk: states [T+1 4], the others [T ...].

    The last one ends with the walk.
    """
    stops = np.union1d(np.flatnonzero(ends) + 1, len(actions))
    for start, stop in zip(np.concatenate([[0], stops[:-1]]), stops, strict=True):
        rows, seen = slice(start, stop), states[start : stop + 1]
        yield {
            "observations": seen,
            "actions": actions[rows],
            "rewards": rewards[rows],
            "terminal": False,
            "infos/goal": goals[rows],
            "infos/qpos": seen[:-1, :2],
            "infos/qvel": seen[:-1, 2:],
        }


def _part(task_name: str, n: int, steps: int, i: int) -> list[Episode]:
    return walks(KINDS[task_name](n), steps, np.random.default_rng(derive_seed(task_name, SEED, i)))


def recipe(task_name: str, parts: int = PARTS, n: int = WALKS, steps: int = STEPS) -> Recipe:
    pick("PointMaze dataset", task_name, KINDS)
    key = dict(
        recipe=RECIPE, seed=SEED, walks=n, steps=steps, numpy=np.__version__, **simulator_versions()
    )
    return Recipe(task_name, "d4rl", parts, key, partial(_part, task_name, n, steps), CARD)


def load(task_name: str) -> Dataset:
    """The dataset, collected on the first call: minutes."""
    return read_d4rl(
        record(recipe(task_name)),
        KINDS[task_name].state_dim,
        KINDS[task_name].action_dim,
        fidelity="recollected",
    )
