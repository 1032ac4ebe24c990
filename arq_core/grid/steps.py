"""The steps of the grid (grid.plan), each as one call, and the receipt of what it made: a notebook
of `notebooks/grid` runs one of them.

A step that is finished for these very data, hyperparameters and budget is loaded; the receipt then
says how long it took when it was computed.

Files are named from the root of the checkout, wherever a notebook was opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from arq_core.algorithm.arq import behavior_support
from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.qlearning import CRITICS, fit_q, fit_q_beta
from arq_core.algorithm.support import in_support_share
from arq_core.baselines.returns import warm_start
from arq_core.config.files import write_atomic
from arq_core.config.paths import root
from arq_core.engine.store import Store, fingerprint
from arq_core.experiments import experiment
from arq_core.experiments.experiment import Experiment
from arq_core.experiments.methods import METHODS
from arq_core.grid import energy, hardware
from arq_core.results import provenance, records
from arq_core.results import rows as results


def dataset(e: Experiment, method: str, store: Store) -> dict:
    """The data themselves, fetched, collected or computed before this."""
    return dict(
        transitions=len(e.dataset.transitions.actions),
        states=len(e.dataset.transitions.states),
        notes=list(e.dataset.notes),
    )


def behavior(e: Experiment, method: str, store: Store) -> Any:
    """s_psi."""
    return fit_behavior(e.data, e.hyper, e.budget, e.rng, store)


def support(e: Experiment, method: str, store: Store) -> Any:
    """N candidates with their log-density for every state."""
    return behavior_support(e.data, behavior(e, method, store), e.hyper, e.rng, store)


def q(e: Experiment, method: str, store: Store) -> Any:
    """Q_theta of ARQ, Eq. 5."""
    candidates = support(e, method, store)
    return fit_q(
        e.data,
        candidates,
        e.hyper,
        e.budget,
        e.rng,
        store,
        dict(support=fingerprint(vars(candidates))),
        warm_start(e.data, e.hyper, e.budget, e.rng, store, CRITICS),
    )


def q_beta(e: Experiment, method: str, store: Store) -> Any:
    """The behaviour's own value."""
    start = warm_start(e.data, e.hyper, e.budget, e.rng, store)
    return fit_q_beta(e.data, e.hyper, e.budget, e.rng, store, start)


def policy(e: Experiment, method: str, store: Store) -> Any:
    """All that the method trains."""
    return METHODS[method](e.data_of(method), e.hyper, e.budget, e.rng, store)


STEPS: dict[str, Callable[[Experiment, str, Store], Any]] = dict(
    dataset=dataset, behavior=behavior, support=support, q=q, q_beta=q_beta, policy=policy
)


def run(
    e: Experiment, step: str, method: str, receipts: Sequence[str | Path], target: str | Path
) -> Any:
    """Do a step and write its receipt to `target`; `receipts` are those of the steps before it.

    Returns what the step made.
    """
    store = e.store()
    with energy.meter() as used:
        made = STEPS[step](e, method, store)
    write_atomic(
        root() / target,
        (json.dumps(receipt(e, step, method, store, receipts, used), indent=1) + "\n").encode(),
    )
    return made


def receipt(
    e: Experiment, step: str, method: str, store, receipts: Sequence[str | Path], used
) -> dict:
    """What a step was given and made: data, seeds, its files in the store with their SHA-256 and
    seconds, and where it was done.
    """
    before = {
        file["file"]
        for path in receipts
        for file in json.loads((root() / path).read_text(encoding="utf-8"))["files"]
    }
    own = {
        path: seconds
        for path, seconds in store.seconds.items()
        if path.name not in before and path.exists()
    }
    files = [
        dict(file=path.name, sha256=_sha256(path), seconds=round(seconds, 1))
        for path, seconds in own.items()
    ]
    joules, source = used.of(sum(own.values()))
    return dict(
        step=step,
        task=e.task.task,
        profile=e.profile,
        variant=e.hyper.variant,
        method=method,
        seeds=list(e.seeds),
        data=e.data_of(method).fingerprint(),
        dataset_sha256=e.dataset.sha256,
        files=files,
        energy_j=joules,
        energy_source=source,
        **provenance.provenance(e.device),
    )


def evaluate(
    e: Experiment,
    method: str,
    receipts: Sequence[str | Path],
    rows_file: str | Path,
    notebooks: dict[str, str],
) -> list[dict]:
    """Run the episodes; write the rows and beside them the run's provenance (.run.json).

    `notebooks` are the executed notebooks by step.
    """
    with energy.meter() as used:
        rows = experiment.measure(e, method)
    path = results.write_rows(root() / rows_file, rows)
    record = run_record(e, method, rows, receipts, notebooks, used)
    records.write_run(path, record)
    return rows


def run_record(
    e: Experiment,
    method: str,
    rows: list[dict],
    receipts: Sequence[str | Path],
    notebooks: dict[str, str],
    used,
) -> dict:
    """From any number to everything behind it: configuration, seeds, data, steps with their files
    and notebooks, machine, time, energy.
    """
    done = [json.loads((root() / path).read_text(encoding="utf-8")) for path in receipts]
    steps = [
        dict(
            step=r["step"],
            notebook=notebooks[r["step"]],
            device=r["device"],
            commit=r["commit"],
            files=r["files"],
            seconds=round(sum(f["seconds"] for f in r["files"]), 1),
        )
        for r in done
    ]
    seconds = rows[0]["wall_s"] - sum(f["seconds"] for r in done for f in r["files"])
    steps.append(
        dict(
            step="evaluate",
            notebook=notebooks["evaluate"],
            device=rows[0]["device"],
            commit=rows[0]["commit"],
            files=[],
            seconds=round(max(seconds, 0.0), 1),
        )
    )
    energies = [*((r["energy_j"], r["energy_source"]) for r in done), used.of(seconds)]
    joules, source = next(
        (e for e in energies if e[0] is None), (sum(e[0] or 0 for e in energies), energies[-1][1])
    )
    first = {
        k: rows[0][k]
        for k in (
            "task",
            "profile",
            "method",
            "variant",
            "device",
            "commit",
            "versions",
            "created",
            "wall_s",
        )
    }
    return dict(
        first,
        hardware=hardware.hardware(),
        seeds=list(e.seeds),
        hyper=vars(e.hyper),
        budget=vars(e.budget),
        steps=steps,
        dataset=dict(
            sha256=e.dataset.sha256,
            fidelity=e.dataset.fidelity,
            source=e.dataset.source,
            transitions=len(e.data.actions),
            notes=list(e.dataset.notes),
        ),
        energy_j=joules,
        energy_source=source,
    )


def shares(e: Experiment, candidates) -> list[float]:
    """In-support share of the candidates of each seed."""
    return in_support_share(candidates, e.hyper.log_epsilon).tolist()


def _sha256(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
