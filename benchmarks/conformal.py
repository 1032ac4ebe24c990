"""Does a split-conformal epsilon drop what it promises, and what does it do to returns?

    python benchmarks/conformal.py [quick | dropped | bridge | maze]

dropped     ten clones on data of a known density, for 1 to 28 actions: the share of fresh recorded
    actions below the conformal line, below the same quantile of the training actions, below e^-5
    and below e^-5A. Each seed has its own weights, batches, held-out and fresh actions; the law and
    the data that clones learn from are one for each A.
episodes    on the bridge and the maze, with actions of whole episodes held out: the spread of the
    dropped share over splits of the held-out episodes in two, beside that over splits of their
    actions and what the Beta law says.
returns     ARQ + s_psi on both at profile ci, one clone for all lines, which has not seen a fifth
    of the episodes: conformal lines, e^-5 and no line. One seed, one that chose the settings.
Runs on one thread; parts that are in the file are not measured again, and processes may share the
parts. Writes data/benchmarks/conformal.json after each; `quick` is a small run that writes nothing.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fidelity
import numpy as np
import torch
from scipy.stats import betabinom
from torch import Tensor

from arq_core.algorithm.behavior import ScoreBehavior, fit_behavior, with_budget
from arq_core.algorithm.types import Transitions
from arq_core.config import settings
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.densities.conformal import (
    conformal_line,
    fewest,
    hold_out,
    law_of_dropped,
    recorded_log_prob,
)
from arq_core.engine.machine import keep_freed_memory
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.experiments.calibrated import arq_at
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.experiment import prepare
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/conformal.json"
LOG_EPSILON = -5.0  # the paper's
DELTAS = (0.001, 0.01, 0.05, 0.1)
TASKS, SEEDS = ("bridge", "maze"), (0,)
SHARE = 0.2  # of the episodes, held out: a line for a delta of 0.001 needs 999 actions


@dataclass(frozen=True)
class Size:
    actions: tuple = (1, 2, 3, 4, 6, 8, 12, 17, 28)
    seeds: int = 10
    data: int = 1500  # transitions that clones learn from
    held: int = 1000  # held-out actions of each seed
    fresh: int = 2000  # of each seed, whose share below a line is counted
    training: int = 800  # steps
    width: int = 32
    batch: int = 256
    evaluations: int = 12
    splits: int = 400  # of the held-out episodes


QUICK = Size(actions=(1, 3), seeds=2, data=500, held=200, fresh=300, training=100, splits=20)


def law_and_reach(a: int) -> tuple[fidelity.Mixture, float]:
    """The law at 200 states, and the magnitude that its samples are divided by."""
    law = fidelity.problem(a, torch.linspace(0, 1, 200, dtype=torch.float64))
    g = torch.Generator().manual_seed(a)
    return law, 1.001 * float(law.sample(500, torch.zeros((), dtype=torch.float64), g).abs().max())


def recorded(a: int, m: int, name: object) -> Transitions:
    """m recorded actions of the law, an episode each; what lies beyond its reach is drawn again."""
    g = torch.Generator().manual_seed(Streams([a]).fork(name).seeds[0])
    u = torch.rand(m, generator=g, dtype=torch.float64)
    zero, (_, reach) = torch.zeros((), dtype=torch.float64), law_and_reach(a)
    x = fidelity.problem(a, u).sample(1, zero, g)[:, 0] / reach
    while (far := (x.abs() > 1).any(1)).any():
        x[far] = fidelity.problem(a, u[far]).sample(1, zero, g)[:, 0] / reach
    rows, none = torch.arange(m), torch.zeros(m)
    return Transitions(u[:, None].float(), rows, rows, x.float(), none, none.bool(), rows)


def clones(a: int, size: Size) -> ScoreBehavior:
    """Clones of all seeds, trained at once."""
    changes = dict(width=size.width, batch=size.batch)
    hyper = settings.with_changes(settings.hyper("maze"), changes, "conformal")
    budget = settings.with_changes(
        settings.budget("toy", "maze"),
        dict(
            seeds=size.seeds,
            score_steps=size.training,
            times_per_batch=64,
            sampler_steps=size.evaluations,
            probes=0,
        ),
        "conformal",
    )
    rng = Streams(range(size.seeds))
    return fit_behavior(recorded(a, size.data, "learned"), hyper, budget, rng, NoStore())


def of_each(behavior: ScoreBehavior, a: int, m: int, name: str, seeds: int) -> Tensor:
    """log beta [E, m] of m actions that each seed has for itself."""
    own = [recorded(a, m, (name, e)) for e in range(seeds)]
    states = torch.stack([x.states for x in own])
    actions = torch.stack([x.actions for x in own])[:, :, None]
    rng = Streams(range(seeds)).fork(name)
    parts = zip(states.split(500, 1), actions.split(500, 1))
    found = [behavior.log_prob(x, s, rng.fork(i)).squeeze(-1) for i, (s, x) in enumerate(parts)]
    return torch.cat(found, 1)


def said(values: Tensor) -> dict:
    """Mean over seeds and, of several, its standard error, the least and the largest."""
    v = values.double()
    numbers = dict(mean=v.mean())
    if len(v) > 1:
        numbers |= dict(error=v.std() / len(v) ** 0.5, least=v.min(), most=v.max())
    return {k: float(f"{x.item():.4g}") for k, x in numbers.items()}


def dropped(a: int, size: Size) -> list[dict]:
    """For each density that may decide (exact divergence, one probe) and each rule: the share of
    fresh actions below the line."""
    start, behavior, found = time.monotonic(), clones(a, size), []
    for density, probes in (("exact", 0), ("one probe", 1)):
        if a == 1 and probes:
            continue  # v^2 = 1: the same number
        judged = with_budget(behavior, probes=probes)
        with torch.no_grad():
            fresh, held = (
                of_each(judged, a, m, name, size.seeds)
                for name, m in (("fresh", size.fresh), ("held", size.held))
            )
            rng = Streams(range(size.seeds)).fork("own")
            own = recorded_log_prob(judged, recorded(a, size.data, "learned"), rng)
        for delta in (d for d in DELTAS if fewest(d) <= size.held):
            for rule, line in {
                "conformal": conformal_line(held, delta),
                "training quantile": own.quantile(delta, dim=1),
            }.items():
                below = (fresh < line[:, None]).double().mean(1)
                about = dict(A=a, density=density, rule=rule, delta=delta)
                found.append(about | dict(dropped=said(below), log_epsilon=said(line)))
        for rule, number in {"fixed": LOG_EPSILON, "per dimension": LOG_EPSILON * a}.items():
            below = (fresh < number).double().mean(1)
            found.append(dict(A=a, density=density, rule=rule, dropped=said(below)))
    print(a, f"{time.monotonic() - start:.0f} s", flush=True)
    for line in found:
        if line.get("delta", 0.01) == 0.01:
            print("  ", line["density"], line["rule"], line["dropped"], flush=True)
    return found


def split_spread(log_prob: Tensor, episode: Tensor, size: Size) -> list[dict]:
    """Mean and std of the share of one half below the conformal line of the other, over splits of
    held-out episodes, and of single actions, in two; one seed's log_prob [n]."""
    rng, found = np.random.default_rng(0), []
    number = np.unique(episode.cpu().numpy(), return_inverse=True)[1]
    x, m = log_prob.cpu().numpy(), number.max() + 1
    for delta in DELTAS[1:]:
        shares: dict[str, list[float]] = dict(episodes=[], actions=[])
        for _ in range(size.splits):
            chosen = dict(
                episodes=np.isin(number, rng.permutation(m)[: m // 2]),
                actions=np.isin(np.arange(len(x)), rng.permutation(len(x))[: len(x) // 2]),
            )
            for unit, half in chosen.items():
                line = conformal_line(torch.from_numpy(x[half]), delta).item()
                shares[unit].append(float((x[~half] < line).mean()))
        n = len(x) // 2
        law = betabinom(len(x) - n, *law_of_dropped(n, delta))
        found.append(
            dict(
                delta=delta,
                beta=dict(mean=law.mean() / (len(x) - n), std=law.std() / (len(x) - n)),
                **{u: dict(mean=np.mean(v), std=np.std(v)) for u, v in shares.items()},
            )
        )
    return found


def on_task(name: str, size: Size, found: dict, keep: Callable[[], None]) -> None:
    """Splits and returns of one task into `found`, which is kept after each line."""
    e = prepare(name, "ci", list(SEEDS))
    start = time.monotonic()
    seen, held = hold_out(e.data, SHARE)
    behavior = fit_behavior(seen, e.hyper, e.budget, e.rng, e.store())
    log_prob = recorded_log_prob(behavior, held, e.rng.fork("held out"))
    own = recorded_log_prob(behavior, seen, e.rng.fork("own"))
    lines = {f"delta {d:g}": conformal_line(log_prob, d) for d in DELTAS}
    lines |= {
        "e^-5": torch.full((len(SEEDS),), LOG_EPSILON),
        "none": torch.full((len(SEEDS),), -math.inf),
    }
    found.update(
        held_actions=len(held.actions),
        held_episodes=len(held.episode.unique()),
        splits=split_spread(log_prob[0], held.episode, size),
    )
    for rule, line in lines.items():
        if rule in found["lines"]:
            continue
        trained = arq_at(line, behavior, e.data, e.hyper, e.budget, e.rng, e.store())
        envs = e.task.environments(len(e.rng) * e.budget.episodes)
        got = evaluate(trained.policy, envs, e.budget.episodes, e.rng, e.task.horizon)
        score = torch.from_numpy(e.task.score(got["return"]).mean(1))
        finite = line.isfinite().all()
        assert trained.in_support is not None
        found["lines"][rule] = dict(
            log_epsilon=said(line) if finite else None,
            dropped_of_learned=said((own < line[:, None]).double().mean(1)),
            candidates_kept=said(trained.in_support),
            score=said(score),
            success=float(got["success"].mean()),
        )
        print(name, rule, found["lines"][rule], f"{time.monotonic() - start:.0f} s", flush=True)
        keep()


def stored() -> dict[str, Any]:
    """What the file has."""
    empty: dict[str, Any] = dict(dropped=[], tasks={})
    return json.loads(FILE.read_text("utf-8")) if FILE.exists() else empty


def main(only: str = "") -> None:
    """Measure what is missing."""
    size, writes = (QUICK, False) if only == "quick" else (Size(), True)
    torch.set_num_threads(1)
    keep_freed_memory()
    measured: dict[str, Any] = stored() if writes else dict(dropped=[], tasks={})

    def keep() -> None:
        if not writes:
            return
        others = stored()  # of a process beside this one
        have = {line["A"] for line in measured["dropped"]}
        more = [line for line in others["dropped"] if line["A"] not in have]
        lines = sorted(measured["dropped"] + more, key=lambda line: line["A"])
        about = dict(size=vars(size), task_seeds=list(SEEDS), share=SHARE, log_epsilon=LOG_EPSILON)
        mine = {name: measured["tasks"][name] for name in measured["tasks"] if only in ("", name)}
        made = dict(dropped=lines, tasks=others["tasks"] | mine, **about)
        made |= provenance(own=FILE)
        write_atomic(FILE, f"{json.dumps(made, indent=1, allow_nan=False)}\n".encode())

    for a in size.actions if only in ("", "quick", "dropped") else ():
        if a not in {line["A"] for line in measured["dropped"]}:
            measured["dropped"].extend(dropped(a, size))
            keep()
    for name in TASKS:
        if only in ("", name):
            on_task(name, size, measured["tasks"].setdefault(name, dict(lines={})), keep)


if __name__ == "__main__":
    main(*sys.argv[1:])
