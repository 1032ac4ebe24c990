"""Draws book/_static/cover.svg from the maze at profile ci: `python book/cover.py` (trains it, or
takes what the cache holds).
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from arq_core.algorithm.arq import arq
from arq_core.config.paths import root
from arq_core.engine.streams import Streams
from arq_core.envs.maze import MazeEnvs, maze_layout
from arq_core.experiments import experiment
from arq_core.figures import common, style

style.use()
maze = experiment.prepare("maze", "ci", [10, 11, 12, 13, 14])
data, seeds = maze.dataset.transitions, len(maze.rng)
result = arq(data, maze.hyper, maze.budget, maze.rng, maze.store())
figure, axes = common.panels(3, 9.6, 3.6)
for ax, title in zip(
    axes, ("recorded", "plausible, by the score model", "chosen by Q"), strict=True
):
    common.draw_maze(ax, maze_layout())
    ax.set_title(title)
rows = torch.arange(0, len(data.actions), 12)
common.draw_steps(
    axes[0], data.states[data.state[rows]].numpy(), data.states[data.next_state[rows]].numpy()
)
some = torch.arange(0, len(data.states), 60)
envs = MazeEnvs(len(some) * 6)
start = data.states[some].repeat_interleave(6, 0).numpy()
envs.place(start)
common.draw_steps(
    axes[1], start, envs.step(result.support.actions[0, some, :6].flatten(0, 1).numpy())[0]
)
envs, policy = MazeEnvs(12), result.implicit(maze.hyper, maze.hyper.log_epsilon)
states, alive = envs.reset(range(12)), np.ones(12, bool)
for _ in range(20):
    action = policy.act(torch.as_tensor(states).expand(seeds, -1, -1), Streams(maze.seeds))[
        0
    ].numpy()
    after, _, ended, _ = envs.step(action)
    common.draw_steps(axes[2], states[alive], after[alive], style.COLORS["green"], alpha=0.7)
    states, alive = after, alive & ~ended
plt.savefig(root() / "book/_static/cover.svg", metadata={"Date": None})
