"""Shortest paths through a maze, for the collectors of PointMaze and AntMaze."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from functools import cache

import numpy as np

from arq_core.algorithm.types import DataError
from arq_core.envs.simulated_mazes import Cell, free_cells


@cache
def next_cells(maze: str, goal: Cell) -> dict[Cell, Cell]:
    """For each free cell but the goal, its neighbour (of four) on a shortest path to the goal, by
    breadth-first search from there.
    """
    free, after, waiting = set(free_cells(maze)), {goal: goal}, deque([goal])
    if goal not in free:
        raise DataError(
            f"maze {maze!r}: saw a goal in cell {goal}, expected a free one; take one "
            f"of free_cells({maze!r})."
        )
    while waiting:
        i, j = waiting.popleft()
        for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if cell in free and cell not in after:
                after[cell] = (i, j)
                waiting.append(cell)
    del after[goal]
    return after


def shortest_path(maze: str, start: Cell, goal: Cell) -> list[Cell]:
    """The cells from `start` to `goal`, both included."""
    after, path = next_cells(maze, goal), [start]
    while path[-1] != goal:
        path.append(after[path[-1]])
    return path


def draw_cell(cells: Collection[Cell], other_than: Cell, rng: np.random.Generator) -> Cell:
    """A cell of `cells` drawn uniformly from those that are not `other_than`, if there are any."""
    others = [cell for cell in cells if cell != other_than] or list(cells)
    return others[rng.integers(len(others))]
