"""Ladders of skill: policies of one training in order of its steps, scored, in
`data/policies/<env>/`.

`python -m arq_core.collectors.policies.ladder --env hopper` takes them from the files that
`arq_core.collectors.policies.sac` has written so far.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm.types import DataError
from arq_core.collectors.policies.acting import EPISODES, Act, score, squashed
from arq_core.collectors.policies.published import EXPERT
from arq_core.config.files import files_in, sha256_of, write_atomic
from arq_core.config.paths import DATA, cache_folder
from arq_core.envs.locomotion import KINDS

POLICIES = DATA / "policies"
# of D4RL's expert return: where its authors stopped training for "medium"
MEDIUM_SHARE = 1 / 3
SMOOTH = 5  # policies
DENSE, SPARSE = 10_000, 50_000  # steps between rungs up to the medium one, and beyond it

# of arq_core.algorithm.nets.MLP, one member: layers.<i>.weight [in, out], layers.<i>.bias [1, out]
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Rung:
    steps: int  # of the training that the policy has seen
    mean: float  # mean return of EPISODES episodes with drawn actions
    weights: Weights


def parameters(weights: Weights, states: Tensor) -> Tensor:
    """Mean and log standard deviation before the tanh, [n, 2A], at states [n, S]."""
    h = states
    for i in range(2):
        h = (h @ weights[f"layers.{i}.weight"] + weights[f"layers.{i}.bias"]).relu()
    return h @ weights["layers.2.weight"] + weights["layers.2.bias"]


def actor(weights: Weights) -> Act:
    """The policy of these weights."""
    return lambda states, noise, t: squashed(parameters(weights, states), noise)


def choose(scores: dict[int, float], expert: float) -> tuple[list[int], int, int]:
    """(rungs, medium, best) as steps of training, from the mean stochastic return at each kept
    step.

    Single policies jump up and down while they train. Medium is therefore sought up to where the
    median of the last SMOOTH policies has reached a third of D4RL's expert return, and is the
    policy there whose return is nearest to that. The best policy is the last rung. Rungs lie DENSE
    steps apart up to medium, and SPARSE beyond.
    """
    steps, third = sorted(scores), MEDIUM_SHARE * expert
    reached = [
        i
        for i in range(SMOOTH, len(steps) + 1)
        if np.median([scores[s] for s in steps[i - SMOOTH : i]]) >= third
    ]
    medium = min(steps[: min(reached, default=len(steps))], key=lambda s: abs(scores[s] - third))
    best = max(steps, key=lambda s: scores[s])
    rungs = {
        s for s in steps if s % (DENSE if s <= medium else SPARSE) == 0 and s < max(medium, best)
    }
    return sorted(rungs | {medium, best}), medium, best


def harvest(env: str, training: Path, target: Path) -> Path:
    """Scores the actor's files of a training (those that the last harvest has scored are not scored
    again) and writes the ladder.

    Files: ladder.safetensors ("<steps>.<name>", float32), ladder.json (how it was trained, what
    each policy scores).
    """
    files = {int(p.stem.split("-")[1]): p for p in files_in(training, "actor-*.safetensors")}
    if not files:
        raise DataError(
            f"{training}: saw no actor-<steps>.safetensors, expected those of a "
            "training; run arq_core.collectors.policies.sac first."
        )
    scores_file = training / "scores.json"
    scores = json.loads(scores_file.read_text(encoding="utf-8")) if scores_file.exists() else {}
    envs = KINDS[env](EPISODES)
    for steps, path in tqdm(files.items(), desc=f"score {env}"):
        if str(steps) not in scores:
            scores[str(steps)] = score(actor(safetensors.torch.load_file(path)), envs)
            write_atomic(scores_file, json.dumps(scores).encode())
    rungs, medium, best = choose(
        {steps: scores[str(steps)]["stochastic"]["mean"] for steps in files}, EXPERT[env]
    )
    tensors = {
        f"{steps}.{k}": v
        for steps in rungs
        for k, v in safetensors.torch.load_file(files[steps]).items()
    }
    write_atomic(target / "ladder.safetensors", safetensors.torch.save(tensors))
    said = json.loads((training / "settings.json").read_text(encoding="utf-8"))
    card = dict(
        said,
        algorithm="soft actor-critic (arq_core.collectors.policies.sac)",
        trained_steps=max(files),
        medium=medium,
        best=best,
        d4rl_expert_return=EXPERT[env],
        sha256=sha256_of(target / "ladder.safetensors"),
        rungs={str(steps): scores[str(steps)] for steps in rungs},
    )
    write_atomic(target / "ladder.json", (json.dumps(card, indent=1) + "\n").encode())
    return target


def load_ladder(env: str, folder: Path | None = None) -> tuple[list[Rung], int, int, str]:
    """(rungs in order of training, index of the medium one, index of the best, SHA-256 of the
    weights).
    """
    folder = folder or POLICIES / env
    path = folder / "ladder.safetensors"
    if not path.is_file():
        raise DataError(
            f"{path}: saw no ladder, expected the policies of {env}; train them (python "
            f"-m arq_core.collectors.policies.sac --env {env}) and harvest them (python "
            f"-m arq_core.collectors.policies.ladder --env {env})."
        )
    data, card = path.read_bytes(), json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    if (seen := hashlib.sha256(data).hexdigest()) != card["sha256"]:
        raise DataError(
            f"{path}: saw SHA-256 {seen}, expected {card['sha256']}, that of "
            "ladder.json; restore both files."
        )
    tensors, rungs = safetensors.torch.load(data), []
    for steps, scores in card["rungs"].items():
        prefix = f"{steps}."
        weights = {
            k.removeprefix(prefix): v.clone() for k, v in tensors.items() if k.startswith(prefix)
        }
        rungs.append(Rung(int(steps), scores["stochastic"]["mean"], weights))
    rungs.sort(key=lambda r: r.steps)
    at = [r.steps for r in rungs]
    return rungs, at.index(card["medium"]), at.index(card["best"]), card["sha256"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m arq_core.collectors.policies.ladder", description=__doc__
    )
    parser.add_argument("--env", required=True, choices=sorted(KINDS))
    parser.add_argument(
        "--training", type=Path, help="folder of the training; default: <cache>/sac/<env>-0"
    )
    parser.add_argument("--target", type=Path, help="default: data/policies/<env>")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    training = given.training or cache_folder() / "sac" / f"{given.env}-0"
    print(harvest(given.env, training, given.target or POLICIES / given.env))


if __name__ == "__main__":
    main()
