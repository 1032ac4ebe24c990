"""Why does the explicit policy fall off the bridge? What recorded slips weigh in advantage-weighted
regression, and what pi_phi earns with other strengths, without them, trained for longer and with
the other head.

    python benchmarks/explicit.py

At profile `ci`, on the seeds that the bridge's settings were chosen on: one clone, one support and
one critic each, and only pi_phi is another. Prints and writes data/benchmarks/explicit.json, a line
after each measurement; lines that are in the file are not measured again.
"""

import json
from dataclasses import replace

import torch

from arq_core.algorithm.arq import arq
from arq_core.algorithm.policies import awr_weights, data_advantage, fit_awr
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine.store import fingerprint
from arq_core.envs.bridge import CAUGHT_REWARD
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.experiment import prepare
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/explicit.json"
TASK, PROFILE, SEEDS, STEPS = "bridge", "ci", (0, 1), 10_000
TRIED = {  # name -> (alpha, recorded actions below epsilon count, head, steps of the regression)
    "bc": (0.0, True, "gaussian", None),
    "alpha-1": (1.0, True, "gaussian", None),
    "alpha-5": (5.0, True, "gaussian", None),
    "alpha-10": (10.0, True, "gaussian", None),
    "alpha-20": (20.0, True, "gaussian", None),
    "alpha-50": (50.0, True, "gaussian", None),
    "alpha-50-filtered": (50.0, False, "gaussian", None),
    "alpha-20-filtered": (20.0, False, "gaussian", None),
    "alpha-50-longer": (50.0, True, "gaussian", STEPS),
    "alpha-50-deterministic": (50.0, True, "deterministic", None),
}


def main() -> None:
    """Measure what is missing."""
    e = prepare(TASK, PROFILE, SEEDS)
    result = arq(e.data, e.hyper, e.budget, e.rng, e.store(), explicit=False)
    advantages = data_advantage(e.data, result.support, result.q, e.hyper.log_epsilon)
    states = e.data.states[e.data.state].expand(len(e.rng), -1, -1)
    own = e.data.actions[:, None].expand(len(e.rng), -1, -1, -1)
    density = result.behavior.log_prob(own, states, e.rng.fork("own")).squeeze(-1)
    inside = density >= e.hyper.log_epsilon
    caught = e.data.rewards >= CAUGHT_REWARD - 1e-6
    about = dict(
        caught=caught.double().mean().item(),
        caught_below_epsilon=(~inside[:, caught]).double().mean().item(),
        advantage_of_caught=advantages[:, caught].mean().item(),
        spread_of_others=advantages[:, ~caught].std(1).mean().item(),
    )
    lines = json.loads(FILE.read_text(encoding="utf-8"))["lines"] if FILE.exists() else {}
    for name, (alpha, all_count, head, steps) in TRIED.items():
        if name in lines:
            continue
        asked = advantages if all_count else advantages.masked_fill(~inside, -torch.inf)
        hyper = replace(e.hyper, head=head)
        budget = replace(e.budget, policy_steps=steps or e.budget.policy_steps)
        key = dict(advantages=fingerprint(dict(a=asked)))
        policy = fit_awr(e.data, asked, alpha, hyper, budget, e.rng, e.store(), key)
        weights = awr_weights(asked, alpha)
        envs = e.task.environments(len(e.rng) * budget.episodes)
        got = evaluate(policy, envs, budget.episodes, e.rng, e.task.horizon)
        lines[name] = dict(
            alpha=alpha,
            steps=budget.policy_steps,
            head=head,
            below_epsilon=all_count,
            weight_of_caught=((weights * caught).sum(1) / weights.sum(1)).mean().item(),
            score=float(e.task.score(got["return"]).mean()),
            score_by_seed=[round(float(x), 3) for x in e.task.score(got["return"]).mean(1)],
            success=float(got["success"].mean()),
        )
        print(name, lines[name], flush=True)
        record = dict(task=TASK, profile=PROFILE, seeds=list(SEEDS), **about, lines=lines)
        record |= dict(dataset_sha256=e.dataset.sha256, episodes_a_seed=e.budget.episodes)
        record |= provenance(e.device, own=FILE)
        write_atomic(FILE, f"{json.dumps(record, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
