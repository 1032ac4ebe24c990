"""Our own two simulators seen from above: they have no camera."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from arq_core.envs.bridge import HALF_WIDTH, PLANKS, middle
from arq_core.envs.maze import maze_layout
from arq_core.figures import common
from arq_core.figures.style import COLORS


def maze(ax: Axes) -> None:
    """Floors on lava, start, lure, goal and doors."""
    common.draw_maze(ax, maze_layout())
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, fontsize=8)


def bridge(ax: Axes) -> None:
    """Ten planks that sway over water, from the start at the left."""
    for plank in range(PLANKS):
        x = np.linspace(plank + 0.06, plank + 0.94, 12)
        edge = middle(x)
        ax.fill_between(x, edge - HALF_WIDTH, edge + HALF_WIDTH, color="#c9b08a", zorder=1)
    ax.plot(0, middle(np.zeros(1))[0], "o", color=COLORS["black"], ms=6, zorder=2)
    ax.set(
        xlim=(-0.3, PLANKS), ylim=(-1.1, 1.1), xlabel="plank", ylabel="sideways", yticks=[-1, 0, 1]
    )
    ax.set_facecolor("#dcebf5")
    ax.grid(False)


WORLDS = {"arq_core.envs.maze:MazeEnvs": maze, "arq_core.envs.bridge:BridgeEnvs": bridge}
