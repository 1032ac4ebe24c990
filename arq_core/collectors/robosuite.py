"""Lift, Can and Square demonstrations in robomimic's three kinds (Mandlekar et al. 2021), by
scripted operators instead of people.

ph: one proficient operator; mh: three levels of proficiency; mg: checkpoints of a machine that
learns, failures included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from arq_core.collectors.operators import JOBS, Operator, Skill
from arq_core.collectors.recording import Episode, Recipe, record
from arq_core.config.settings import pick
from arq_core.datasets.dataset import Dataset
from arq_core.datasets.readers.robomimic import read_robomimic
from arq_core.engine.streams import derive_seed
from arq_core.envs.robosuite import CanEnvs, LiftEnvs, RobosuiteEnvs, SquareEnvs, robosuite_versions

RECIPE = 1  # raise it when the same key would give other numbers
SEED = 0
DEMOS = 10  # in a part
VALID_EVERY = 10  # robomimic keeps a tenth of the demonstrations for validation
# for one successful demonstration; a skill that needs more is no skill
ATTEMPTS = 100
PROFICIENT = Skill(speed=0.9, noise=0.10, aim=0.004, pause=0.01)
LEVELS = {
    "better": Skill(speed=0.75, noise=0.12, aim=0.005, pause=0.02),
    "okay": Skill(speed=0.5, noise=0.18, aim=0.008, pause=0.04),
    "worse": Skill(speed=0.35, noise=0.24, aim=0.010, pause=0.06),
}


def checkpoint(progress: float) -> Skill:
    """A machine between its first movements (0) and the end of its training (1)."""
    return Skill(
        speed=0.4 + 0.5 * progress,
        noise=0.15 + 0.85 * (1 - progress),
        aim=0.005 + 0.035 * (1 - progress),
        pause=0.0,
    )


@dataclass(frozen=True)
class Kind:
    """One of robomimic's kinds of datasets."""

    skills: dict[str, Skill]  # by filter key; parts take them in turn
    parts: int
    steps: int  # at most, in an episode
    # only successful demonstrations, which end there; else all, of `steps` steps
    until_success: bool
    official: str


def _machine(checkpoints: int, parts: int, official: str) -> Kind:
    skills = {f"checkpoint_{k}": checkpoint(k / (checkpoints - 1)) for k in range(checkpoints)}
    return Kind(skills, parts, steps=150, until_success=False, official=official)


PH = Kind({"proficient": PROFICIENT}, 20, 400, True, "200 successful demonstrations of one person")
MH = Kind(LEVELS, 30, 500, True, "300 successful demonstrations of six people")
KINDS: dict[str, tuple[type[RobosuiteEnvs], str, Kind]] = {
    "lift-ph-recollected": (LiftEnvs, "lift", PH),
    "lift-mh-recollected": (LiftEnvs, "lift", MH),
    "lift-mg-recollected": (
        LiftEnvs,
        "lift",
        _machine(5, 20, "1,500 episodes of 150 steps, 300 of each of 5 checkpoints of SAC"),
    ),
    "can-ph-recollected": (CanEnvs, "can", PH),
    "can-mh-recollected": (CanEnvs, "can", MH),
    "can-mg-recollected": (
        CanEnvs,
        "can",
        _machine(13, 26, "3,900 episodes of 150 steps, 300 of each of 13 checkpoints of SAC"),
    ),
    "square-ph-recollected": (SquareEnvs, "square", PH),
    "square-mh-recollected": (SquareEnvs, "square", MH),
}


def demonstrate(envs: RobosuiteEnvs, job: str, skill: Skill, kind: Kind, seed: int) -> Episode:
    """One episode of one operator: start, manner and noise are those of `seed`.

    `envs` is a vector of one.
    """
    operator = Operator(JOBS[job], skill, np.random.default_rng(derive_seed(seed, "operator")))
    observations, actions, rewards, states = (
        [envs.reset([derive_seed(seed, "start") % 2**31])[0]],
        [],
        [],
        [],
    )
    sim, done = envs.sims[0].sim, np.zeros(1, bool)
    while len(actions) < kind.steps and not (kind.until_success and done[0]):
        states.append(sim.get_state().flatten())
        actions.append(operator.act(observations[-1]))
        state, reward, done, _ = envs.step(actions[-1][None])
        observations.append(state[0])
        rewards.append(reward[0])
    return dict(
        observations=np.stack(observations),
        actions=np.stack(actions),
        rewards=np.array(rewards),
        states=np.stack(states),
        terminal=kind.until_success and bool(done[0]),
        attrs=dict(model_file=_portable(sim.model.get_xml())),
    )


def _portable(xml: str) -> str:
    """Addresses of meshes and textures from robosuite's folder on, which robosuite finds again
    wherever it is installed.
    """
    import robosuite

    return xml.replace(str(Path(robosuite.__file__).parent), "robosuite")


def _part(task_name: str, demos: int, i: int) -> list[Episode]:
    """Demonstrations i·demos to (i + 1)·demos - 1, all of one skill."""
    envs_kind, job, kind = KINDS[task_name]
    level = list(kind.skills)[i % len(kind.skills)]
    envs, episodes = envs_kind(1), []
    for number in range(i * demos, (i + 1) * demos):
        for attempt in range(ATTEMPTS):
            episode = demonstrate(
                envs, job, kind.skills[level], kind, derive_seed(task_name, SEED, number, attempt)
            )
            if episode["terminal"] or not kind.until_success:
                break
        split = "valid" if number % VALID_EVERY == VALID_EVERY - 1 else "train"
        episode["attrs"].update(attempts=attempt + 1, masks=[split, level, f"{level}_{split}"])
        episodes.append(episode)
    return episodes


def _card(task_name: str, demos: int) -> dict[str, str]:
    _, _, kind = KINDS[task_name]
    only = (
        "only those that succeed within the limit, each up to its first success"
        if kind.until_success
        else "successful or not"
    )
    return dict(
        how=f"{kind.parts * demos} demonstrations of at most {kind.steps} steps, "
        f"{only}; an operator's start, manner and noise are drawn anew for each",
        behaviour="scripted proportional controllers that go through the phases of a pick, "
        "start over when the object slips away, stop now and then, and choose "
        "between ways to grasp; "
        + "; ".join(
            f"{k}: speed {s.speed:.2f}, noise {s.noise:.2f}, aim {s.aim:.3f} m, pauses "
            f"{s.pause:.2f}"
            for k, s in kind.skills.items()
        ),
        licence="MIT, as this repository",
        differences=f"robomimic's has {kind.official}; robosuite 1.5.1 on MuJoCo 3 instead of "
        "robosuite 1.2 on MuJoCo 2; `object` is in the order and with the signs of "
        "robomimic's files of 2021, which robosuite 1.5.1 no longer has; a "
        "demonstration ends at its first success, those of people some steps "
        "later; filter keys other than train and valid are the operators'",
    )


def recipe(task_name: str, parts: int | None = None, demos: int = DEMOS) -> Recipe:
    envs_kind, _, kind = pick("robosuite dataset", task_name, KINDS)
    key = dict(recipe=RECIPE, seed=SEED, demos=demos, **robosuite_versions())
    return Recipe(
        task_name,
        "robomimic",
        parts or kind.parts,
        key,
        partial(_part, task_name, demos),
        _card(task_name, demos),
        dict(env_args=envs_kind.env_args(), observation_keys=envs_kind.observation_keys()),
    )


def load(task_name: str) -> Dataset:
    """The dataset, collected on the first call: minutes to an hour.

    A machine's episode that is cut after 150 steps is no terminal.
    """
    return read_robomimic(record(recipe(task_name)), fidelity="recollected", success_only=True)
