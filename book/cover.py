"""Draws book/_static/cover.svg, what epsilon does to a policy: walkers on the bridge, whose critics
were trained with three epsilons. `python book/cover.py` trains one seed at profile page, or takes
what the cache holds; and it writes README's line of results from the rows.
"""

import math
import re
from dataclasses import replace

import numpy as np
import torch
from matplotlib import pyplot as plt

from arq_core.algorithm.arq import arq
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA, root
from arq_core.engine.streams import Streams
from arq_core.envs.bridge import HALF_WIDTH, PLANKS, BridgeEnvs, middle
from arq_core.experiments import experiment
from arq_core.figures import common, style
from arq_core.results.headline import headline
from arq_core.results.rows import read_rows
from arq_core.results.tables import read_runs

WALKERS = 30
EPSILONS = {
    "no filter": -math.inf,
    r"$\varepsilon = e^{-5}$, the paper's": -5.0,
    r"$\varepsilon = e$, too strict": 1.0,
}
ALT = (
    "Thirty walkers on a bridge of ten planks, by three policies of ARQ. Without the filter most "
    "fall; with the paper's epsilon nearly all cross, and with nearly all coins; with one that is "
    "too strict some more fall, and coins are fewer."
)
RESULTS = re.compile(r"(<!-- results[^>]*-->\n).*?(\n<!-- end of results -->)", re.S)


def walk(bridge, log_epsilon: float, ax) -> tuple[int, float]:
    """Draws the walks of a policy; how many cross, and the mean return."""
    hyper = replace(bridge.hyper, log_epsilon=log_epsilon)
    data, rng = bridge.dataset.transitions, bridge.rng
    result = arq(data, hyper, bridge.budget, rng, bridge.store(), explicit=False)
    policy, streams, envs = (
        result.implicit(hyper, log_epsilon),
        Streams(bridge.seeds),
        BridgeEnvs(WALKERS),
    )
    states, alive, returns = envs.reset(range(WALKERS)), np.ones(WALKERS, bool), 0.0
    across = 0
    while alive.any():
        action = policy.act(torch.as_tensor(states)[None], streams)[0].numpy()
        after, reward, ended, success = envs.step(action)
        returns += float(reward[alive].sum())
        across += int(success[alive].sum())
        common.draw_steps(ax, states[alive], after[alive], style.COLORS["green"], alpha=0.5)
        fell = alive & ended & ~success
        ax.plot(*after[fell].T, ls="", marker="x", color=style.COLORS["orange"], ms=6, mew=1.8)
        states, alive = after, alive & ~ended
    return across, returns / WALKERS


def main() -> None:
    """Draw, and write."""
    style.use()
    bridge = experiment.prepare("bridge", "page")
    figure, axes = common.panels(len(EPSILONS), 9.6, 2.6, sharey=True)
    plank = np.linspace(0, PLANKS, 200)
    edge = middle(plank)
    for ax, (name, log_epsilon) in zip(axes, EPSILONS.items(), strict=True):
        ax.fill_between(plank, edge - HALF_WIDTH, edge + HALF_WIDTH, color="0.9", zorder=0)
        across, mean = walk(bridge, log_epsilon, ax)
        told = f"{across} of {WALKERS} cross, return {mean:.2f}".replace("-", "−")
        ax.set_title(f"{name}\n{told}")
        ax.set(xlim=(0, PLANKS), ylim=(-1.1, 1.1), xlabel="plank", xticks=range(0, PLANKS + 1, 2))
        print(f"{name}: {told}")
    axes[0].set_ylabel("sideways")
    plt.savefig(root() / "book/_static/cover.svg", metadata={"Date": None, "Title": ALT})
    path = root() / "README.md"
    line = headline(read_rows(DATA / "results"), read_runs(DATA / "results"))
    text = RESULTS.sub(lambda m: m[1] + line + m[2], path.read_text(encoding="utf-8"))
    text = re.sub(r"!\[[^]]*\](?=\(book/_static/cover.svg\))", lambda _: f"![{ALT}]", text)
    write_atomic(path, text.encode())


if __name__ == "__main__":
    main()
