"""How hard may a policy choose by its critic? Scores of Eq. 6 over alpha, from the clone itself
(alpha = 0) to nearly the best of its candidates, with what separates candidates in the critic's
eyes beside how far it is off.

    python benchmarks/choosing.py [--only spread] [TASK ...]

At profile `fast`, with the clones and critics of the row (made where they are not there): the
critic on returns, Q_beta and ARQ's Q. Alpha is the paper's times TIMES_PAPERS, and OF_SPREAD over
what lies between the candidates. Prints and writes data/benchmarks/choosing.json, a line after each
measurement; lines that are in the file are not measured again. With `--only spread` only those of
OF_SPREAD, and the clone's.
"""

import argparse
import json
from dataclasses import replace

import numpy as np
import torch

from arq_core.algorithm.arq import behavior_support
from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.qlearning import CRITICS, QEnsemble, fit_q, fit_q_beta
from arq_core.baselines.returns import warm_start
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine.store import fingerprint
from arq_core.experiments.critics import along_the_data
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.experiment import Experiment, prepare
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/choosing.json"
TASK, PROFILE, EPISODES = "hopper-medium-replay-recollected", "fast", 10
TIMES_PAPERS = (0.25, 1.0, 5.0)  # alpha over the row's own
OF_SPREAD = (0.4,)  # alpha times the standard deviation of the candidates' values
EVERY = 37  # states of the data between two at which candidates are compared


def critics(e: Experiment, behavior, support) -> dict[str, QEnsemble]:
    """Those of the row."""
    given = (e.data, e.hyper, e.budget, e.rng, e.store())
    key = dict(support=fingerprint(vars(support)))
    returns = warm_start(*given)
    arq = fit_q(e.data, support, *given[1:], key, warm_start(*given, CRITICS))
    return {"returns": returns, "Q_beta": fit_q_beta(*given, returns), "ARQ": arq}


@torch.no_grad()
def about(e: Experiment, support, q: QEnsemble) -> dict:
    """How far the critic is from what followed, and the spread of its values over the candidates of
    a state, reward units.
    """
    u = torch.arange(0, len(e.data.states), EVERY, device=e.rng.device)
    values = q(e.data.states[u].expand(len(e.rng), -1, -1), support.actions[:, u].clamp(-1, 1))
    found = along_the_data(e.data, q, e.hyper.gamma, len(e.rng)).summary()
    return {k: found[k] for k in ("said", "followed", "rms_error")} | dict(
        spread_of_candidates=values.std(-1).mean().item()
    )


def measure(task: str, only: str = "") -> None:
    """What is missing of one task."""
    e = prepare(task, PROFILE)
    e = replace(e, budget=replace(e.budget, episodes=EPISODES))
    tasks = json.loads(FILE.read_text(encoding="utf-8"))["tasks"] if FILE.exists() else {}
    lines = tasks.get(task, {}).get("lines", {})
    behavior = fit_behavior(e.data, e.hyper, e.budget, e.rng, e.store())
    support = behavior_support(e.data, behavior, e.hyper, e.rng, e.store())
    every = critics(e, behavior, support)
    of_critics = {name: about(e, support, q) for name, q in every.items()}
    todo = [("clone 0", "clone", 0.0)]
    for name, critic in of_critics.items():
        times = [(f"{name} {a:g}", a) for a in (e.hyper.alpha_arq * x for x in TIMES_PAPERS)]
        spread = critic["spread_of_candidates"]
        times += [(f"{name} spread {x:g}", x / spread) for x in OF_SPREAD]
        todo += [(key, name, a) for key, a in times if only in key]
    for key, name, alpha in todo:
        if (key := key.lower().replace(" ", "-").replace(".", "_")) in lines:
            continue
        n, epsilon = (e.hyper.acting_n, e.hyper.log_epsilon) if name in every else (1, None)
        policy = ImplicitPolicy(behavior, every.get(name), alpha, n, epsilon)
        envs = e.task.environments(len(e.rng) * EPISODES)
        got = evaluate(policy, envs, EPISODES, e.rng, e.task.horizon)
        score = e.task.score(got["return"]).mean(1)
        line = dict(critic=name, alpha=alpha, score=score.mean(), length=got["length"].mean())
        line["standard_error"] = score.std(ddof=1) / np.sqrt(len(score))
        lines[key] = {k: x if isinstance(x, str) else round(float(x), 3) for k, x in line.items()}
        print(key, lines[key], flush=True)
        record = dict(profile=PROFILE, episodes_a_seed=EPISODES, seeds=list(e.seeds))
        record |= dict(dataset_sha256=e.dataset.sha256, critics=of_critics, lines=lines)
        record |= provenance(e.device, own=FILE)
        text = json.dumps(dict(tasks=tasks | {task: record}), indent=1, default=float)
        write_atomic(FILE, f"{text}\n".encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=[TASK])
    parser.add_argument("--only", default="", help="lines whose name holds this text")
    given = parser.parse_args()
    for task in given.tasks:
        measure(task, given.only)
