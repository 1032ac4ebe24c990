"""How each row of Table 1 fares where beta is known: two bandits and the four densities of Figure
A.1, from beta itself and from samples alone.

    python benchmarks/penalties.py [full | quick]

Adds a line per row, problem and seed to data/benchmarks/penalties.json, seed by seed; an
interrupted call goes on with the seeds that are missing. Exact lines have no seed. in_or_out: the
order of supported and unsupported actions (rank correlation with Eq. 4, whose values are all ties);
spearman: rank correlation with -log beta; inside: its spread among supported actions, at alpha = 1;
to_uniform: total variation of pi_p from the uniform policy on the support, and value: what policy
iteration earns, by alpha. The summary is a mean over seeds and its standard error. `quick` writes
nothing.
"""

import json
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from arq_core.baselines import penalty_models
from arq_core.baselines.clones import Recipe
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.densities import figure_a1
from arq_core.densities.quality import Grid
from arq_core.densities.segments import FIGURE_A1
from arq_core.engine.machine import keep_freed_memory
from arq_core.engine.streams import Streams, derive_seed
from arq_core.experiments.experiment import finished_steps
from arq_core.results.measured import measured
from arq_core.results.provenance import provenance
from arq_core.theory import bandits, penalties
from arq_core.theory import penalty_study as study

ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)
RARITIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
LEARNED = (0.1, 0.01, 0.001)  # rarities that are also learned from samples
TEMPTATION, SAMPLES, PROCESSES = 20.0, 2000, 2
PATH = DATA / "benchmarks" / "penalties.json"


@dataclass(frozen=True)
class Size:
    seeds: tuple = (400, 401, 402, 403, 404)
    recipe: Recipe = Recipe(4e-3, 600, 128, 0.99)
    grid: tuple = (48, 150)


SIZES = dict(full=Size(), quick=Size((1,), Recipe(4e-3, 30, 64, 0.9), (8, 60)))


def bandit_line(
    row: str, b: bandits.Bandit, e: study.Evidence, rarity: float | None, **where
) -> dict:
    p = study.penalty(row, e, b.q, 1.0)
    pi = [study.policy(row, e, b.q, alpha) for alpha in ALPHAS]
    return dict(
        row=row,
        problem=b.name,
        rarity=rarity,
        **where,
        **ranks(p, b.log_beta, b.inside),
        to_uniform=distances(row, e, b.q, b.inside),
        value=[round(b.value(x).item(), 4) for x in pi],
        outside=[round(x[~b.inside].sum().item(), 4) for x in pi],
    )


def ranks(p, log_beta, inside) -> dict:
    return dict(
        in_or_out=round(study.in_or_out(p, inside), 4),
        spearman=round(study.spearman(p, -log_beta), 4),
        inside=round(min(study.spread_inside(p, inside), 1e6), 4),
    )


def distances(row, e, q, inside) -> list[float]:
    return [
        round(study.distance_to_uniform(study.penalty(row, e, q, alpha), inside).item(), 4)
        for alpha in ALPHAS
    ]


def oracle_line(b: bandits.Bandit, rarity: float | None) -> dict:
    p = penalties.oracle(b.q, b.reward)
    pi = penalties.induced_policy(p - b.q)
    return dict(
        row="oracle",
        problem=b.name,
        rarity=rarity,
        form="exact",
        seed=None,
        **ranks(p, b.log_beta, b.inside),
        to_uniform=[round(study.distance_to_uniform(p, b.inside).item(), 4)] * len(ALPHAS),
        value=[round(b.value(pi).item(), 4)] * len(ALPHAS),
        outside=[round(pi[~b.inside].sum().item(), 4)] * len(ALPHAS),
    )


def density_line(row: str, name: str, grid: Grid, e: study.Evidence, **where) -> dict:
    true = study.of_density(FIGURE_A1[name], grid, penalty_models.NOISE)
    q, inside = (
        torch.ones_like(true.log_beta),
        FIGURE_A1[name].distance(grid.actions, grid.states[:, None]) == 0,
    )
    p = study.penalty(row, e, q, 1.0)
    return dict(
        row=row,
        problem=name,
        rarity=None,
        **where,
        **ranks(p, true.log_beta, inside),
        to_uniform=distances(row, e, q, inside),
    )


def exact(size: Size) -> list[dict]:
    """Every row with beta known."""
    problems, grid = (
        [(bandits.rare(r), r) for r in RARITIES] + [(bandits.hole(TEMPTATION), None)],
        Grid.of(*size.grid),
    )
    where = dict(form="exact", seed=None)
    lines = [
        bandit_line(row, b, study.of_bandit(b), r, **where)
        for b, r in problems
        for row in study.ROWS
    ] + [oracle_line(b, r) for b, r in problems]
    return lines + [
        density_line(row, n, grid, study.of_density(d, grid, penalty_models.NOISE), **where)
        for n, d in FIGURE_A1.items()
        for row in study.ROWS
    ]


def learned(seed: int, size: Size) -> list[dict]:
    """Every row from one seed's samples."""
    torch.set_num_threads(1)
    keep_freed_memory()
    store, where, grid = finished_steps(), dict(form="learned", seed=seed), Grid.of(*size.grid)
    problems = [(bandits.rare(r), r) for r in LEARNED] + [(bandits.hole(TEMPTATION), None)]
    streams = Streams([derive_seed("penalties", b.name, r, seed) for b, r in problems])
    actions, rewards = (
        torch.cat(x)
        for x in zip(
            *(
                b.sample(SAMPLES, Streams([s]))
                for (b, _), s in zip(problems, streams.seeds, strict=True)
            ),
            strict=True,
        )
    )
    evidence = penalty_models.on_bandits(
        [b for b, _ in problems], actions, rewards, size.recipe, streams, store
    )
    lines = [
        bandit_line(row, b, e, r, **where)
        for (b, r), e in zip(problems, evidence, strict=True)
        for row in study.ROWS
    ]
    rng = Streams([derive_seed("penalties", name, seed) for name in FIGURE_A1])
    evidence = penalty_models.on_figure_a1(
        grid, *figure_a1.training_data([seed]), size.recipe, rng, store
    )
    return lines + [
        density_line(row, n, grid, e, **where)
        for n, e in zip(FIGURE_A1, evidence, strict=True)
        for row in study.ROWS
    ]


def summary(lines: list[dict]) -> list[dict]:
    """Mean over seeds and standard error ([mean, error], or lists of them by alpha)."""
    together, rows = defaultdict(list), []
    for line in lines:
        together[line["row"], line["problem"], line["rarity"], line["form"]].append(line)
    for (row, problem, rarity, form), some in together.items():
        found = dict(row=row, problem=problem, rarity=rarity, form=form, seeds=len(some))
        for k in ("in_or_out", "spearman", "inside", "to_uniform", "value", "outside"):
            if k in some[0]:
                x = torch.tensor([line[k] for line in some], dtype=torch.float64)
                error = x.std(0) / len(x) ** 0.5 if len(x) > 1 else torch.zeros_like(x[0])
                found[k] = torch.stack([x.mean(0), error], -1).mul(1e4).round().div(1e4).tolist()
        rows.append(found)
    return rows


def main(mode: str = "full") -> None:
    size = SIZES[mode]
    kept = (
        [line for line in measured("penalties")["lines"] if line["seed"] in size.seeds]
        if mode == "full" and PATH.exists()
        else []
    )
    lines, todo = (
        exact(size) + kept,
        [seed for seed in size.seeds if seed not in {line["seed"] for line in kept}],
    )
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as workers:
        for job in as_completed([workers.submit(learned, seed, size) for seed in todo]):
            lines += job.result()
            print(json.dumps(dict(seed=lines[-1]["seed"], lines=len(lines))), flush=True)
            if mode == "full":
                found = dict(
                    provenance(own=PATH),
                    alphas=ALPHAS,
                    temptation=TEMPTATION,
                    samples=SAMPLES,
                    samples_of_densities=figure_a1.SAMPLES,
                    steps=size.recipe.steps,
                    batch=size.recipe.batch,
                    density="mixture of 20 Gaussians",
                    summary=summary(lines),
                    lines=sorted(lines, key=lambda line: line["seed"] or 0),
                )
                write_atomic(PATH, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
