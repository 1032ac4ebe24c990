"""Is an environment D4RL's? Returns of the random policy, beside the reference minimum that D4RL
computed from its own random policy.

D4RL's policy (scripts/reference_scores/generate_ref_min_score.py): actions uniform in the box, 100
episodes, the task's time limit. Agreement is necessary, not sufficient; where a random policy never
earns anything it says nothing at all.
"""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import dataclass
from pkgutil import resolve_name

import numpy as np
import pandas as pd

from arq_core.envs.vector import VectorEnv
from arq_core.results.measured import measured

D4RL_EPISODES = 100
# combined standard errors: 1 comparison in 370 of two equal normal means is beyond
AGREES = 3.0
COMPARABLE, NOT_COMPARABLE, NOT_SHOWN = "comparable", "not comparable", "not shown"

NOTHING_EARNED = "a random policy earns nothing in either, which says nothing about the bodies"
HOPPER = (
    "D4RL's number is not the return of its own random data either: "
    "hopper-random has a mean of 18.3 (D4RL, issue 86); a step pays 1 while "
    "the hopper stands"
)


@dataclass(frozen=True)
class Reference:
    """One environment: where it is made, and REF_MIN_SCORE of D4RL's infos.py.

    `known`: what is known of a difference or its absence.
    """

    environment: str
    minimum: float
    episodes: int = 400  # that its benchmark asks for
    known: str = ""


REFERENCES = {
    "door": Reference("arq_core.envs.adroit:door_envs", -56.512833),
    "hammer": Reference("arq_core.envs.adroit:hammer_envs", -274.856578),
    "pen": Reference(
        "arq_core.envs.adroit:pen_envs",
        96.262799,
        1000,
        "returns spread over thousands, so that agreement is weak evidence",
    ),
    "relocate": Reference("arq_core.envs.adroit:relocate_envs", -6.425911),
    "hopper": Reference("arq_core.envs.locomotion:hopper_envs", -20.272305, known=HOPPER),
    "walker2d": Reference("arq_core.envs.locomotion:walker2d_envs", 1.629008),
    "halfcheetah": Reference("arq_core.envs.locomotion:halfcheetah_envs", -280.178953),
    "kitchen-complete": Reference(
        "arq_core.envs.kitchen:kitchen_complete_envs", 0.0, 100, NOTHING_EARNED
    ),
    "kitchen-partial": Reference(
        "arq_core.envs.kitchen:kitchen_partial_envs", 0.0, 100, NOTHING_EARNED
    ),
    "kitchen-mixed": Reference(
        "arq_core.envs.kitchen:kitchen_mixed_envs", 0.0, 100, NOTHING_EARNED
    ),
    "antmaze-umaze": Reference("arq_core.envs.antmaze:umaze_envs", 0.0, 100, NOTHING_EARNED),
    "antmaze-umaze-diverse": Reference(
        "arq_core.envs.antmaze:umaze_diverse_envs", 0.0, 100, NOTHING_EARNED
    ),
    "antmaze-medium": Reference("arq_core.envs.antmaze:medium_envs", 0.0, 100, NOTHING_EARNED),
    "antmaze-large": Reference("arq_core.envs.antmaze:large_envs", 0.0, 100, NOTHING_EARNED),
    "pointmaze-umaze": Reference("arq_core.envs.pointmaze:pointmaze_umaze_envs", 23.85),
    "pointmaze-medium": Reference("arq_core.envs.pointmaze:pointmaze_medium_envs", 13.13),
    "pointmaze-large": Reference("arq_core.envs.pointmaze:pointmaze_large_envs", 6.7),
}


def make(name: str, n: int) -> VectorEnv:
    """n episodes of a row of REFERENCES."""
    return resolve_name(REFERENCES[name].environment)(n)


def random_returns(envs: VectorEnv, episodes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths [episodes] under actions uniform in the box; episode i starts from seed +
    i.
    """
    rng = np.random.default_rng(seed)
    returns, lengths, running = np.zeros(episodes), np.zeros(episodes, int), np.ones(episodes, bool)
    with closing(envs) if hasattr(envs, "close") else nullcontext():
        envs.reset([seed + i for i in range(episodes)])
        while running.any() and lengths.max() < envs.horizon:
            _, rewards, terminated, _ = envs.step(
                rng.uniform(-1, 1, (episodes, envs.action_dim)).astype(np.float32)
            )
            returns += np.where(running, rewards, 0.0)
            lengths += running
            running &= ~terminated
    return returns, lengths


def measure(name: str, episodes: int, seed: int = 0) -> dict:
    """One row of data/benchmarks/random_scores.json."""
    envs = make(name, episodes)
    returns, lengths = random_returns(envs, episodes, seed)
    return dict(
        environment=name,
        episodes=episodes,
        horizon=envs.horizon,
        seed=seed,
        mean=float(returns.mean()),
        std=float(returns.std(ddof=1)),
        smallest=float(returns.min()),
        largest=float(returns.max()),
        mean_length=float(lengths.mean()),
    )


def difference(row: dict) -> float:
    """Our mean minus D4RL's minimum in combined standard errors: ours, and that of 100 such
    episodes. 0 where both are equal.
    """
    gap = row["mean"] - REFERENCES[row["environment"]].minimum
    error = row["std"] * np.sqrt(1 / row["episodes"] + 1 / D4RL_EPISODES)
    return 0.0 if gap == 0 else float(np.inf * np.sign(gap)) if error == 0 else float(gap / error)


def verdict(row: dict) -> str:
    """Whether the random policy is evidence that scores here are on D4RL's scale."""
    if row["std"] == 0 and row["mean"] == REFERENCES[row["environment"]].minimum:
        return NOT_SHOWN
    return COMPARABLE if abs(difference(row)) <= AGREES else NOT_COMPARABLE


def table() -> pd.DataFrame:
    """One row an environment: our mean ± standard error, D4RL's minimum, their difference in
    combined standard errors, verdict, remark.
    """
    rows = {
        r["environment"]: {
            "episodes": r["episodes"],
            "mean return": f"{r['mean']:.2f} ± {r['std'] / r['episodes'] ** 0.5:.2f}",
            "D4RL's minimum": f"{REFERENCES[r['environment']].minimum:.2f}",
            "difference": f"{difference(r):+.1f}",
            "verdict": verdict(r),
            "remark": REFERENCES[r["environment"]].known,
        }
        for r in measured("random_scores")["rows"]
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("environment")
