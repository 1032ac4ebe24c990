"""Trainings by soft actor-critic, on one core: the policies that collect the locomotion datasets.
`--env hopper` trains one.

Checkpoints of the whole state are taken where an episode ends, so that no simulator has to be
saved: an interrupted training goes on from there and takes the same steps.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm.nets import MLP
from arq_core.algorithm.types import DataError
from arq_core.collectors.policies.acting import LOG_STD
from arq_core.collectors.policies.sac_learner import Learner, Settings
from arq_core.config.files import write_atomic
from arq_core.config.paths import cache_folder
from arq_core.engine.machine import keep_freed_memory
from arq_core.engine.streams import Streams, derive_seed
from arq_core.envs.locomotion import KINDS, simulator_versions
from arq_core.envs.vector import VectorEnv


def actor_tensors(actor: MLP) -> dict[str, Tensor]:
    """The actor's weights by name, one member: [in, out] and [1, out]."""
    return {k: v.detach()[0].clone() for k, v in actor.state_dict().items()}


class Training:
    """One training in a folder: `run` goes on from the last file of the whole state there, and
    returns when all steps are taken.

    Files: actor-<steps>.safetensors every `actor_every` steps, state.safetensors (the whole),
    settings.json, episodes.jsonl (at the end of each episode: steps so far, return, length).
    """

    def __init__(self, env: str, settings: Settings, folder: Path, envs: VectorEnv | None = None):
        self.settings, self.folder = settings, folder
        self.envs = envs or KINDS[env](1)
        self.learner = Learner(self.envs.state_dim, self.envs.action_dim, settings)
        self.weights = [
            (layer.weight.detach()[0].numpy(), layer.bias.detach()[0, 0].numpy())
            for layer in self.learner.actor.layers
        ]
        self.log = folder / "episodes.jsonl"
        self.taken, self.episode, self.kept = 0, 0, 0
        self.said = dict(
            env=env,
            settings=asdict(settings),
            versions=dict(torch=torch.__version__, **simulator_versions()),
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def _resume(self) -> None:
        path = self.folder / "settings.json"
        told = path.read_text(encoding="utf-8") if path.exists() else ""
        if told and json.loads(told) != self.said:
            raise DataError(
                f"{path}: saw {told}, expected {json.dumps(self.said)}; use "
                "another folder, or the same settings and versions."
            )
        write_atomic(path, json.dumps(self.said, indent=1).encode())
        if not (state := self.folder / "state.safetensors").exists():
            self.log.unlink(missing_ok=True)
            return
        saved = safetensors.torch.load_file(state)
        with torch.no_grad():
            for k, v in self.learner.tensors().items():
                v.copy_(saved[k])
        self.learner.replay[: len(saved["replay"])] = saved["replay"]
        self.learner.draws.restore(saved["draws"])
        self.taken, self.episode = saved["counts"].tolist()
        self.kept = self.taken
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        # what was taken after the state was kept is taken again
        write_atomic(self.log, "".join(lines[: self.episode]).encode())

    def save(self) -> None:
        """The whole state, at the end of an episode."""
        tensors = self.learner.tensors() | dict(
            replay=self.learner.replay[: self.taken],
            draws=self.learner.draws.state(),
            counts=torch.tensor([self.taken, self.episode]),
        )
        write_atomic(
            self.folder / "state.safetensors",
            safetensors.torch.save({k: v.detach().contiguous() for k, v in tensors.items()}),
        )
        self.kept = self.taken

    def act(self, state: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """`squashed` for one state, in NumPy: ten times faster for a single row."""
        h = state
        for weight, bias in self.weights[:-1]:
            h = np.maximum(h @ weight + bias, 0)
        weight, bias = self.weights[-1]
        mean, log_std = np.split(h @ weight + bias, 2)
        return np.tanh(mean + np.exp(log_std.clip(*LOG_STD)) * noise)

    def run(self, until: int | None = None) -> None:
        """Whole episodes, until `until` steps (or all) are taken."""
        until = self.settings.steps if until is None else until
        with tqdm(
            total=self.settings.steps,
            initial=self.taken,
            desc=f"SAC {self.said['env']}",
            mininterval=30,
        ) as bar:
            while self.taken < until:
                before = self.taken
                result = self.run_episode()
                bar.update(self.taken - before)
                with open(self.log, "a", encoding="utf-8") as log:
                    log.write(json.dumps(dict(steps=self.taken, **result)) + "\n")
                if self.taken - self.kept >= self.settings.state_every or self.taken >= until:
                    self.save()

    def run_episode(self) -> dict:
        """One episode, with an update after each of its steps; its return and length.

        Its random numbers depend on its number only.
        """
        chosen, learner, total = self.settings, self.learner, 0.0
        rng = Streams([derive_seed(chosen.seed, "episode", self.episode)])
        noise, uniform = (
            draw(self.envs.horizon, self.envs.action_dim)[0].numpy()
            for draw in (rng.randn, rng.rand)
        )
        state = self.envs.reset([rng.seeds[0] % 2**31])[0]
        replay = learner.replay.numpy()
        for t in range(min(self.envs.horizon, chosen.steps - self.taken)):
            action = (
                self.act(state, noise[t]) if self.taken >= chosen.uniform else 2 * uniform[t] - 1
            )
            after, reward, terminal, _ = self.envs.step(action[None])
            replay[self.taken] = np.concatenate([state, action, reward, terminal, after[0]])
            self.taken, state, total = self.taken + 1, after[0], total + float(reward[0])
            if self.taken > chosen.uniform:
                learner.update(self.taken)
            if self.taken % chosen.actor_every == 0:
                write_atomic(
                    self.folder / f"actor-{self.taken:07d}.safetensors",
                    safetensors.torch.save(actor_tensors(learner.actor)),
                )
            if terminal[0]:
                break
        self.episode += 1
        return dict(total=total, length=t + 1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m arq_core.collectors.policies.sac", description=__doc__
    )
    parser.add_argument("--env", required=True, choices=sorted(KINDS))
    parser.add_argument("--folder", type=Path, help="default: <cache>/sac/<env>-<seed>")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args(arguments))
    env, folder = given.pop("env"), given.pop("folder")
    torch.set_num_threads(1)
    keep_freed_memory()
    Training(
        env, Settings(**given), folder or cache_folder() / "sac" / f"{env}-{given['seed']}"
    ).run()


if __name__ == "__main__":
    main()
