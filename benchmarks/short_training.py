"""What a profile's budget makes of the score model, of the critics and of the weights of ARQ +
pi_phi, on datasets of our own.

    python benchmarks/short_training.py [profile] [task ...]

Uses finished steps of the cache, else trains. Prints, and writes
data/benchmarks/short_training.json (for `ci`, the default): a diagnosis of rows.
"""

import json
import sys

from arq_core.algorithm.arq import behavior_support
from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.policies import data_advantage
from arq_core.algorithm.qlearning import fit_q
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine.store import fingerprint
from arq_core.experiments import experiment
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/short_training.json"
TASKS = ("hopper-medium-recollected", "pointmaze-umaze-recollected")


def diagnose(task: str, profile: str) -> dict:
    """Medians over all seeds, states and candidates; `idle` is the share of transitions whose AWR
    weight is 0 in float32.
    """
    e = experiment.prepare(task, profile)
    data, store = e.dataset.transitions, e.store()
    behavior = fit_behavior(data, e.hyper, e.budget, e.rng, store)
    support = behavior_support(data, behavior, e.hyper, e.rng, store)
    q = fit_q(
        data, support, e.hyper, e.budget, e.rng, store, dict(support=fingerprint(vars(support)))
    )
    advantages = data_advantage(data, support, q, e.hyper.log_epsilon)
    return dict(
        dataset_sha256=e.dataset.sha256,
        candidate=float(support.actions.abs().median()),
        data_action=float(data.actions.abs().median()),
        advantage=float(advantages.median()),
        idle=float(((e.hyper.alpha_pi * advantages).exp() == 0).double().mean()),
    )


def main(profile: str = "ci", *tasks: str) -> None:
    found = {task: diagnose(task, profile) for task in tasks or TASKS}
    print(json.dumps(found, indent=1))
    if profile == "ci" and not tasks:
        write_atomic(
            FILE,
            (
                json.dumps(dict(profile=profile, tasks=found, **provenance(own=FILE)), indent=1)
                + "\n"
            ).encode(),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
