"""Hopper, Walker2d and HalfCheetah by D4RL's recipe (Fu et al. 2020): a million steps of policies
of some skill. The policies are published ones (`policies.published`).

medium: actions drawn from the policy whose return is nearest to that of D4RL's medium set; expert:
from the best; medium-expert: both, one after the other. medium-replay is D4RL's replay buffer of
the training up to medium; here the policies up to medium act one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from arq_core.collectors.policies import published
from arq_core.collectors.policies.acting import EPISODES, Act, clipped, episodes
from arq_core.collectors.policies.archives import FAMILIES
from arq_core.collectors.policies.published import EXPERT, MEDIUM
from arq_core.collectors.recording import Episode, Recipe, record
from arq_core.config.settings import pick
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.engine.streams import Streams, derive_seed
from arq_core.envs.locomotion import HORIZON, KINDS, simulator_versions

RECIPE = 2  # raise it when the same key would give other numbers
SEED = 0
STEPS = 1_000_000  # of medium and of expert, each; D4RL's
PART = 20_000  # steps of a part; its last episode is cut to reach them
SIDE_BY_SIDE = 20  # episodes
# share of D4RL's expert return below which the card calls our expert weaker
WEAK = 0.9

# transitions of D4RL's medium-replay sets, v2
REPLAY_STEPS = {"hopper": 402_000, "walker2d": 302_000, "halfcheetah": 202_000}
# standard deviation that is added to the weakest policy's in the first stretch of medium-replay
NOISE = 0.5

LEVELS = ("medium", "medium-replay", "medium-expert", "expert")
TASKS = {f"{env}-{level}-recollected": (env, level) for env in KINDS for level in LEVELS}


def drawn(env: str, act: Act, seed: int, steps: int) -> list[Episode]:
    """Whole episodes with drawn actions, in order of their seeds, until there are so many steps;
    the last one is cut to fit.
    """
    envs, rng = KINDS[env](SIDE_BY_SIDE), Streams([seed])
    taken, wave = [], 0
    while steps:
        seeds = [derive_seed(rng.seeds[0], wave, j) % 2**31 for j in range(SIDE_BY_SIDE)]
        for episode in episodes(act, envs, seeds, rng):
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


@dataclass(frozen=True)
class Stretch:
    """Steps of one policy, with noise added or without."""

    rung: published.Rung
    steps: int
    noise: float = 0.0
    number: int = 0  # among the parts of the same policy and noise

    def in_parts(self) -> list[Stretch]:
        """This stretch in parts of at most PART steps."""
        return [
            replace(self, steps=min(PART, self.steps - start), number=i)
            for i, start in enumerate(range(0, self.steps, PART))
        ]


def stretches(env: str, level: str) -> list[Stretch]:
    """Which policies act in a dataset, in order, and for how many steps."""
    rungs, medium = published.ladder(env)
    if level == "medium-replay":
        stages = [(rungs[0], NOISE), *((rung, 0.0) for rung in rungs[: medium + 1])]
        each, more = divmod(REPLAY_STEPS[env], len(stages))
        return [Stretch(rung, each + (i < more), n) for i, (rung, n) in enumerate(stages)]
    chosen = {
        "medium": [medium],
        "expert": [-1],
        "medium-expert": [medium, -1],
    }[level]
    return [Stretch(rungs[i], STEPS) for i in chosen]


def part(env: str, parts: list[Stretch], i: int) -> list[Episode]:
    """Episodes of a part; see `drawn`."""
    chosen = parts[i]
    source = chosen.rung.source
    seed = derive_seed(SEED, env, source.algorithm, chosen.noise, chosen.number)
    return drawn(env, replace(source.load(), noise=chosen.noise), seed, chosen.steps)


def recipe(task_name: str) -> Recipe:
    """How a dataset is collected; its policies are listed in `data/policies/published.csv`."""
    env, level = pick("task", task_name, TASKS)
    whole = stretches(env, level)
    parts = [piece for stretch in whole for piece in stretch.in_parts()]
    key = dict(
        recipe=RECIPE,
        seed=SEED,
        env=KINDS[env].gym_id,
        level=level,
        policies=[
            [
                stretch.rung.source.policy_sha256,
                stretch.rung.source.observations_sha256,
                stretch.noise,
                stretch.steps,
            ]
            for stretch in whole
        ],
        versions=simulator_versions(),
        part=PART,
        steps=sum(stretch.steps for stretch in whole),
        side_by_side=SIDE_BY_SIDE,
    )
    return Recipe(
        task_name,
        "d4rl",
        len(parts),
        key,
        partial(part, env, parts),
        _card(env, level, whole),
    )


def _card(env: str, level: str, whole: list[Stretch]) -> dict[str, str]:
    rungs, medium = published.ladder(env)
    sources = {stretch.rung.source.algorithm: stretch.rung.source for stretch in whole}
    behaviour = "; ".join(
        f"{stretch.rung.source.algorithm}, {stretch.steps:,} steps"
        + (
            f" with a standard deviation of {stretch.noise} added to its own"
            if stretch.noise
            else f", return {stretch.rung.mean:.0f} (standard deviation {stretch.rung.std:.0f})"
        )
        for stretch in whole
    )
    middle, best = rungs[medium], rungs[-1]
    share = best.mean / EXPERT[env]
    differences = (
        "MuJoCo 3 and Gymnasium's v4 instead of MuJoCo 2 and v2; policies of several algorithms, "
        f"trained by others in v3 ({published.SOURCE}), instead of one training of SAC. Mean "
        f"returns of {EPISODES} episodes with drawn actions: medium ({middle.source.algorithm}) "
        f"{middle.mean:.0f}, where D4RL's medium set averages about {MEDIUM[env]:.0f}; expert "
        f"({best.source.algorithm}) {best.mean:.0f}, which is {share:.0%} of the return of D4RL's "
        f"expert ({EXPERT[env]:.0f}){': ours is weaker' if share < WEAK else ''}. Actions are "
        "drawn from the policy in every set"
    )
    if clipping := sorted(a for a in sources if FAMILIES[a].draw is clipped):
        differences += (
            f". Actions of {', '.join(clipping)} are clipped to the box; infos/action_log_probs "
            "are those of the draws before that"
        )
    if clocks := sorted(a for a, source in sources.items() if source.clock):
        differences += (
            f". {', '.join(clocks)} also sees which share of the episode is left "
            f"(1 - t/{HORIZON}), which the observations do not hold: this behaviour is not Markov "
            "in the state"
        )
    if level == "medium-replay":
        differences += (
            ". It is not the replay buffer of a training: the policies up to medium act one after "
            "the other, in order of their returns and with equally many steps, the weakest first "
            "with noise added; together as many steps as D4RL's set has. The uniform actions at "
            "the start are missing"
        )
    return dict(
        how=f"D4RL's recipe for {level}: episodes of published policies, actions drawn from them",
        behaviour=f"published policies of {', '.join(sources)}: {behaviour}",
        algorithm=", ".join(name.upper() for name in sources),
        licence=f"MIT, as this repository; {published.LICENCE}",
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
