"""A gait by which D4RL's ant walks in any direction: a rhythm for eight joints, no learning.

D4RL's collectors walk with a policy trained by soft actor-critic. This one is a formula with eight
constants (`data/ant_gait.json`), found by a cross-entropy search (Rubinstein 1999) on an open
plain: `python -m arq_core.collectors.ant_gait` searches again, minutes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from tqdm import trange

from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.engine.streams import derive_seed
from arq_core.envs.adroit import simulator_versions
from arq_core.envs.antmaze import AntMazeEnvs, make_ant

GAIT_FILE = DATA / "ant_gait.json"
STEP_SECONDS = 0.1
LEG_ANGLES = np.radians([45.0, 135.0, 225.0, 315.0])  # of legs 1 to 4, around the body
# sign of an ankle's angle that bends the leg down
DOWN = np.array([1.0, -1.0, -1.0, 1.0])
BEAT = np.array([0.0, np.pi, 0.0, np.pi])  # a trot: opposite legs together

SEED = 0
# standard deviation added to the actions in the search; D4RL's of its collectors
NOISE = 0.2
POPULATION, ELITE, GENERATIONS, WALKS, STEPS = 24, 6, 20, 4, 80
TRIALS = 50  # fresh walks that the gait found is tried on
FALLEN = 3.0  # metres that lying on the back costs
# of the spread: share kept from the generation before, and share of the first that is left at least
KEEP, FLOOR = 0.4, 0.02


@dataclass(frozen=True)
class Gait:
    """What each joint aims at, over time, and how hard."""

    frequency: float  # Hz
    swing: float  # rad, amplitude of hips
    reach: float  # rad, amplitude of ankles
    lift: float  # rad, by which a foot is raised on its way forward
    lead: float  # rad, by which raising is ahead of swinging
    bend: float  # rad, ankles at rest
    stiffness: float  # action per rad
    damping: float  # action per rad/s


# Where the search begins, and how far it looks at first.
FIRST = Gait(1.0, 0.4, 0.2, 0.3, 0.0, 0.87, 1.5, 0.3)
SPREAD = Gait(0.3, 0.2, 0.2, 0.15, 0.8, 0.15, 0.7, 0.15)


@cache
def gait(path: Path = GAIT_FILE) -> Gait:
    """The gait that the collectors walk with."""
    return Gait(**json.loads(path.read_text(encoding="utf-8"))["constants"])


def walk(
    g: Gait,
    time: Float[np.ndarray, " n"],
    states: Float[np.ndarray, "n 29"],
    directions: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "n 8"]:
    """Actions of ants that walk in `directions` (rad, in the maze) at `time` (s); not yet clipped.

    A foot that pushes the body along the angle phi (seen from the body) goes backwards on the
    ground and forwards in the air. A leg at angle theta does the part sin(phi - theta) of that with
    its hip, around the body, and cos(phi - theta) with its ankle, outwards.
    """
    w, x, y, z = states[:, 3:7].T
    phi = directions - np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    beat = 2 * np.pi * g.frequency * time[:, None] + BEAT
    hips = g.swing * np.sin(phi[:, None] - LEG_ANGLES) * np.sin(beat)
    ankles = (
        g.bend
        - g.lift * np.maximum(0, np.cos(beat + g.lead))
        - g.reach * np.cos(phi[:, None] - LEG_ANGLES) * np.sin(beat)
    )
    # [n 4 2], legs 1 to 4
    aims = np.stack([hips, DOWN * ankles], -1)
    joints, speeds = states[:, 7:15].reshape(-1, 4, 2), states[:, 21:].reshape(-1, 4, 2)
    torques = g.stiffness * (aims - joints) - g.damping * speeds
    # motors are in the order of legs 4, 1, 2, 3
    return np.roll(torques, 1, axis=1).reshape(-1, 8)


class AntPlainEnvs(AntMazeEnvs):
    """The ant without walls, where gaits are tried; every episode starts at the origin, turned at
    random.
    """

    horizon = STEPS

    def agent(self):
        self.origin = np.zeros(2)
        return make_ant([[0] * 3] * 3)

    def start(self, rng):
        half, state = rng.uniform(-np.pi, np.pi) / 2, self.pose(np.zeros(2), rng)
        state[3:7] = np.cos(half), 0, 0, np.sin(half)
        return state, np.full(2, np.inf)


def progress(g: Gait, envs: AntPlainEnvs, seeds: list[int]) -> Float[np.ndarray, " n"]:
    """Metres walked in a random direction in STEPS noisy steps, less half of those aside, less
    FALLEN for an ant on its back.
    """
    rng = np.random.default_rng(seeds)
    states, directions = envs.reset(seeds), rng.uniform(-np.pi, np.pi, len(seeds))
    for step in range(STEPS):
        actions = walk(g, np.full(len(seeds), STEP_SECONDS * step), states, directions)
        states, *_ = envs.step(actions + NOISE * rng.standard_normal(actions.shape))
    (px, py), (c, s) = states[:, :2].T, (np.cos(directions), np.sin(directions))
    return px * c + py * s - 0.5 * np.abs(py * c - px * s) - FALLEN * on_its_back(states)


def on_its_back(states: Float[np.ndarray, "n 29"]) -> Bool[np.ndarray, " n"]:
    """Whether the body's own up is more than about 70 degrees from the world's."""
    x, y = states[:, 4:6].T
    return 1 - 2 * (x * x + y * y) < 0.3


def search(seed: int, generations: int = GENERATIONS) -> Gait:
    """Cross-entropy search: normal draws around a mean, which moves to the mean of the best; the
    spread follows theirs.
    """
    rng, envs = np.random.default_rng(seed), AntPlainEnvs(WALKS)
    mean, first = (np.array(list(asdict(g).values())) for g in (FIRST, SPREAD))
    spread = first
    for generation in trange(generations, desc="search a gait"):
        seeds = [derive_seed("gait", seed, generation, i) % 2**31 for i in range(WALKS)]
        drawn = mean + spread * rng.standard_normal((POPULATION, len(mean)))
        scores = np.array([progress(Gait(*x), envs, seeds).mean() for x in drawn])
        best = drawn[np.argsort(-scores)[:ELITE]]
        mean, spread = (
            best.mean(0),
            np.maximum(KEEP * spread + (1 - KEEP) * best.std(0), FLOOR * first),
        )
    return Gait(*mean.round(3).tolist())


def main() -> None:
    found = search(SEED)
    trials = progress(found, AntPlainEnvs(TRIALS), list(range(TRIALS)))
    how = (
        f"cross-entropy search on a plain without walls: {GENERATIONS} generations "
        f"of {POPULATION} gaits, {WALKS} walks of {STEPS} steps each, action noise "
        f"{NOISE:g}; python -m arq_core.collectors.ant_gait"
    )
    text = dict(
        constants=asdict(found),
        how=how,
        seed=SEED,
        versions=dict(numpy=np.__version__, **simulator_versions()),
        trials=dict(
            walks=TRIALS,
            metres_in_8_seconds=dict(mean=trials.mean().round(2), min=trials.min().round(2)),
        ),
    )
    write_atomic(GAIT_FILE, (json.dumps(text, indent=1) + "\n").encode())
    print(GAIT_FILE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
