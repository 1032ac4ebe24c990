"""Error of the log-density that comes with a sample, by grid and number of evaluations, on a
trained score model of door-human.

    python benchmarks/density_grid.py [profile]

Reference: the same walk with 64 evaluations and the exact divergence in float32. Behaviour is
loaded from the cache if `make row` has trained it there, else trained. Prints one JSON line per
setting and writes them to data/benchmarks/density_grid.json.
"""

import json
import sys
from functools import partial

import torch
from torch import Tensor

from arq_core.algorithm import likelihood
from arq_core.algorithm.behavior import T_MIN_SAMPLE, ScoreBehavior, fit_behavior, with_budget
from arq_core.algorithm.sde import log_snr_grid, power_grid
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine.streams import Streams
from arq_core.experiments import experiment
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/density_grid.json"
STATES, CANDIDATES = 16, 8
GRIDS = {"log-SNR": log_snr_grid} | {f"t ~ u^{p}": partial(power_grid, p=p) for p in (2, 3, 4, 5)}


@torch.no_grad()
def walk(behavior: ScoreBehavior, states: Tensor, times: Tensor, probes: int) -> Tensor:
    """Log-densities of the same starting noise, with exact divergence for probes = 0."""
    x = Streams(range(len(states))).randn(states.shape[1], CANDIDATES, len(behavior.of_action.mean))
    divergence = likelihood.exact_divergence
    if probes:
        divergence = likelihood.hutchinson_divergence(
            likelihood.rademacher(Streams(range(len(states))).fork("probes"), x, probes)
        )
    return likelihood.sample_with_log_prob(
        behavior.score(states), behavior.sde, x, times.float(), divergence
    )[1]


def main(profile: str = "lite") -> None:
    e = experiment.prepare("door-human", profile)
    data = e.dataset.transitions
    exact = with_budget(
        fit_behavior(data, e.hyper, e.budget, e.rng, e.store()), precision="float32"
    )
    states = data.states[:: len(data.states) // STATES][:STATES].expand(len(e.rng), -1, -1)
    reference = walk(exact, states, log_snr_grid(exact.sde, 63, T_MIN_SAMPLE), 0)
    lines = []
    settings = [(grid, n, 0, "float32") for grid in GRIDS for n in (10, 16, 24)] + [
        ("t ~ u^4", 16, p, "bfloat16") for p in (1, 2, 4, 10)
    ]
    for grid, n, probes, precision in settings:
        got = walk(
            with_budget(exact, precision=precision),
            states,
            GRIDS[grid](exact.sde, n - 1, T_MIN_SAMPLE),
            probes,
        )
        error, inside = got - reference, reference >= e.hyper.log_epsilon
        lines.append(
            dict(
                grid=grid,
                evaluations=n,
                probes=probes,
                precision=precision,
                bias=round(error.mean().item(), 3),
                std=round(error.std().item(), 3),
                mean_abs=round(error.abs().mean().item(), 3),
                kept_agreement=round(
                    ((got >= e.hyper.log_epsilon) == inside).float().mean().item(), 3
                ),
            )
        )
        print(json.dumps(lines[-1]), flush=True)
    measured = dict(
        provenance(own=FILE),
        task="door-human",
        dataset_sha256=e.dataset.sha256,
        profile=profile,
        seeds=list(e.seeds),
        samples=reference.numel(),
        in_support=round(inside.float().mean().item(), 3),
        unit="nats",
        settings=lines,
    )
    write_atomic(FILE, json.dumps(measured, indent=1).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
