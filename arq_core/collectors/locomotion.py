"""Hopper, Walker2d and HalfCheetah by D4RL's recipe (Fu et al. 2020): a million steps of policies
from a training of soft actor-critic.

medium: actions drawn from a policy at about a third of D4RL's expert return; expert: from the best;
medium-expert: both, one after the other. medium-replay is D4RL's replay buffer of the training up
to medium; here policies of the ladder, in order of training, act as many steps as lie between them.
"""

from __future__ import annotations

from functools import partial

from arq_core.collectors.policies.ladder import EXPERT, Rung, episodes, load_ladder
from arq_core.collectors.recording import Episode, Recipe, record
from arq_core.config.settings import pick
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.engine.streams import Streams, derive_seed
from arq_core.envs.locomotion import KINDS, simulator_versions

RECIPE = 1  # raise it when the same key would give other numbers
SEED = 0
STEPS = 1_000_000  # of medium and of expert, each; D4RL's
PART = 20_000  # steps of a part; its last episode is cut to reach them
SIDE_BY_SIDE = 20  # episodes
# share of D4RL's expert return below which the card calls our expert weaker
WEAK = 0.9

LEVELS = ("medium", "medium-replay", "medium-expert", "expert")
TASKS = {f"{env}-{level}-recollected": (env, level) for env in KINDS for level in LEVELS}


def shares(rungs: list[Rung], medium: int, best: int, level: str) -> list[tuple[Rung, int, int]]:
    """(policy, steps, number among the parts of this policy) of each part."""

    def alone(rung: Rung) -> list[tuple[Rung, int, int]]:
        return [
            (rung, min(PART, STEPS - start), i) for i, start in enumerate(range(0, STEPS, PART))
        ]

    if level == "medium-replay":
        before = [0, *[r.steps for r in rungs]]
        return [(rung, rung.steps - before[i], 0) for i, rung in enumerate(rungs[: medium + 1])]
    return {
        "medium": alone(rungs[medium]),
        "expert": alone(rungs[best]),
        "medium-expert": alone(rungs[medium]) + alone(rungs[best]),
    }[level]


def part(env: str, parts: list[tuple[Rung, int, int]], i: int) -> list[Episode]:
    """Whole episodes with drawn actions, in order of their seeds, until the part has its steps; the
    last one is cut to fit.
    """
    rung, steps, number = parts[i]
    envs, rng = KINDS[env](SIDE_BY_SIDE), Streams([derive_seed(SEED, env, rung.steps, number)])
    taken, wave = [], 0
    while steps:
        seeds = [derive_seed(rng.seeds[0], wave, j) % 2**31 for j in range(SIDE_BY_SIDE)]
        for episode in episodes(rung.weights, envs, seeds, rng):
            length = min(steps, len(episode["actions"]))
            if length:
                taken.append(_cut(episode, length))
            steps -= length
        wave += 1
    return taken


def _cut(episode: Episode, length: int) -> Episode:
    """Its first `length` steps; a cut episode does not end in a terminal state."""
    whole = length == len(episode["actions"])
    return {
        k: episode["terminal"] and whole if k == "terminal" else x[: length + (k == "observations")]
        for k, x in episode.items()
    }


def recipe(task_name: str) -> Recipe:
    """How a dataset is collected; its policies are those of `data/policies/<env>`."""
    env, level = pick("task", task_name, TASKS)
    rungs, medium, best, sha256 = load_ladder(env)
    parts = shares(rungs, medium, best, level)
    key = dict(
        recipe=RECIPE,
        seed=SEED,
        env=KINDS[env].gym_id,
        level=level,
        ladder=sha256,
        versions=simulator_versions(),
        part=PART,
        steps=sum(p[1] for p in parts),
        side_by_side=SIDE_BY_SIDE,
    )
    return Recipe(
        task_name,
        "d4rl",
        len(parts),
        key,
        partial(part, env, parts),
        _card(env, level, rungs, medium, best),
    )


def _card(env: str, level: str, rungs: list[Rung], medium: int, best: int) -> dict[str, str]:
    chosen = {
        "medium": [medium],
        "expert": [best],
        "medium-expert": [medium, best],
        "medium-replay": list(range(medium + 1)),
    }[level]
    policies = "; ".join(f"{rungs[i].steps:,} steps, return {rungs[i].mean:.0f}" for i in chosen)
    share = rungs[best].mean / EXPERT[env]
    differences = (
        "MuJoCo 3 and Gymnasium's v4 instead of MuJoCo 2 and v2; policies of our "
        "own (two layers of 128 units instead of 256). Their returns: medium "
        f"{rungs[medium].mean:.0f}, expert {rungs[best].mean:.0f}, which is "
        f"{share:.0%} of the return of D4RL's expert "
        f"({EXPERT[env]:.0f}){': ours is much weaker' if share < WEAK else ''}. "
        "Actions are drawn from the policy in every set"
    )
    if level == "medium-replay":
        differences += (
            ". It is not the replay buffer of the training: one policy for each "
            "stretch of training, each with whole episodes, stands in for the policy "
            "of each step, and the uniform actions at the start are missing"
        )
    return dict(
        how=f"D4RL's recipe for {level}: episodes of policies of a training of soft "
        "actor-critic, actions drawn from them",
        behaviour=f"tanh-normal policies (steps of training, mean return): {policies}",
        algorithm="SAC",
        licence="MIT, as this repository",
        differences=differences,
    )


def load(task_name: str) -> Dataset:
    """The dataset of that name, collected at the first call."""
    env, _ = pick("task", task_name, TASKS)
    return read_d4rl(
        record(recipe(task_name)),
        KINDS[env].state_dim,
        KINDS[env].action_dim,
        fidelity="recollected",
    )
