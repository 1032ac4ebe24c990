"""How the implicit policy's score on door-human depends on alpha, with the filter on: where does Q
help the clone, where does it hurt it?

    python benchmarks/alpha.py [episodes per seed]

Uses the trained steps of profile lite (from the cache, else trained). Prints and writes
data/benchmarks/alpha.json. Few episodes: a diagnosis, not a row of a table.
"""

import json
import sys

import torch

from arq_core.algorithm.arq import behavior_support
from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.qlearning import fit_q, fit_q_beta
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine.store import fingerprint
from arq_core.experiments import experiment
from arq_core.experiments.episodes import evaluate
from arq_core.results.provenance import provenance

ALPHAS = (0.0, 0.1, 1.0, 10.0)


def main(episodes: int = 10) -> None:
    e = experiment.prepare("door-human", "lite")
    data, store = e.dataset.transitions, e.store()
    behavior = fit_behavior(data, e.hyper, e.budget, e.rng, store)
    support = behavior_support(data, behavior, e.hyper, e.rng, store)
    values = {
        "q_beta": fit_q_beta(data, e.hyper, e.budget, e.rng, store),
        "arq": fit_q(
            data, support, e.hyper, e.budget, e.rng, store, dict(support=fingerprint(vars(support)))
        ),
    }
    envs, lines = e.task.environments(len(e.rng) * episodes), []
    inside = support.mask(e.hyper.log_epsilon)[:, ::10]
    for name, q in values.items():
        some = q(data.states[::10].expand(len(e.rng), -1, -1), support.actions[:, ::10]).detach()
        spread = torch.stack([some[k][inside[k]].std() for k in range(len(some))]).mean()
        within = (
            (
                some.masked_fill(~inside, 0).square().sum(-1) / inside.sum(-1).clamp(min=1)
                - (some.masked_fill(~inside, 0).sum(-1) / inside.sum(-1).clamp(min=1)).square()
            )
            .clamp(min=0)
            .sqrt()
            .mean()
        )
        for alpha in ALPHAS if name == "q_beta" else ALPHAS[1:]:
            policy = ImplicitPolicy(behavior, q, alpha, e.hyper.n, e.hyper.log_epsilon)
            got = evaluate(policy, envs, episodes, e.rng, e.task.horizon)
            score = e.task.score(got["return"]).mean(1)
            lines.append(
                dict(
                    q=name,
                    alpha=alpha,
                    score=round(score.mean(), 2),
                    score_by_seed=[round(x, 2) for x in score],
                    success=round(got["success"].mean(), 3),
                    q_std_within_state=round(within.item(), 3),
                    q_std=round(spread.item(), 3),
                )
            )
            print(json.dumps(lines[-1]), flush=True)
            measured = dict(
                provenance(),
                task="door-human",
                dataset_sha256=e.dataset.sha256,
                profile=e.profile,
                seeds=list(e.seeds),
                episodes_per_seed=episodes,
                settings=lines,
            )
            write_atomic(
                DATA / "benchmarks" / "alpha.json", json.dumps(measured, indent=1).encode()
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
