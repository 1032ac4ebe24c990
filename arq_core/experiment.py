"""One row of a table: a task's data, a method trained at a profile, its episodes, and the result rows that say what was measured.

Notebooks and the workflow call this; the mathematics below it knows neither files nor simulators.
"""
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from arq_core import results, settings
from arq_core.artifacts import FileStore
from arq_core.datasets import Dataset
from arq_core.datasets.d4rl import read_d4rl
from arq_core.datasets.fetch import FetchError, cache_folder
from arq_core.envs import EnvError
from arq_core.evaluate import check_dimension, evaluate
from arq_core.methods import METHODS, Trained
from arq_core.streams import Streams
from arq_core.tasks import Task, task
from arq_core.types import Budget, Hyper

HDF5 = (".hdf5", ".h5")


@dataclass(frozen=True)
class Experiment:
    """Everything that a method is given, and what its rows will say."""

    task: Task
    dataset: Dataset
    hyper: Hyper
    budget: Budget
    profile: str
    rng: Streams

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.rng.seeds

    def store(self) -> FileStore:
        return FileStore(cache_folder() / "steps")


def own_task(path: str, group: str, environment: str) -> Task:
    """A task for your own HDF5 file in D4RL's layout: the hyperparameters of `group`, tried in the simulator of task `environment`."""
    settings.hyper(group)
    like = asdict(task(environment)) if environment else dict(environment="", horizon=0, score_min=0.0, score_max=1.0)
    return Task(**dict(like, task=Path(path).stem, published_name="", suite="own" if not environment else like["suite"], group=group,
                       loader="", fidelity="own"))


def prepare(name: str, profile: str, seeds: Sequence[int] | int | None = None, group: str = "", environment: str = "",
            changes: dict | None = None, device: str = "auto") -> Experiment:
    """Check every name and load the data, before anything is trained.

    `name` is a task of `data/tasks.csv` or a .hdf5 file (then `group` is needed). `seeds` are the seeds themselves, or their number
    (None: the profile's). `changes` replaces hyperparameters by name. `device` is a torch device, or "auto".
    """
    own = Path(name).suffix in HDF5
    chosen = own_task(name, group, environment) if own else task(name)
    hyper = settings.with_changes(settings.hyper(chosen.group), changes or {}, "hyperparameter")
    budget = settings.budget(profile, chosen.group)
    seeds = range(budget.seeds) if seeds is None else range(seeds) if isinstance(seeds, int) else seeds
    if not len(seeds):
        raise settings.UnknownName("seeds: saw none, expected at least one integer >= 0, such as 0,1,2.")
    dataset = read_d4rl(Path(name)) if own else chosen.load()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return Experiment(chosen, dataset, hyper, budget, profile, Streams(seeds, device))


def missing(name: str) -> str:
    """Why a task cannot be run here ("" where it can): its data cannot be fetched, or its simulator is not installed."""
    try:
        task(name).load()
        task(name).environments(1)
    except (FetchError, EnvError) as error:
        return str(error)
    return ""


def train(experiment: Experiment, method: str) -> Trained:
    """The method's policy for all seeds at once. Steps that are finished for this very data, hyperparameters and budget are loaded."""
    fit = settings.pick("method", method, METHODS)
    data = experiment.dataset.transitions.to(experiment.rng.device)
    return fit(data, experiment.hyper, experiment.budget, experiment.rng, experiment.store())


def measure(experiment: Experiment, method: str) -> list[dict]:
    """Train, run all episodes with the final weights, and return one result row per episode."""
    fit, store = settings.pick("method", method, METHODS), experiment.store()
    e = experiment
    if not e.task.environment:
        raise settings.UnknownName(f"environment: saw none for {e.task.task}, expected the name of a task whose simulator to use; "
                                   "without one a policy can be trained but not scored.")
    data = e.dataset.transitions.to(e.rng.device)
    envs = e.task.environments(len(e.rng) * e.budget.episodes)
    check_dimension(envs, data.states.shape[1])
    trained = fit(data, e.hyper, e.budget, e.rng, store)
    start = time.monotonic()
    measured = evaluate(trained.policy, envs, e.budget.episodes, e.rng, e.task.horizon)
    measured["score"] = e.task.score(measured["return"])
    device = torch.cuda.get_device_name(e.rng.device) if e.rng.device.type == "cuda" else ""
    return results.episode_rows(
        measured, e.seeds, trained.in_support, task=e.task.task, dataset_sha256=e.dataset.sha256, fidelity=e.dataset.fidelity,
        profile=e.profile, method=method, variant=e.hyper.variant, wall_s=round(sum(store.seconds.values()) + time.monotonic() - start, 1),
        **results.provenance(device))


def measure_and_write(experiment: Experiment, method: str, folder: str | Path) -> list[dict]:
    """`measure`, and the rows as one file of `folder`, replaced as a whole when the job is done."""
    rows = measure(experiment, method)
    name = results.file_name(experiment.task.task, experiment.profile, method, experiment.hyper.variant)
    results.write_rows(Path(folder) / name, rows)
    return rows
