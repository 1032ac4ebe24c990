"""May a policy be chosen without a simulator? Estimates of policies whose true returns a simulator
tells: fitted Q evaluation, the learner's own critic, importance sampling.

    python benchmarks/choosing_blind.py [TASK ...]

TASK is one of TASKS (default: all). A part of the episodes is held out; policies that differ in
method, epsilon, alpha and K learn from the rest (profile `ci`), are judged by the held-out ones
(arq_core.experiments.choosing, what `arq choose` does) and then act in the simulator. Prints and
writes data/benchmarks/choosing_blind.json, after each policy; policies that are in the file are not
measured again. Truths are returns as scored, and discounted ones, which is what is estimated.
"""

import json
import sys
from dataclasses import dataclass, field

import numpy as np
import torch

from arq_core.algorithm.types import Policy
from arq_core.baselines.fqe import first_rows
from arq_core.baselines.returns import monte_carlo
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.experiments.choosing import Candidate, Judge, Judged, grid, hold_out
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.experiment import Experiment, prepare
from arq_core.results.calibration import calibrated, half_width
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/choosing_blind.json"
PROFILE, OFF = "ci", -float("inf")


@dataclass(frozen=True)
class Plan:
    """What is tried on a task: log epsilons and multiples of the group's alpha for ARQ + s_psi; K
    other than the group's, at its epsilon; alphas of Q_beta + s_psi; methods as they are; seeds,
    and episodes of each in the simulator."""

    epsilons: tuple[float, ...] = (-5.0, OFF)
    alphas: tuple[float, ...] = (0.03, 0.3, 3.0)
    ks: tuple[int, ...] = ()
    plain: tuple[str, ...] = ("bc", "s_psi", "arq+pi")
    seeds: tuple[int, ...] = (10, 11)
    episodes: int = 100
    changes: dict = field(default_factory=dict)  # of the group's hyperparameters

    def candidates(self, e: Experiment) -> list[Candidate]:
        """All of them."""
        found = grid(e, list(self.plain)) + grid(e, ["q_beta+s_psi"], (), self.alphas)
        found += grid(e, ["arq+s_psi"], self.epsilons, self.alphas)
        return found + (grid(e, ["arq+s_psi"], (), self.alphas, self.ks) if self.ks else [])


# a clone that learns, is sampled and acts in minutes of one core: what is asked is how well its
# policies are ranked, not how good they are
SMALL = dict(width=64, n=16, acting_n=16)
TASKS = {
    "maze": Plan(ks=(6,)),
    "bridge": Plan(),
    "pointmaze-umaze-recollected": Plan(episodes=10, changes=SMALL),
    "hopper-medium-recollected": Plan(episodes=10, changes=SMALL),
}


class Discounting:
    """A policy that acts as another, and counts what its episodes earn, discounted."""

    def __init__(self, policy: Policy, gamma: float):
        self.policy, self.gamma, self.factor = policy, gamma, 1.0
        self.earned: torch.Tensor | float = 0.0

    def reset(self, n: int) -> None:
        self.policy.reset(n)
        self.factor, self.earned = 1.0, 0.0

    def act(self, states, rng):
        return self.policy.act(states, rng)

    def observe(self, rewards: torch.Tensor) -> None:
        self.earned = self.earned + self.factor * rewards.double()
        self.factor *= self.gamma


def truth(e: Experiment, policy: Policy, episodes: int) -> dict:
    """What its episodes earned, mean over those of each seed, and the standard errors."""
    counted = Discounting(policy, e.hyper.gamma)
    envs = e.task.environments(len(e.rng) * episodes)
    got = evaluate(counted, envs, episodes, e.rng, e.task.horizon)
    found = {"return": got["return"], "discounted": counted.earned.cpu().numpy()}
    made = {name: x.mean(1).tolist() for name, x in found.items()}
    return made | {
        f"{k}_error": (x.std(1, ddof=1) / episodes**0.5).tolist() for k, x in found.items()
    }


def said(judged: Judged, where: str = "") -> dict:
    """What is written down of a judgement."""
    line = {f"fqe{where}": judged.fqe.tolist()}
    if not where:
        several = dict(own=judged.own, weighted=judged.weighted, episodes=judged.episodes)
        line |= {k: x.tolist() for k, x in several.items() if x is not None}
    return line


def known_starts(e: Experiment, count: int) -> torch.Tensor:
    """States in which the simulator begins: where it does not begin as recorded episodes do."""
    states = e.task.environments(count).reset(list(range(1_000, 1_000 + count)))
    return torch.as_tensor(np.array(states), dtype=torch.float32)


def measure(name: str, kept: dict, write) -> dict:
    """The lines of a task, those in `kept` as they are."""
    plan = TASKS[name]
    whole = prepare(name, PROFILE, list(plan.seeds), changes=plan.changes)
    e, held = hold_out(whole)
    data, gamma = held.transitions, e.hyper.gamma
    judge = Judge(e, data)
    begun = Judge(e, data, starts=known_starts(e, 200))
    returns = monte_carlo(data, gamma)[first_rows(data)]
    found = dict(gamma=gamma, seeds=list(plan.seeds), episodes_a_seed=plan.episodes)
    found |= dict(
        changes=plan.changes, dataset_sha256=e.dataset.sha256, recorded=float(returns.mean())
    )
    found |= dict(learned_from=len(e.data.actions), held_out=len(data.actions))
    found |= dict(held_out_episodes=len(returns), fitting=vars(judge.how))
    lines = found["lines"] = dict(kept.get("lines", {}))
    candidates = plan.candidates(e)
    for i, candidate in enumerate(candidates):
        if candidate.name in lines:
            continue
        judged = judge.judge(candidate, sampled=True)
        changes = {k: "off" if v == OFF else v for k, v in candidate.changes.items()}
        line = dict(method=candidate.method, changes=changes)
        line |= said(judged) | said(begun.judge(candidate), "_at_starts")
        line |= truth(e, judge.trained(candidate), plan.episodes)
        lines[candidate.name] = line
        print(
            f"{name} {i + 1}/{len(candidates)} {candidate.name:32s} "
            f"return {np.mean(line['return']):8.3f}  discounted {np.mean(line['discounted']):8.3f}"
            f"  FQE {judged.value:8.3f} ± {judged.half_width:.3f}"
            f"  at starts {np.mean(line['fqe_at_starts']):8.3f}",
            flush=True,
        )
        write(found)
    lines = found["lines"] = {c.name: lines[c.name] for c in candidates}
    return found | dict(calibration=calibration(found))


def calibration(found: dict) -> dict:
    """Each estimator against the returns as scored: of the policies that it has something to say
    of, and how many these are."""
    lines, made = found["lines"].values(), {}
    estimates = {
        "fqe": lambda x: np.mean(x["fqe"], 1),
        "fqe_at_starts": lambda x: np.mean(x["fqe_at_starts"], 1),
        "own": lambda x: np.array(x["own"]) if "own" in x else None,
        "weighted": lambda x: np.array(x["weighted"]) if "weighted" in x else None,
        "recorded": lambda x: np.full(len(found["seeds"]), found["recorded"]),
    }
    for name, of in estimates.items():
        some = [(of(x), x) for x in lines if of(x) is not None]
        values, truths = (
            np.array([v for v, _ in some]),
            np.array([x["return"] for _, x in some]),
        )
        made[name] = dict(policies=len(some), **calibrated(values, truths))
        made[name]["range"] = float(np.ptp(truths.mean(1)))
        if name.startswith("fqe"):
            true = np.array([np.mean(x["discounted"]) for _, x in some])
            heads = np.array([np.mean(x[name], 0) for _, x in some])
            half = np.array([half_width(h) for h in heads])
            error = heads.mean(1) - true
            made[name] |= dict(
                mean_error=float(error.mean()),
                rms_error=float(np.sqrt((error**2).mean())),
                covered=int((abs(error) <= half).sum()),
            )
    return made


def kept() -> dict:
    """The tasks of the file, where there is one."""
    return json.loads(FILE.read_text(encoding="utf-8"))["tasks"] if FILE.exists() else {}


def main(names: list[str]) -> None:
    """Measure what is missing."""
    if unknown := [n for n in names if n not in TASKS]:
        raise SystemExit(f"saw {', '.join(unknown)}, expected of {', '.join(TASKS)}.")
    for name in names or list(TASKS):

        def write(found: dict, name: str = name) -> None:
            made = kept() | {name: found}
            made = {task: made[task] for task in TASKS if task in made}
            about = dict(profile=PROFILE, **provenance(own=FILE))
            text = json.dumps(about | dict(tasks=made), indent=1, ensure_ascii=False)
            write_atomic(FILE, f"{text}\n".encode())

        write(measure(name, kept().get(name, {}), write))


if __name__ == "__main__":
    main(sys.argv[1:])
