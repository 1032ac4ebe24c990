"""Does ARQ act as well in the maze when everything fast is replaced by the slow way? The same Q and
score model, acting by other solvers.

    python benchmarks/maze_returns.py

The policy is ARQ + s_psi of profile ci, trained on seeds that chose nothing of this. Each setting
draws its candidates and their densities anew at every step. Prints a JSON line a setting and writes
them to data/benchmarks/maze_returns.json.
"""

import json
import time
import warnings
from dataclasses import replace

from arq_core.algorithm.behavior import with_budget
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.experiments import experiment
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.methods import METHODS
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/maze_returns.json"
SEEDS, EPISODES = [200, 201, 202], 40
SETTINGS = {
    "20 evaluations, bfloat16": dict(sampler_steps=20),
    "20 evaluations, float32": dict(sampler_steps=20, precision="float32"),
    "8 evaluations, bfloat16": dict(sampler_steps=8),
    "PC 1000 and RK45 with 10 probes, float32": dict(
        sampler="predictor_corrector_batch",
        sampler_steps=1000,
        density="rk45",
        probes=10,
        precision="float32",
    ),
}


def main() -> None:
    maze = experiment.prepare("maze", "ci", SEEDS)
    policy = METHODS["arq+s_psi"](
        maze.dataset.transitions, maze.hyper, maze.budget, maze.rng, maze.store()
    ).policy
    lines = []
    for name, changes in SETTINGS.items():
        start = time.monotonic()
        other = replace(policy, behavior=with_budget(policy.behavior, **changes))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="predictor_corrector")
            returns = evaluate(
                other,
                maze.task.environments(len(SEEDS) * EPISODES),
                EPISODES,
                maze.rng,
                maze.task.horizon,
            )["return"]
        lines.append(
            dict(
                setting=name,
                changes=changes,
                mean=returns.mean().round(4),
                by_seed=returns.mean(1).round(4).tolist(),
                standard_error=float((returns.std(1) / EPISODES**0.5).mean().round(4)),
                seconds=round(time.monotonic() - start, 1),
            )
        )
        print(json.dumps(lines[-1]), flush=True)
    measured = dict(
        provenance(own=FILE),
        task="maze",
        profile="ci",
        seeds=SEEDS,
        episodes_per_seed=EPISODES,
        settings=lines,
    )
    write_atomic(FILE, json.dumps(measured, indent=1).encode())


if __name__ == "__main__":
    main()
