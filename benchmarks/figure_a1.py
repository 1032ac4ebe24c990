"""How well does s_psi recover four behaviours of known form (the kind of Figure A.1), at which
settings and after how many steps?

    python benchmarks/figure_a1.py GROUP PROFILE [SEED ...]

GROUP is "figure-a1" (ours, a few minutes) or "figure-a1-paper" (the paper's network and learning
rate), PROFILE says how many steps:

    python benchmarks/figure_a1.py figure-a1 ci
    python benchmarks/figure_a1.py figure-a1-paper lite

Seeds chose nothing of the settings. One training per seed holds the four densities; it is measured
at some steps on its way and at its end. An interrupted call goes on where it stopped, finished
seeds are not trained again, and lines of data/benchmarks/figure_a1.json from other groups, profiles
or seeds stay. The summary there is a mean over seeds with the standard deviation of one (n - 1).
"""

import json
import math
import sys
from collections import defaultdict

import torch

from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.densities import figure_a1
from arq_core.densities.quality import FAR, Grid
from arq_core.experiments.figure_a1 import density_models
from arq_core.results.measured import measured
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/figure_a1.json"
SEEDS = (300, 301, 302)
SAME = ("group", "profile", "seed")  # lines that a call replaces
OF = ("group", "profile", "steps")  # what a summary is of, with the density


def job(group: str, profile: str, seed: int) -> list[dict]:
    """One training of the four densities, and a line for each of them at each number of steps."""
    trained, lines = density_models(profile, group, [seed]), []
    for steps, model in trained.models.items():
        log_prob = figure_a1.log_prob_on(Grid.of(), model)
        found = figure_a1.measure(
            Grid.of(), model, log_prob, trained.hyper.log_epsilon, trained.rng
        )
        lines += [
            dict(
                group=group,
                profile=profile,
                seed=seed,
                steps=steps,
                of_steps=trained.budget.score_steps,
                density=name,
                merits={k: _number(v.item()) for k, v in merits.items()},
            )
            for name, merits in found.items()
        ]
        print("\n".join(map(json.dumps, lines[-len(found) :])), flush=True)
    return lines


def summary(lines: list[dict]) -> list[dict]:
    """Every figure of merit as [mean, standard deviation] over seeds, of each density and of the
    mean over the four ("all").
    """
    merits = list(lines[0]["merits"])
    found = defaultdict(lambda: defaultdict(list))
    for line in lines:
        numbers = [math.nan if line["merits"][k] is None else line["merits"][k] for k in merits]
        for density in (line["density"], "all"):
            found[*(line[k] for k in OF), density][line["seed"]].append(numbers)
    rows = []
    for names, by_seed in found.items():
        # [seeds, merits]
        x = torch.stack(
            [torch.tensor(densities, dtype=torch.float64).mean(0) for densities in by_seed.values()]
        )
        # not known from one
        std = x.std(0) if len(x) > 1 else torch.full_like(x[0], math.nan)
        spread = {
            k: [_number(m), _number(d)]
            for k, m, d in zip(merits, x.mean(0).tolist(), std.tolist(), strict=True)
        }
        rows.append(dict(zip((*OF, "density"), names, strict=True), seeds=len(x), **spread))
    return rows


def _number(x: float) -> float | None:
    """To four places, and null for what is not a number: the share of kept actions in the support
    where none is kept.
    """
    return round(x, 4) if math.isfinite(x) else None


def main(group: str, profile: str, *seeds: str) -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    for seed in map(int, seeds or SEEDS):
        measuring = provenance(device, own=FILE)
        new = [
            dict(line, **{k: measuring[k] for k in ("device", "commit", "created")})
            for line in job(group, profile, seed)
        ]
        kept = [
            line
            for line in (measured("figure_a1")["lines"] if FILE.exists() else [])
            if any(line[k] != new[0][k] for k in SAME)
        ]
        lines = kept + new
        found = dict(
            measuring,
            samples=figure_a1.SAMPLES,
            far=FAR,
            evaluations=figure_a1.EVALUATIONS,
            unit="nats",
            summary=summary(lines),
            lines=lines,
        )
        write_atomic(FILE, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
