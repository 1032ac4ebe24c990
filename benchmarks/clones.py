"""Do other explicit clones recover the four behaviours that s_psi does: a Gaussian, mixtures of 2
to 20 Gaussians, conditional VAEs?

    python benchmarks/clones.py [full | quick | sweep]

All have about as many parameters (51,000 to 59,000), the same samples, features of the state and
number of steps, and a cosine schedule; s_psi draws batches of 512, its own recipe, the others of
256. Three of them are also given the steps of Figure A.1. One training of a family holds the four
densities. Prints one JSON line per family, seed and density, from one process per core, and adds
them to data/benchmarks/clones.json as they come; an interrupted call goes on where it stopped. The
summary there is a mean over seeds and its standard error. `quick` is a small run that writes
nothing; `sweep` is how the learning rate was chosen, on a seed that is used for nothing else.
"""

import json
import math
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context

import torch
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm.behavior import with_budget
from arq_core.baselines import clones
from arq_core.baselines.clones import Recipe
from arq_core.config import processes, settings
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.densities import figure_a1
from arq_core.densities.quality import FAR, Grid, of_samples, on_grid
from arq_core.densities.segments import FIGURE_A1, state_features
from arq_core.densities.sharpness import edge_profile, edge_width, separation
from arq_core.engine.machine import keep_freed_memory
from arq_core.engine.streams import Streams, derive_seed
from arq_core.experiments.experiment import finished_steps
from arq_core.experiments.figure_a1 import density_models
from arq_core.results.measured import measured
from arq_core.results.provenance import provenance

SCORE, GROUP, PROFILE = "score", "figure-a1", "ci"
LR, RATES = 4e-3, (1e-3, 4e-3, 1.6e-2)
BATCH, EMA = 256, 0.995  # the average is s_psi's of these problems
PATH = DATA / "benchmarks" / "clones.json"


@dataclass(frozen=True)
class Size:
    seeds: tuple = (300, 301, 302, 303, 304)  # chose nothing
    steps: int = 2000
    # Figure A.1's, for the families of `lasting` and fewer seeds
    long: int = 8000
    lasting: tuple = (SCORE, "mdn-20", "vae")
    long_seeds: tuple = (300, 301, 302)
    families: tuple = (SCORE, "gaussian", "vae", "mdn-20", "mdn-5", "vae-bcq", "mdn-2", "mdn-10")
    rates: tuple = (LR,)
    grid: tuple = (96, 300)

    def jobs(self) -> list[tuple]:
        """(family, seed, learning rate, steps), the most telling first."""
        rates = {
            family: (settings.hyper(GROUP).score_lr,) if family == SCORE else self.rates
            for family in self.families
        }
        short = [
            (family, seed, lr, self.steps)
            for families in (self.families[:4], self.families[4:])
            for seed in self.seeds
            for family in families
            for lr in rates[family]
        ]
        return short + [
            (family, seed, lr, self.long)
            for seed in self.long_seeds
            for family in self.lasting
            for lr in rates[family]
        ]


SIZES = dict(
    full=Size(),
    quick=Size(seeds=(1,), steps=60, families=(SCORE, "mdn-2", "vae"), lasting=(), grid=(12, 100)),
    sweep=Size(seeds=(1000,), families=("gaussian", "mdn-20", "vae"), lasting=(), rates=RATES),
)


def trained(family: str, seed: int, lr: float, steps: int):
    """The family's models of the four densities."""
    store, budget = finished_steps(), settings.budget(PROFILE, GROUP)
    if family == SCORE:
        # then benchmarks/figure_a1.py may have trained it already
        whole = steps == budget.score_steps
        model = (
            density_models(PROFILE, GROUP, [seed], "cpu").behavior
            if whole
            else figure_a1.fit(
                settings.hyper(GROUP), replace(budget, score_steps=steps), [seed], store
            )[steps]
        )
        return with_budget(model, sampler_steps=figure_a1.EVALUATIONS)
    states, actions = figure_a1.training_data([seed])
    rng = Streams([derive_seed("clones", name, seed) for name in FIGURE_A1])
    return clones.fit(
        family,
        state_features(states),
        actions[..., None],
        Recipe(lr, steps, BATCH, EMA),
        rng,
        store,
    )


def proxies(
    model, actions: Tensor, states: Tensor, inside: list[Tensor], rng: Streams
) -> list[dict]:
    """What a VAE offers in the place of a density: how well it tells the support from the rest."""
    if not isinstance(getattr(model, "net", None), clones.ConditionalVAE):
        return [{}] * len(inside)
    a, s = model.of_action(actions), model.of_state(states)
    with torch.no_grad():
        found = dict(
            rank_elbo=model.net.elbo(a, s, rng),
            rank_reconstruction=-model.net.reconstruction_error(a, s),
        )
    return [
        {k: separation(here, v[[e]]).item() for k, v in found.items()}
        for e, here in enumerate(inside)
    ]


def job(family: str, seed: int, lr: float, steps: int, size: Size) -> list[dict]:
    """One training, and a line for each density."""
    torch.set_num_threads(1)
    keep_freed_memory()
    model, grid, densities = (
        trained(family, seed, lr, steps),
        Grid.of(*size.grid),
        FIGURE_A1.values(),
    )
    rng = Streams([derive_seed("clones measured", name, seed) for name in FIGURE_A1])
    actions, states = (
        grid.actions[None, None, :, None].expand(4, len(grid.states), -1, -1),
        state_features(grid.states).expand(4, -1, -1),
    )
    log_prob, drawn = (
        model.log_prob(actions, states, rng),
        model.sample(states, figure_a1.SAMPLES_A_STATE, rng),
    )
    own, scale = model.log_prob(drawn, states, rng), model.of_action.scale.flatten()
    inside = [d.distance(grid.actions, grid.states[:, None]) == 0 for d in densities]
    others, log_epsilon = (
        proxies(model, actions, states, inside, rng),
        settings.hyper(GROUP).log_epsilon,
    )
    lines, parameters = [], sum(p.numel() for p in model.net.parameters()) // len(scale)
    for e, (name, density) in enumerate(FIGURE_A1.items()):
        raw = log_prob[[e]] - scale[e].log()
        found = on_grid(density, grid, log_prob[[e]], scale[[e]], log_epsilon) | of_samples(
            density, drawn[[e], ..., 0], grid.states, own[[e]], log_epsilon
        )
        edge = edge_profile(density, grid, raw)
        found |= dict(
            rank=separation(inside[e], log_prob[[e]]),
            edge=edge_width(*edge),
            edge_middle=edge_width(*edge, 0.75),
            loss=model.loss[[e], -5:].mean(1),
        )
        numbers = {k: v.item() for k, v in found.items()} | others[e]
        lines.append(
            dict(
                family=family,
                seed=seed,
                steps=steps,
                lr=lr,
                parameters=parameters,
                density=name,
                **{k: round(v, 4) if math.isfinite(v) else None for k, v in numbers.items()},
                curve=[round(v, 3) for v in model.loss[e].tolist()],
            )
        )
    print(
        "\n".join(json.dumps({k: v for k, v in line.items() if k != "curve"}) for line in lines),
        flush=True,
    )
    return lines


def summary(lines: list[dict]) -> list[dict]:
    """Mean over seeds and its standard error of every figure of merit, by family and density and
    for the mean over densities ("all").

    A figure that one of the seeds does not have (no edge: it never rises to 90%) is left out.
    """
    together = defaultdict(dict)
    for line in lines:
        together[line["family"], line["steps"], line["density"]][line["seed"]] = line
    for family, steps in dict.fromkeys((line["family"], line["steps"]) for line in lines):
        parts = [together[family, steps, name] for name in FIGURE_A1]
        together[family, steps, "all"] = {
            seed: _mean([part[seed] for part in parts]) for seed in parts[0]
        }
    rows = []
    for (family, steps, density), some in together.items():
        first = next(iter(some.values()))
        row = dict(
            family=family,
            steps=steps,
            density=density,
            seeds=len(some),
            parameters=first["parameters"],
        )
        for k in (k for k, v in first.items() if isinstance(v, float) and k != "lr"):
            if None not in (values := [line[k] for line in some.values()]):
                x = torch.tensor(values, dtype=torch.float64)
                row[k] = [
                    round(x.mean().item(), 4),
                    round((x.std() / len(x) ** 0.5).item(), 4) if len(x) > 1 else 0.0,
                ]
        rows.append(row)
    return rows


def _mean(parts: list[dict]) -> dict:
    floats = [
        k
        for k, v in parts[0].items()
        if isinstance(v, float) and all(part[k] is not None for part in parts)
    ]
    return dict(parts[0], **{k: sum(part[k] for part in parts) / len(parts) for k in floats})


def _key(line: dict) -> tuple:
    return line["family"], line["seed"], line["lr"], line["steps"]


def main(mode: str = "full") -> None:
    size = SIZES[mode]
    lines = measured("clones")["lines"] if mode == "full" and PATH.exists() else []
    wanted = size.jobs()
    lines = [line for line in lines if _key(line) in wanted]
    todo = [one for one in wanted if one not in set(map(_key, lines))]
    with ProcessPoolExecutor(processes.cores(), get_context("spawn")) as workers:
        jobs = [workers.submit(job, *one, size) for one in todo]
        for finished in tqdm(as_completed(jobs), total=len(jobs), desc="clones", unit="job"):
            lines += finished.result()
            if mode == "full":
                lines.sort(
                    key=lambda line: (
                        line["steps"],
                        size.families.index(line["family"]),
                        line["seed"],
                        list(FIGURE_A1).index(line["density"]),
                    )
                )
                found = dict(
                    provenance(own=PATH),
                    samples=figure_a1.SAMPLES,
                    far=FAR,
                    steps=[size.steps, size.long],
                    batch=BATCH,
                    importance=clones.IMPORTANCE,
                    rates=RATES,
                    unit="nats",
                    summary=summary(lines),
                    lines=lines,
                )
                write_atomic(PATH, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
