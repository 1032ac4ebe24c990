"""One row of a table: a task's data, a method trained at a profile, its episodes, and the result
rows that say what was measured.

Notebooks and the workflow call this; the mathematics below it knows neither files nor simulators.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from arq_core.algorithm.policies import HEADS
from arq_core.algorithm.qlearning import BOOTSTRAPS
from arq_core.algorithm.samplers import SAMPLERS
from arq_core.algorithm.types import Transitions
from arq_core.config import settings
from arq_core.config.hyper import Budget, Hyper
from arq_core.config.own_methods import BUILT_IN
from arq_core.config.paths import cache_folder, given
from arq_core.config.tasks import Task, task
from arq_core.datasets.boxes import Bounds
from arq_core.datasets.dataset import Dataset, thin
from arq_core.datasets.fetch import FetchError
from arq_core.datasets.find import find
from arq_core.datasets.own import row_name
from arq_core.datasets.rewards import REWARDS
from arq_core.engine.filestore import FileStore
from arq_core.engine.machine import SOLVE_ROWS, fast_precision
from arq_core.engine.streams import Streams
from arq_core.envs.own import label
from arq_core.envs.vector import EnvError, VectorEnv
from arq_core.experiments.critics import warn_of_short_walks
from arq_core.experiments.episodes import check_dimensions, check_layout, evaluate
from arq_core.experiments.methods import Trained, reward_of
from arq_core.experiments.own_method import Fit, find_method
from arq_core.experiments.own_task import OwnTask, Simulator, own_task, suited
from arq_core.results import provenance, records
from arq_core.results import rows as results

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Experiment:
    """Everything that a method is given, and what its rows will say."""

    task: Task
    dataset: Dataset
    hyper: Hyper
    budget: Budget
    profile: str
    rng: Streams
    changes: dict
    recorded: Dataset  # all of it, with the rewards as recorded
    snapshots: int = 0  # that each training leaves on its way (experiments.logged.curve)

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.rng.seeds

    @property
    def data(self) -> Transitions:
        """The transitions, on the device."""
        return self.dataset.transitions.to(self.rng.device)

    def data_of(self, method: str) -> Transitions:
        """The same transitions with the rewards that a method learns from: a neighbour makes its
        own of the recorded ones."""
        reward = reward_of(method, self.hyper)
        if reward == self.hyper.reward:
            return self.data
        return learned_from(self.recorded, reward, self.budget).transitions.to(self.rng.device)

    @property
    def device(self) -> str:
        """The processor's or the card's name, and the arithmetic."""
        name = (
            torch.cuda.get_device_name(self.rng.device)
            if self.rng.device.type == "cuda"
            else provenance.processor()
        )
        return f"{name}, {self.budget.precision}"

    def store(self) -> FileStore:
        return finished_steps(self.rng.device, self.snapshots)


def finished_steps(device: torch.device | str = "cpu", snapshots: int = 0) -> FileStore:
    """Where finished and interrupted steps of training are kept, with so many snapshots of each."""
    return FileStore(
        cache_folder() / "steps" / str(settings.STEP_RECIPE) / torch.device(device).type, snapshots
    )


def prepare(
    name: str | Dataset,
    profile: str,
    seeds: Sequence[int] | int | None = None,
    group: str = "",
    environment: Simulator = "",
    changes: dict | None = None,
    device: str = "auto",
    bounds: Bounds = None,
) -> Experiment:
    """Check every name and load the data, before anything is trained.

    `name` is a task of `data/tasks.csv`; or data of your own, for which `group` is needed: an HDF5
    file in D4RL's or robomimic's layout, a folder of Minari's, "minari:" and an id, or a Dataset
    (datasets.own.from_arrays). `seeds` are the seeds themselves, or their number (None: the
    profile's). `changes` replaces hyperparameters by name. `device` is a torch device, or "auto".
    `bounds` is the box in which the actions of your own data were recorded, where they do not say
    it and the simulator's is another (datasets.boxes).
    """
    source, environment = find(name), "" if environment is None else environment
    if source.task and (group or label(environment)):
        raise settings.UnknownName(
            f"group, environment: saw {group!r}, {environment!r} with task {name!r}, "
            "expected none: data/tasks.csv says them."
        )
    if source.task and bounds is not None and str(bounds):
        raise settings.UnknownName(
            f"bounds: saw {bounds!r} with task {name!r}, expected none: its actions are in [-1, 1]."
        )
    chosen = source.task or own_task(source.title, group, environment)
    hyper = settings.hyper(chosen.group, profile, chosen.environment)
    hyper = settings.with_changes(hyper, changes or {}, "hyperparameter")
    budget = settings.budget(profile, chosen.group)
    check_values(hyper, budget)
    seeds = _seeds(seeds, budget)
    dataset = source.load()
    if not source.task:
        tried = (group, simulator) if (simulator := label(environment)) else ()
        chosen = replace(chosen, task=row_name(source.title, dataset, *tried))
        chosen, dataset = suited(chosen, dataset, bounds)
    device = _device(device)
    budget = replace(
        budget,
        precision=fast_precision(budget.precision, device),
        critic_precision=fast_precision(budget.critic_precision, device),
    )
    used = learned_from(dataset, hyper.reward, budget)
    return Experiment(
        chosen, used, hyper, budget, profile, Streams(seeds, device), changes or {}, dataset
    )


def learned_from(recorded: Dataset, reward: str, budget: Budget) -> Dataset:
    """The data with a transform of REWARDS, and as much of them as the budget has."""
    transform = settings.pick("reward", reward, REWARDS)
    changed = replace(recorded, transitions=transform(recorded.transitions))
    return thin(changed, budget.transitions)


def _seeds(seeds: Sequence[int] | int | None, budget: Budget) -> list[int]:
    """The seeds themselves, for what `prepare` takes."""
    seeds = budget.seeds if seeds is None else seeds
    seeds = list(
        range(budget.first_seed, budget.first_seed + seeds) if isinstance(seeds, int) else seeds
    )
    if (
        not seeds
        or len(set(seeds)) < len(seeds)
        or not all(isinstance(s, int) and s >= 0 for s in seeds)
    ):
        raise settings.UnknownName(
            f"seeds: saw {seeds!r}, expected at least one integer >= 0, each once, such "
            "as [0, 1, 2]."
        )
    return seeds


def _device(device: str) -> str:
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if torch.device(device).type not in SOLVE_ROWS:
        raise settings.UnknownName(
            f"device: saw {device!r}, expected auto, {' or '.join(SOLVE_ROWS)}."
        )
    return device


def check_values(hyper: Hyper, budget: Budget) -> None:
    """Refuse values that no step could use, before the first step."""
    names = dict(
        variant=(hyper.variant, BOOTSTRAPS),
        head=(hyper.head, HEADS),
        reward=(hyper.reward, REWARDS),
        sampler=(budget.sampler, SAMPLERS),
        density=(budget.density, ("same_solve", "multistep", "rk45")),
        precision=(budget.precision, PRECISIONS),
        critic_precision=(budget.critic_precision, PRECISIONS),
    )
    for kind, (value, known) in names.items():
        if value not in known:
            raise settings.UnknownName(
                f"{kind}: saw {value!r}, expected one of {', '.join(map(repr, known))}."
            )
    conditions = {
        f"k: saw {hyper.k}, expected 1 to n = {hyper.n}": 1 <= hyper.k <= hyper.n,
        f"acting_n: saw {hyper.acting_n}, expected 1 or more": hyper.acting_n >= 1,
        f"warm_start: saw {hyper.warm_start}, expected 0 or more": hyper.warm_start >= 0,
        f"width: saw {hyper.width}, expected an even number > 0": hyper.width > 0
        and hyper.width % 2 == 0,
        f"batch: saw {hyper.batch}, expected a multiple of times_per_batch = "
        f"{budget.times_per_batch}": hyper.batch % budget.times_per_batch == 0,
        f"density: saw 'same_solve' with sampler {budget.sampler!r}, expected "
        "'dpmpp_2m', the solver it walks with": budget.density != "same_solve"
        or budget.sampler == "dpmpp_2m",
    }
    for message, holds in conditions.items():
        if not holds:
            raise settings.UnknownName(f"{message}; change the hyperparameter or the profile.")


def missing(name: str) -> str:
    """Why a task cannot be run here ("" where it can): its data cannot be fetched, or its simulator
    is not installed.
    """
    try:
        task(name).load()
        task(name).environments(1)
    except (FetchError, EnvError) as error:
        return str(error)
    return ""


def train(experiment: Experiment, method: str | Fit) -> Trained:
    """The method's policy for all seeds at once; a method of your own is its function, or
    "module:function" (own_method).

    Steps that are finished for this very data, hyperparameters and budget are loaded.
    """
    name, fit = find_method(method)
    warn_of_short_walks(experiment.data, experiment.hyper, experiment.budget, name)
    e = experiment
    return fit(e.data_of(name), e.hyper, e.budget, e.rng, e.store())


def measure(experiment: Experiment, method: str | Fit) -> list[dict]:
    """Train, run all episodes with the final weights, and return one result row per episode.
    A method of your own is its function, or "module:function" (own_method).

    Finished episodes are a step like those of training: loaded, where they were run for these very
    data, hyperparameters, budget and versions.
    """
    (name, fit), store = find_method(method), experiment.store()
    e = experiment
    if not e.task.environment:
        raise settings.UnknownName(
            f"environment: saw none for {e.task.task}, expected the name of a task "
            "whose simulator to use; without one a policy can be trained but not "
            "scored."
        )
    data = e.data_of(name)
    envs = simulators(e, data)
    warn_of_short_walks(data, e.hyper, e.budget, name)
    trained = fit(data, e.hyper, e.budget, e.rng, store)
    measured = episodes(e, name, trained, envs, store)
    measured["score"] = e.task.score(measured["return"])
    return results.episode_rows(
        measured,
        e.seeds,
        trained.in_support,
        task=e.task.task,
        dataset_sha256=e.dataset.sha256,
        fidelity=e.dataset.fidelity,
        profile=e.profile,
        method=name,
        variant=e.hyper.variant,
        wall_s=round(sum(store.seconds.values()), 1),
        **provenance.provenance(e.device),
    )


def simulators(e: Experiment, data: Transitions) -> VectorEnv:
    """Those of all seeds' episodes, checked against the data."""
    envs = e.task.environments(len(e.rng) * e.budget.episodes)
    check_dimensions(envs, data.states.shape[1], data.actions.shape[1])
    check_layout(envs, e.dataset.layout)
    return envs


def run_each_time(e: Experiment, method: str) -> bool:
    """Whether episodes are of a simulator or a method of the user's own, which may have changed."""
    return isinstance(e.task, OwnTask) or method not in BUILT_IN


def episodes_key(e: Experiment, method: str) -> dict:
    """What the episodes of a trained method depend on, besides its weights."""
    return dict(
        recipe=settings.EVALUATION_RECIPE,
        environment=e.task.environment,
        horizon=e.task.horizon,
        termination=e.task.termination,
        method=method,
        hyper=vars(e.hyper),
        budget=vars(e.budget),
        seeds=list(e.seeds),
        data=e.data_of(method).fingerprint(),
        versions=provenance.versions(),
    )


def episodes(
    e: Experiment,
    method: str,
    trained: Trained,
    envs: VectorEnv,
    store: FileStore,
    at: int | None = None,
) -> dict[str, np.ndarray]:
    """`evaluate`, kept in the store; `at` is the step of a snapshot (None: the end).

    Those in a simulator of the user's own, or by a method of theirs, are run again each time:
    nothing here tells when it changed.
    """
    key = episodes_key(e, method)
    key |= {} if at is None else dict(at=at)
    if run_each_time(e, method):
        store.discard("episodes", key)
    if found := store.load("episodes", key):
        return {name: x.numpy() for name, x in found.items() if name != "seconds"}
    start = time.monotonic()
    measured = evaluate(trained.policy, envs, e.budget.episodes, e.rng, e.task.horizon)
    seconds = torch.tensor(time.monotonic() - start, dtype=torch.float64)
    store.save(
        "episodes",
        key,
        {name: torch.from_numpy(x) for name, x in measured.items()} | dict(seconds=seconds),
    )
    return measured


def measure_and_write(experiment: Experiment, method: str | Fit, folder: str | Path) -> list[dict]:
    """`measure`, and the rows as one file of `folder`, replaced as a whole when the job is done.

    Rows do not say which hyperparameters were changed by hand, so those of a changed experiment are
    not written (a variant is said).
    """
    if experiment.changes.keys() - {"variant"}:
        raise settings.UnknownName(
            f"changes: saw {experiment.changes}, expected none for rows that are kept; "
            "use `measure`, or add a group to hyperparameters.toml."
        )
    path = given(folder) / results.file_name(
        experiment.task.task, experiment.profile, find_method(method)[0], experiment.hyper.variant
    )
    fewest = len(experiment.seeds) * experiment.budget.episodes
    if path.exists() and len(results.read_file(path)) > fewest:
        raise records.ResultsError(
            f"{path}: saw a job of {fewest} episodes, expected at least the rows "
            "already there; delete that file first if the smaller job should replace "
            "it."
        )
    results.refuse_other_data(path, experiment.dataset.sha256)
    rows = measure(experiment, method)
    results.write_rows(path, rows)
    return rows
