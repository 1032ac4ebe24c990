"""When do critics arrive? Q_beta and ARQ's Q on door-human by number of steps, beside critics by
returns, each with what it says along the demonstrations and with episodes of its implicit policy.

    python benchmarks/critics.py [PART ...]

PART is one of sarsa, returns, decay, arq, hundred (default: all, one after the other; parts share
the score model and write into one file), or acting: what it changes that fresh candidates are
clipped before Q judges them, by the Monte-Carlo critic (data/benchmarks/acting.json). Steps that
are finished are loaded from the cache, and lines that are in the file are not measured again: a run
that was stopped goes on from there. Prints and writes data/benchmarks/critics.json.

One score network for each of three seeds (not the paper's three), Adam at 1e-3 along a cosine.
Critics are float32, batches of 256, Q_beta and ARQ at the paper's rate 1e-4 and polyak .995, with
K/N = 3/10 in training. Episodes draw 30 candidates at alpha 10, with the filter.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from arq_core.algorithm.arq import behavior_support
from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.qlearning import QEnsemble, fit_q, fit_q_beta
from arq_core.algorithm.types import in_support
from arq_core.baselines.returns import fit_returns
from arq_core.config.files import write_atomic
from arq_core.config.lock import only_one
from arq_core.config.paths import DATA, root
from arq_core.engine.store import fingerprint
from arq_core.experiments.critics import along_the_data
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.experiment import Experiment, prepare
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/critics.json"
ACTING = FILE.with_name("acting.json")
HYPER = dict(ensemble=1, batch=256, score_lr=1e-3, score_schedule="cosine", n=10, k=3)
SCORE_STEPS, EPISODES, CANDIDATES, ALPHA = 12_000, 20, 30, 10.0
SARSA = (20_000, 50_000, 100_000, 150_000)
ARQ = (5_000, 20_000, 60_000)
DECAY = (5_000, 15_000, 50_000)
RETURNS = dict(steps=8_000, lr=1e-3)


def setup() -> Experiment:
    """door-human with the settings above."""
    e = prepare("door-human", "lite", changes=HYPER)
    return replace(e, budget=replace(e.budget, score_steps=SCORE_STEPS, sampler_steps=12, probes=1))


class Bench:
    """The experiment, and what all parts share."""

    def __init__(self):
        self.e, self.store = setup(), setup().store()
        self.exact = replace(self.e.budget, precision="float32")

    def behavior(self):
        """The clone of each seed."""
        e = self.e
        return fit_behavior(e.data, e.hyper, e.budget, e.rng, self.store)

    def returns(self, copies: int = 1, lambda_: float = 1.0) -> QEnsemble:
        """A critic by returns."""
        e, how = self.e, dict(RETURNS, copies=copies, lambda_=lambda_)
        if lambda_ < 1:
            how |= dict(steps=20_000)
        return fit_returns(e.data, e.hyper, self.exact, e.rng, self.store, **how)

    def sarsa(self, steps, **how) -> dict[int, QEnsemble]:
        """Q_beta at each of these numbers of steps of one run."""
        e, kept = self.e, dict.fromkeys(steps[:-1])
        b = replace(self.exact, q_beta_steps=steps[-1])
        last = fit_q_beta(e.data, e.hyper, b, e.rng, self.store, kept=kept, **how)
        return {**kept, steps[-1]: last}

    def arq(self, steps, start=None, **changes) -> dict[int, QEnsemble]:
        """ARQ's Q at each of these numbers of steps of one run."""
        e, kept = self.e, dict.fromkeys(steps[:-1])
        support = behavior_support(e.data, self.behavior(), e.hyper, e.rng, self.store)
        b = replace(self.exact, q_steps=steps[-1], target_every=200)
        key = dict(support=fingerprint(vars(support)))
        h = replace(e.hyper, **changes)
        last = fit_q(e.data, support, h, b, e.rng, self.store, key, start, kept)
        return {**kept, steps[-1]: last}

    def measure(self, name: str, steps: int, q: QEnsemble | None, episodes: int) -> dict:
        """A line of the file: what the critic says, and what its policy earns."""
        e = self.e
        n, filtered = (CANDIDATES, e.hyper.log_epsilon) if q else (1, None)
        policy = ImplicitPolicy(self.behavior(), q, ALPHA, n, filtered)
        envs = e.task.environments(len(e.rng) * episodes)
        got = evaluate(policy, envs, episodes, e.rng, e.task.horizon)
        score = e.task.score(got["return"])
        line = dict(critic=name, steps=steps, alpha=ALPHA if q else 0.0, episodes_a_seed=episodes)
        line |= dict(
            score=score.mean(),
            standard_error=score.std(ddof=1) / np.sqrt(score.size),
            score_by_seed=score.mean(1).tolist(),
            success=got["success"].mean(),
        )
        if q:
            line |= along_the_data(e.data, q, e.hyper.gamma, len(e.rng)).summary()
        return json.loads(json.dumps(line), parse_float=lambda x: round(float(x), 4))


def sarsa(b: Bench) -> Iterator[tuple[str, int, QEnsemble | None]]:
    """One-step SARSA from random weights."""
    for steps, q in b.sarsa(SARSA).items():
        yield "SARSA", steps, q


def returns(b: Bench):
    """The clone, and critics by returns."""
    yield "none (s_psi)", 0, None
    yield "Monte-Carlo", RETURNS["steps"], b.returns()
    for lambda_ in (0.95, 0.8):
        yield f"lambda-returns, {lambda_}", 20_000, b.returns(lambda_=lambda_)


def decay(b: Bench):
    """SARSA from the Monte-Carlo critic on: at the paper's rate and at a high one."""
    start = b.returns()
    for steps, q in b.sarsa(DECAY, start=start).items():
        yield "SARSA from Monte-Carlo", steps, q


def arq(b: Bench):
    """ARQ's Q from the Monte-Carlo critics on, and from random weights."""
    for steps, q in b.arq(ARQ, b.returns(copies=2)).items():
        yield "ARQ from Monte-Carlo", steps, q
    for steps, q in b.arq(ARQ).items():
        yield "ARQ", steps, q


class Watched:
    """A behaviour that counts how many of its fresh candidates have an entry outside the box, and
    at how many states none is in the support; with `as_drawn` they are judged where they were
    drawn.
    """

    def __init__(self, behavior, log_epsilon: float, as_drawn: bool):
        self.behavior, self.log_epsilon, self.as_drawn = behavior, log_epsilon, as_drawn
        self.budget = behavior.budget
        self.outside, self.empty = [], []

    def sample_with_log_prob(self, states, n, rng, clip=False):
        actions, log_prob = self.behavior.sample_with_log_prob(states, n, rng)
        self.outside.append((actions.abs() > 1).any(-1).double().mean().item())
        inside = in_support(log_prob, self.log_epsilon)
        self.empty.append((~inside.any(-1)).double().mean().item())
        return actions if self.as_drawn else actions.clamp(-1, 1), log_prob


class Clipped(ImplicitPolicy):
    """Its action is clipped once it is chosen."""

    def act(self, states, rng):
        return super().act(states, rng).clamp(-1, 1)


def acting(b: Bench) -> dict:
    """The same policy with candidates clipped before they are judged, and after."""
    e, found = b.e, {}
    for name, as_drawn in (("score", False), ("score_as_drawn", True)):
        watched = Watched(b.behavior(), e.hyper.log_epsilon, as_drawn)
        policy = Clipped(watched, b.returns(), ALPHA, CANDIDATES, e.hyper.log_epsilon)
        envs = e.task.environments(len(e.rng) * EPISODES)
        score = e.task.score(evaluate(policy, envs, EPISODES, e.rng, e.task.horizon)["return"])
        found[name] = round(score.mean(), 2)
        found[f"{name}_standard_error"] = round(score.std(ddof=1) / np.sqrt(score.size), 2)
    about = dict(outside=np.mean(watched.outside), empty=np.mean(watched.empty))
    found |= {k: round(float(v), 4) for k, v in about.items()}
    return found | dict(episodes=score.size, task="door-human", **provenance(e.device, own=ACTING))


def hundred(b: Bench):
    """The clone, and ARQ from the Monte-Carlo critics, as often as the paper runs its policies."""
    yield "none (s_psi)", 0, None
    yield "ARQ from Monte-Carlo", ARQ[-1], b.arq(ARQ, b.returns(copies=2))[ARQ[-1]]


PARTS = dict(sarsa=sarsa, returns=returns, arq=arq, decay=decay, hundred=hundred)
OFTEN = dict(hundred=100)  # episodes a seed, where not EPISODES


def name_of(critic: str, steps: int, episodes: int) -> str:
    """A line's name in the file, such as "sarsa-20000"."""
    often = f" x{episodes}" if episodes != EPISODES else ""
    return re.sub(r"[^a-z0-9]+", "-", f"{critic} {steps}{often}".lower()).strip("-")


def lines() -> dict[str, dict]:
    """Those of the file."""
    return json.loads(FILE.read_text(encoding="utf-8"))["lines"] if FILE.exists() else {}


def keep(e: Experiment, line: dict) -> None:
    """Put a line into the file."""
    with only_one(root(), "_build/critics.lock", RuntimeError, wait=True):
        own = name_of(line["critic"], line["steps"], line["episodes_a_seed"])
        every = lines() | {own: line}
        about = dict(task="door-human", dataset_sha256=e.dataset.sha256, seeds=list(e.seeds))
        about |= dict(score_steps=SCORE_STEPS, hyper=HYPER, **provenance(e.device, own=FILE))
        write_atomic(FILE, (json.dumps(about | dict(lines=every), indent=1) + "\n").encode())


def main(*parts: str) -> None:
    """Do the parts."""
    bench = Bench()
    if parts == ("acting",):
        text = json.dumps(acting(bench), indent=1) + "\n"
        print(text)
        return write_atomic(ACTING, text.encode())
    for part in parts or PARTS:
        for name, steps, q in PARTS[part](bench):
            episodes = OFTEN.get(part, EPISODES)
            if name_of(name, steps, episodes) in lines():
                continue
            line = bench.measure(name, steps, q, episodes)
            print(json.dumps(line), flush=True)
            keep(bench.e, line)


if __name__ == "__main__":
    main(*sys.argv[1:])
