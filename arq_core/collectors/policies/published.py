"""Locomotion policies that others trained and published: DLR-RM/rl-trained-agents (MIT), of five
algorithms for each simulator.

`data/policies/published.csv` says where each lies; `data/policies/published_returns.json` what it
earns here, measured by `python -m arq_core.collectors.policies.published --env hopper`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch

from arq_core.algorithm.types import DataError
from arq_core.collectors.policies.acting import EPISODES, score
from arq_core.collectors.policies.archives import FAMILIES, Policy, read_policy
from arq_core.config.files import read_csv, write_atomic
from arq_core.config.paths import DATA
from arq_core.config.settings import pick
from arq_core.datasets.fetch import fetch
from arq_core.envs.locomotion import KINDS, simulator_versions

LISTED = DATA / "policies" / "published.csv"
RETURNS = DATA / "policies" / "published_returns.json"
SOURCE = "github.com/DLR-RM/rl-trained-agents"
LICENCE = "policies: MIT (rl-trained-agents)"
# return that D4RL's infos.py gives a score of 100, and about what its v2 medium sets average
EXPERT = {"hopper": 3234.3, "walker2d": 4592.3, "halfcheetah": 12135.0}
MEDIUM = {"hopper": 1420.0, "walker2d": 2850.0, "halfcheetah": 4770.0}


@dataclass(frozen=True)
class Published:
    """A row of published.csv."""

    env: str
    algorithm: str
    inputs: int  # width of its observations
    policy: str  # address of the archive
    policy_sha256: str
    observations: str  # address of the statistics of observations; "" for none
    observations_sha256: str

    @property
    def clock(self) -> bool:
        """Whether it also sees what is left of the episode."""
        return self.inputs > KINDS[self.env].state_dim

    def load(self) -> Policy:
        """The policy, fetched where it is not in the cache; DataError where it cannot be had or
        read.
        """
        kind = KINDS[self.env]
        return read_policy(
            _fetched(self.policy, self.policy_sha256),
            _fetched(self.observations, self.observations_sha256) if self.observations else None,
            self.algorithm,
            self.inputs,
            kind.state_dim,
            kind.action_dim,
        )


def _fetched(address: str, sha256: str) -> Path:
    """The file of an address of GitHub: /owner/repository/commit/path. The local folder may hold it
    as policies/path.
    """
    _, _, repository, _, path = urlsplit(address).path.split("/", 4)
    return fetch(
        address, sha256, f"{repository}-{path.replace('/', '-')}", local=f"policies/{path}"
    )


def listed(env: str) -> dict[str, Published]:
    """The published policies of a simulator, by algorithm."""
    rows = [Published(**row | dict(inputs=int(row["inputs"]))) for row in read_csv(LISTED, "env")]
    pick("simulator", env, KINDS)
    return {row.algorithm: row for row in rows if row.env == env}


@dataclass(frozen=True)
class Rung:
    """A policy with its mean return of EPISODES episodes with drawn actions."""

    source: Published
    mean: float
    std: float


def ladder(env: str) -> tuple[list[Rung], int]:
    """The policies of a simulator in order of their returns, and the index of the medium one: its
    return is nearest to that of D4RL's medium set. The last is the best.
    """
    sources = listed(env)
    returns = json.loads(RETURNS.read_text(encoding="utf-8"))["returns"].get(env, {})
    if missing := sources.keys() - returns.keys():
        raise DataError(
            f"{RETURNS}: saw no returns of {', '.join(sorted(missing))} for {env}, expected all of "
            f"{LISTED.name}; measure them: python -m arq_core.collectors.policies.published --env "
            f"{env}."
        )
    drawn = {name: returns[name]["stochastic"] for name in sources}
    rungs = sorted(
        (Rung(row, drawn[name]["mean"], drawn[name]["std"]) for name, row in sources.items()),
        key=lambda rung: rung.mean,
    )
    near = [abs(rung.mean - MEDIUM[env]) for rung in rungs]
    return rungs, near.index(min(near))


def measure(env: str, algorithm: str) -> None:
    """Writes what a policy earns (`acting.score`) into RETURNS, beside what is there."""
    scores = score(listed(env)[algorithm].load(), KINDS[env](EPISODES))
    said = json.loads(RETURNS.read_text(encoding="utf-8")) if RETURNS.is_file() else {}
    returns = said.get("returns", {})
    returns.setdefault(env, {})[algorithm] = scores
    versions = dict(torch=torch.__version__, **simulator_versions())
    text = json.dumps(dict(versions=versions, returns=returns), indent=1, sort_keys=True)
    write_atomic(RETURNS, text + "\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m arq_core.collectors.policies.published", description=__doc__
    )
    parser.add_argument("--env", required=True, choices=sorted(KINDS))
    parser.add_argument("--algorithm", choices=sorted(FAMILIES), help="default: all")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for algorithm in [given.algorithm] if given.algorithm else listed(given.env):
        measure(given.env, algorithm)
        print(given.env, algorithm)


if __name__ == "__main__":
    main()
