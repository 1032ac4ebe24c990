"""PointMaze datasets by D4RL's recipe for maze2d (Fu et al. 2020): a ball goes from goal to goal without end.

Goals are drawn from all free cells. A breadth-first search gives the way, a proportional-derivative controller with noise follows it.
The reward is that of the task's own fixed goal, which the ball passes by chance. `timeouts` are where one goal was reached and the
next drawn; the ball goes on from there.
"""
from __future__ import annotations

from functools import partial

import numpy as np

from arq_core.collectors.planner import draw_cell, shortest_path
from arq_core.collectors.recording import Episode, Recipe, record
from arq_core.datasets import Dataset
from arq_core.datasets.d4rl import read_d4rl
from arq_core.envs.door import simulator_versions
from arq_core.envs.pointmaze import (CELL_MIDDLE, GOAL_CELL, START_NOISE, PointLargeEnvs, PointMazeEnvs, PointMediumEnvs,
                                     PointUMazeEnvs)
from arq_core.envs.simulated_mazes import Cell, free_cells
from arq_core.settings import pick
from arq_core.streams import derive_seed

RECIPE = 1                        # raise it when the same key would give other numbers
SEED = 0
PARTS, PART_STEPS = 20, 50_000    # D4RL's umaze has a million steps too; its medium two, its large four
REACHED = 0.1                     # distance at which a waypoint or a goal counts as reached; D4RL's solve_thresh
GAIN, DAMPING = 10.0, 1.0         # of the controller; D4RL's p_gain and -d_gain
NOISE = 0.5                       # standard deviation added to actions; what D4RL's script adds when asked for noise
WAYPOINT_SPREAD = 0.2             # waypoints lie this far at most below (i, j): between a cell's middle and where D4RL starts the ball

KINDS: dict[str, type[PointMazeEnvs]] = {
    "pointmaze-umaze-recollected": PointUMazeEnvs,
    "pointmaze-medium-recollected": PointMediumEnvs,
    "pointmaze-large-recollected": PointLargeEnvs,
}
CARD = dict(
    how=f"D4RL's maze2d recipe on gymnasium-robotics' PointMaze: goal after goal from all free cells, the way by breadth-first search, "
        f"{PARTS} walks of {PART_STEPS:,} steps that begin anywhere",
    behaviour=f"proportional-derivative controller (gains {GAIN:g} and {DAMPING:g}) plus normal noise of standard deviation {NOISE:g}, clipped to "
              "[-1, 1]; it knows a goal that is not in the state",
    licence="MIT, as this repository",
    differences="MuJoCo 3 instead of 2; a million steps for each maze; rewards[t] is that of the state reached, as in the environment "
                "(D4RL's files have that of the state left); no state is recorded twice where the goal changes; goals differ from "
                "the cell that the ball is in; `goal` is the way's last waypoint; noise is always added",
)


def cell_of(position: np.ndarray) -> Cell:
    """The cell that a position [2] is in: cell (i, j) reaches half a cell around its middle."""
    i, j = np.floor(position - CELL_MIDDLE + 0.5).astype(int).tolist()
    return i, j


def controller(state: np.ndarray, waypoint: np.ndarray) -> np.ndarray:
    """Proportional-derivative control: GAIN·(waypoint - position) - DAMPING·velocity, [2]; not yet clipped."""
    return GAIN * (waypoint - state[:2]) - DAMPING * state[2:]


def waypoints(maze: str, position: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The way [K] from a position to a goal, the last one, in a cell drawn from the others."""
    start = cell_of(position)
    goal = draw_cell(free_cells(maze), start, rng)
    between = [cell - WAYPOINT_SPREAD * rng.uniform(size=2) for cell in map(np.array, shortest_path(maze, start, goal)[1:-1])]
    return [*between, goal + rng.uniform(-START_NOISE, START_NOISE, 2)]


def walk(envs: PointMazeEnvs, steps: int, rng: np.random.Generator) -> list[Episode]:
    """One continuing walk of `steps` steps, cut into an episode for each goal: where it is reached, and at the task's horizon."""
    maze, episodes = envs.maze, []
    state = envs.place(envs.start(rng)[0][None], np.array([GOAL_CELL[maze]]))[0]
    while steps > 0:
        episodes.append(_to_goal(envs, state, waypoints(maze, state[:2], rng), min(steps, envs.horizon), rng))
        state = episodes[-1]["observations"][-1]
        steps -= len(episodes[-1]["actions"])
    return episodes


def _to_goal(envs: PointMazeEnvs, state: np.ndarray, way: list[np.ndarray], limit: int, rng: np.random.Generator) -> Episode:
    states, actions, rewards, goal = [state], [], [], way[-1]
    way, noise = list(way), NOISE * rng.standard_normal((limit, 2))
    while way and len(actions) < limit:
        actions.append(np.clip(controller(states[-1], way[0]) + noise[len(actions)], -1, 1).astype(np.float32))
        after, reward, _, _ = envs.step(actions[-1][None])
        states.append(after[0])
        rewards.append(reward[0])
        if np.hypot(*(after[0, :2] - way[0])) < REACHED:
            del way[0]
    states = np.stack(states)
    infos = {"infos/goal": np.tile(goal, (len(actions), 1)).astype(np.float32), "infos/qpos": states[:-1, :2], "infos/qvel": states[:-1, 2:]}
    return dict(observations=states, actions=np.stack(actions), rewards=np.array(rewards), terminal=False, **infos)


def _part(task_name: str, steps: int, i: int) -> list[Episode]:
    return walk(KINDS[task_name](1), steps, np.random.default_rng(derive_seed(task_name, SEED, i)))


def recipe(task_name: str, parts: int = PARTS, part_steps: int = PART_STEPS) -> Recipe:
    pick("PointMaze dataset", task_name, KINDS)
    key = dict(recipe=RECIPE, seed=SEED, part_steps=part_steps, numpy=np.__version__, **simulator_versions())
    return Recipe(task_name, "d4rl", parts, key, partial(_part, task_name, part_steps), CARD)


def load(task_name: str) -> Dataset:
    """The dataset, collected on the first call: minutes."""
    return read_d4rl(record(recipe(task_name)), KINDS[task_name].state_dim, KINDS[task_name].action_dim, fidelity="recollected")
