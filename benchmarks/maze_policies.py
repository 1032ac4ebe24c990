"""The maze's policies that no page trains: the rows of Table 1, and Q-learning without a
restriction, small enough to walk in a page (arq_core.widgets.maze_walk).

    python benchmarks/maze_policies.py

One seed, the page's. Rows are trained as benchmarks/penalised_maze.py trains them, at the strengths
that it chose on other seeds; Q-learning without a restriction has ci's own budget. Writes
data/benchmarks/maze_policies.json: for each the mean return of its own episodes with weights that
were not rounded, and the weights: of 16 bits, but for the hidden layer of the wide critic
(experiments/maze_page.py).
"""

import json
from dataclasses import replace

import torch
from penalised_maze import SIZES

from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine.machine import keep_freed_memory
from arq_core.experiments import experiment
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.maze_page import (
    ROWS,
    actor_numbers,
    critic_numbers,
    kept,
    row_critic,
    written,
)
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/maze_policies.json"
EPISODES = 100


def trained(method: str) -> dict:
    """A method's returns, settings and numbers."""
    size, e = SIZES["full"], experiment.prepare("maze", "page", device="cpu")
    hyper, budget = e.hyper, e.budget
    if method != "unconstrained":
        hyper = replace(hyper, batch=size.batch, policy_lr=size.proxy_lr)
        budget = replace(
            budget, q_steps=size.steps, policy_steps=size.proxy_steps, precision="float32"
        )
    found = kept(method, e, hyper, budget)
    envs = e.task.environments(EPISODES)
    returns = evaluate(found.policy, envs, EPISODES, e.rng, e.task.horizon)["return"]
    if method == "unconstrained":
        numbers = dict(critic=critic_numbers(found.policy.q.net, e.data))
    else:
        critic = critic_numbers(row_critic(found.tensors, hyper.width), e.data)
        numbers = dict(actor=actor_numbers(found.policy.head), critic=critic)
    line = dict(method=method, mean=round(float(returns.mean()), 4), episodes=EPISODES)
    print(json.dumps(line), flush=True)
    row = method.removeprefix("dqp ")
    return dict(
        line, strength=hyper.dqp.get(row), numbers={k: written(x) for k, x in numbers.items()}
    )


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    seeds = experiment.prepare("maze", "page", device="cpu").seeds
    methods = ["unconstrained", *ROWS]
    lines = [trained(method) for method in methods]
    found = dict(
        provenance(own=FILE), task="maze", profile="page", seeds=list(seeds), policies=lines
    )
    write_atomic(FILE, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
