"""AntMaze datasets by D4RL's recipe for antmaze (Fu et al. 2020), with a gait by formula where D4RL
has a policy trained by SAC.

An ant walks along shortest ways to goals that it is told, and noise disturbs its motors. An episode
ends at the task's own goal, with reward 1, or at the horizon. When it reaches another goal, it is
told the next. What it is told is not in the state.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from arq_core.collectors.ant_gait import STEP_SECONDS, gait, walk
from arq_core.collectors.planner import draw_cell, shortest_path
from arq_core.collectors.recording import Episode, Recipe, record
from arq_core.config.settings import pick
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.engine.streams import derive_seed
from arq_core.envs.adroit import simulator_versions
from arq_core.envs.antmaze import (
    CELL_SIZE,
    GOAL_CELL,
    GOAL_NOISE,
    START_CELL,
    AntLargeEnvs,
    AntMazeEnvs,
    AntMediumEnvs,
    AntUMazeEnvs,
    cell_position,
    draw_goal,
)
from arq_core.envs.simulated_mazes import Cell, at_goal, free_cells

RECIPE = 1  # raise it when the same key would give other numbers
SEED = 0
PARTS, PART_STEPS = 100, 10_000  # a million steps, as in D4RL
NOISE = 0.2  # standard deviation added to actions; D4RL's
REACHED = 1.0  # metres from a waypoint at which the ant turns to the next
# metres beyond a cell's middle, in each coordinate, of starts and waypoints; D4RL's
SPREAD = 1.0

# The cells marked as goals in the mazes that D4RL collected in: where `play` goes.
PLAY = {
    "medium": ((2, 6), (5, 1), (6, 5)),
    "large": ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
}


@dataclass(frozen=True)
class Variant:
    """A kind of maze, and the cells of starts and goals."""

    kind: type[AntMazeEnvs]
    starts: tuple[Cell, ...]
    goals: tuple[Cell, ...]
    spread: float = SPREAD  # of starts


def _variants() -> dict[str, Variant]:
    """D4RL's: umaze from its start to its goal; play from anywhere to marked cells; diverse from
    anywhere (but the goal) to anywhere.
    """
    out = {
        "antmaze-umaze-recollected": Variant(
            AntUMazeEnvs, (START_CELL,), (GOAL_CELL["umaze"],), 0.0
        )
    }
    for kind in (AntUMazeEnvs, AntMediumEnvs, AntLargeEnvs):
        cells = tuple(free_cells(kind.maze))
        starts = tuple(cell for cell in cells if cell != GOAL_CELL[kind.maze])
        for name, goals in (("play", PLAY.get(kind.maze)), ("diverse", cells)):
            if goals:
                out[f"antmaze-{kind.maze}-{name}-recollected"] = Variant(kind, starts, goals)
    return out


VARIANTS = _variants()


def reward_goal(maze: str) -> np.ndarray:
    """Where the reward is [2]: the mean of the goals of evaluation.

    D4RL rewards its datasets for one goal drawn from these.
    """
    return cell_position(GOAL_CELL[maze]) + sum(GOAL_NOISE) / 2


def cell_of(position: np.ndarray) -> Cell:
    """The cell that a position [2] is in."""
    column, row = np.floor(position / CELL_SIZE + 0.5).astype(int).tolist()
    return row + START_CELL[0], column + START_CELL[1]


def way_to(
    maze: str, position: np.ndarray, goals: tuple[Cell, ...], rng: np.random.Generator
) -> list[np.ndarray]:
    """The way [K] from a position to a goal, the last one, in a cell of `goals` drawn from the
    others if there are others.
    """
    start = cell_of(position)
    goal = draw_cell(goals, start, rng)
    between = [
        cell_position(cell) + SPREAD * rng.uniform(size=2)
        for cell in shortest_path(maze, start, goal)[1:-1]
    ]
    return [*between, draw_goal(goal, rng)]


def episode(envs: AntMazeEnvs, variant: Variant, limit: int, rng: np.random.Generator) -> Episode:
    """One episode of at most `limit` steps."""
    maze, g, target = envs.maze, gait(), reward_goal(envs.maze)
    start = cell_position(
        variant.starts[rng.integers(len(variant.starts))]
    ) + variant.spread * rng.uniform(size=2)
    states, actions, rewards, goals = (
        [*envs.place(envs.pose(start, rng)[None], target[None])],
        [],
        [],
        [],
    )
    way, terminal, phase = way_to(maze, start, variant.goals, rng), False, rng.uniform()
    noise = NOISE * rng.standard_normal((limit, envs.action_dim))
    while len(actions) < limit and not terminal:
        direction = np.arctan2(*(way[0] - states[-1][:2])[::-1])
        action = walk(
            g,
            np.array([phase + STEP_SECONDS * len(actions)]),
            states[-1][None],
            np.array([direction]),
        )[0]
        actions.append(np.clip(action + noise[len(actions)], -1, 1).astype(np.float32))
        goals.append(way[-1])
        (state,), (reward,), (terminal,), _ = envs.step(actions[-1][None])
        states.append(state)
        rewards.append(reward)
        way = _advanced(maze, way, state, variant.goals, rng)
    states = np.stack(states)
    infos = {
        "infos/goal": np.float32(goals),
        "infos/qpos": states[:-1, :15],
        "infos/qvel": states[:-1, 15:],
    }
    return dict(
        observations=states,
        actions=np.stack(actions),
        rewards=np.array(rewards),
        terminal=bool(terminal),
        **infos,
    )


def _advanced(
    maze: str,
    way: list[np.ndarray],
    state: np.ndarray,
    goals: tuple[Cell, ...],
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """What is left of a way; a new way where its goal is reached."""
    if len(way) > 1:
        return way[1:] if np.hypot(*(state[:2] - way[0])) < REACHED else way
    return way_to(maze, state[:2], goals, rng) if at_goal(state[None], way[0][None])[0] else way


def _part(task_name: str, steps: int, i: int) -> list[Episode]:
    variant, rng, episodes = (
        VARIANTS[task_name],
        np.random.default_rng(derive_seed(task_name, SEED, i)),
        [],
    )
    envs = variant.kind(1)
    while steps > 0:
        episodes.append(episode(envs, variant, min(steps, envs.horizon), rng))
        steps -= len(episodes[-1]["actions"])
    return episodes


def recipe(task_name: str, parts: int = PARTS, steps: int = PART_STEPS) -> Recipe:
    variant = pick("AntMaze dataset", task_name, VARIANTS)
    key = dict(
        recipe=RECIPE,
        seed=SEED,
        part_steps=steps,
        gait=asdict(gait()),
        numpy=np.__version__,
        **simulator_versions(),
    )
    return Recipe(task_name, "d4rl", parts, key, partial(_part, task_name, steps), card(variant))


def card(variant: Variant) -> dict[str, str]:
    """The texts of a data card."""
    goal = reward_goal(variant.kind.maze)
    return dict(
        how="D4RL's antmaze recipe on gymnasium-robotics' AntMaze with D4RL's ant: "
        f"starts in {len(variant.starts)} and goals in {len(variant.goals)} cells, "
        f"shortest ways, {PARTS} parts of {PART_STEPS:,} steps; reward 1 and the "
        f"end within 0.5 of ({goal[0]:g}, {goal[1]:g})",
        behaviour="a gait by formula (data/ant_gait.json) towards one waypoint after "
        f"another, with normal noise of standard deviation {NOISE:g} on the "
        "actions, clipped to [-1, 1]; it knows a goal, and a time, that are not in "
        "the state",
        licence="MIT, as this repository",
        differences="the walker is a formula, not D4RL's policy trained by SAC; MuJoCo 3 "
        "instead of 2; episodes end at the rewarded goal (D4RL's go on, with "
        "several terminals each) or at the time limit of the task; another goal is "
        "told when one is reached (D4RL's ant stays there); rewards[t] and "
        "terminals[t] are of the state reached",
    )


def load(task_name: str) -> Dataset:
    """The dataset, collected on the first call: about 20 minutes on one core."""
    return read_d4rl(
        record(recipe(task_name)),
        AntMazeEnvs.state_dim,
        AntMazeEnvs.action_dim,
        fidelity="recollected",
    )
