"""Which row of Table 1 finds the goal of the maze? One actor-critic (baselines/penalised.py), one
row after the other as its penalty.

    python benchmarks/penalised_maze.py [full | quick]

Strengths are chosen from STRENGTHS on seeds 0 and 1 by the mean return (the weakest among equals),
with the temperature fixed, and reported on seeds 10 to 14, which chose nothing. Rows have a budget
smaller than ci's, and ARQ + s_psi, unconstrained and random, from the same run, have ci's own: the
file says both. Prints a JSON line a job and writes data/benchmarks/penalised_maze.json as they
come; an interrupted call goes on where it stopped. `quick` writes nothing. Two strengths a row and
two seeds to choose by are few, and the rows have smaller networks and batches than ARQ: what fails
here fails at this budget. `seconds` of a job count from its last start, beside whatever else the
machine did.
"""

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import torch

from arq_core.config import processes
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine.machine import keep_freed_memory
from arq_core.experiments import experiment
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.methods import METHODS
from arq_core.results.measured import measured
from arq_core.results.provenance import provenance
from arq_core.results.rows import STD_DDOF

STRENGTHS = {
    "brac-kl": (0.3, 0.03),
    "brac-mmd": (1.0, 10.0),
    "td3+bc": (3.0, 10.0),
    "anti-exploration": (1.0, 10.0),
    "ploff": (1.0, 3.0),
    "mopo": (3.0, 30.0),
}
BESIDE = ("arq+s_psi", "random", "unconstrained")
PATH = DATA / "benchmarks" / "penalised_maze.json"


@dataclass(frozen=True)
class Size:
    tune: tuple = (0, 1)
    report: tuple = (10, 11, 12, 13, 14)
    episodes: int = 60
    batch: int = 128
    steps: int = 1500  # of actor and critics
    proxy_steps: int = 1500  # of what the penalty measures
    proxy_lr: float = 4e-3  # as in benchmarks/clones.py


SIZES = dict(full=Size(), quick=Size(report=(10, 11), episodes=5, steps=20, proxy_steps=10))


def job(method: str, strength: float | None, seeds: tuple, size: Size) -> dict:
    """Train a method on `seeds` as one batch, and run its episodes.

    `ends` are the shares of episodes of each return: lava, none, lure, goal.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    start, e = time.monotonic(), experiment.prepare("maze", "ci", list(seeds), device="cpu")
    hyper, budget = e.hyper, e.budget
    if method not in BESIDE:
        dqp = (
            hyper.dqp if strength is None else {**hyper.dqp, method.removeprefix("dqp "): strength}
        )
        hyper = replace(hyper, batch=size.batch, policy_lr=size.proxy_lr, dqp=dqp)
        budget = replace(
            budget, q_steps=size.steps, policy_steps=size.proxy_steps, precision="float32"
        )
    policy = METHODS[method](e.dataset.transitions, hyper, budget, e.rng, e.store()).policy
    found = evaluate(
        policy,
        e.task.environments(len(seeds) * size.episodes),
        size.episodes,
        e.rng,
        e.task.horizon,
    )
    returns = found["return"]
    ends = {
        name: round(float(np.isclose(returns, value).mean()), 4)
        for name, value in dict(lava=-1, none=0, lure=0.3, goal=1).items()
    }
    by_seed = returns.mean(1)
    line = dict(
        method=method,
        strength=strength,
        seeds=list(seeds),
        mean=by_seed.mean().round(4),
        std=by_seed.std(ddof=STD_DDOF).round(4),
        by_seed=by_seed.round(4).tolist(),
        ends=ends,
        length=found["length"].mean().round(2),
        n=returns.size,
        batch=hyper.batch,
        q_steps=budget.q_steps,
        policy_steps=budget.policy_steps,
        policy_lr=hyper.policy_lr,
        temperature=hyper.dqp["temperature"],
        seconds=round(time.monotonic() - start, 1),
    )
    print(json.dumps(line), flush=True)
    return line


def chosen(lines: list[dict]) -> dict[str, float]:
    """The strength of each row: the best mean return on the seeds for choosing, the weakest among
    equals.
    """
    return {
        row: min(
            (-line["mean"], line["strength"]) for line in lines if line["method"] == f"dqp {row}"
        )[1]
        for row in STRENGTHS
    }


def _key(line: dict) -> tuple:
    return line["method"], line["strength"], tuple(line["seeds"])


def run(wanted: list[tuple], lines: list[dict], size: Size, keep) -> list[dict]:
    """The lines of the jobs `wanted`, in their order: those of `lines`, and the others from one
    process per core.
    """
    found = {_key(line): line for line in lines}
    with ProcessPoolExecutor(processes.cores(), get_context("spawn")) as workers:
        for done in as_completed(
            [workers.submit(job, *one, size) for one in wanted if one not in found]
        ):
            found[_key(done.result())] = done.result()
            keep(list(found.values()))
    return [found[one] for one in wanted]


def main(mode: str = "full") -> None:
    size = SIZES[mode]
    before = (
        measured("penalised_maze")
        if mode == "full" and PATH.exists()
        else dict(choosing=[], reported=[])
    )
    about = dict(
        task="maze",
        profile="ci",
        episodes_per_seed=size.episodes,
        seeds_for_choosing=size.tune,
        seeds=size.report,
        strengths=STRENGTHS,
    )

    def write(**parts):
        if mode == "full":
            write_atomic(
                PATH, json.dumps(dict(provenance(own=PATH), **about, **parts), indent=1).encode()
            )

    choosing = run(
        [
            (f"dqp {row}", a, size.tune)
            for both in zip(*STRENGTHS.values())
            for row, a in zip(STRENGTHS, both, strict=True)
        ],
        before["choosing"],
        size,
        lambda lines: write(choosing=lines, reported=before["reported"]),
    )
    rows = [(method, None, size.report) for method in (*BESIDE, "dqp none")] + [
        (f"dqp {row}", a, size.report) for row, a in chosen(choosing).items()
    ]
    reported = run(
        rows, before["reported"], size, lambda lines: write(choosing=choosing, reported=lines)
    )
    write(choosing=choosing, reported=reported)


if __name__ == "__main__":
    main(*sys.argv[1:])
