"""What a row leaves besides its scores: loss curves, seconds and values as CSV and as events of
TensorBoard, and how it would have scored at earlier steps.

All of it is read from the finished steps, so it can be asked for afterwards. Snapshots are removed
when all of them are scored, unless they are asked for; their scores stay. In FOLDER/<row>/:

    losses.csv      training, module, seed, copy, step, loss: a point a mean over steps before it
    seconds.csv     training, seconds: what each step of the row took, over all interruptions
    after.csv       seed, in_support, q_data, q_candidates: at the end, empty where there is none
    curve.json      `curve`
    seed-0/ ...     events of each seed, where tensorboard is installed
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from arq_core.config import settings
from arq_core.config.files import write_atomic
from arq_core.config.paths import given
from arq_core.engine.filestore import FileStore
from arq_core.engine.train import LOSS_EVERY, marks, snapshot
from arq_core.experiments.experiment import (
    Experiment,
    episodes,
    episodes_key,
    run_each_time,
    simulators,
)
from arq_core.experiments.methods import Trained
from arq_core.experiments.own_method import Fit, find_method
from arq_core.results import rows

LOSSES = ("training", "module", "seed", "copy", "step", "loss")
SECONDS = ("training", "seconds")
AFTER = ("seed", "in_support", "q_data", "q_candidates")


@dataclass(frozen=True)
class Loss:
    """A loss curve of a training: of one module, its R members' points in order of the steps."""

    training: str
    module: str  # "" where a training has one alone
    points: Float[Tensor, "R points"]


def write(
    e: Experiment, method: str | Fit, folder: str | Path, keep_snapshots: bool = False
) -> Path:
    """Write the log of a row into a folder of its own in `folder`, with `curve` where the
    experiment has snapshots; that folder. What is not finished yet is trained. Snapshots are
    removed once their scores are written, or kept."""
    name, fit = find_method(method)
    store = e.store()
    trained = fit(e.data_of(name), e.hyper, e.budget, e.rng, store)
    whole = rows.file_name(e.task.task, e.profile, name, e.hyper.variant)
    target = given(folder) / whole.removesuffix(".jsonl")
    losses, seconds = read(store.seconds)
    table = [
        (x.training, x.module, *_member(i, len(x.points), e.seeds), (k + 1) * LOSS_EVERY, value)
        for x in losses
        for i, curve in enumerate(x.points.tolist())
        for k, value in enumerate(curve)
    ]
    _csv(target / "losses.csv", LOSSES, table)
    _csv(target / "seconds.csv", SECONDS, seconds)
    said = [getattr(trained, what) for what in AFTER[1:]]
    said = [[None] * len(e.seeds) if x is None else x.tolist() for x in said]
    after = list(zip(e.seeds, *said, strict=True))
    _csv(target / "after.csv", AFTER, after)
    found = curve(e, method) if e.snapshots else None
    if found is not None:
        text = json.dumps(found, indent=1) + "\n"
        write_atomic(target / "curve.json", text.encode())
    _events(target, e.seeds, table, after, found)
    if found is not None and not keep_snapshots:
        remove_snapshots(store)
    return target


def remove_snapshots(store: FileStore) -> None:
    """Remove the snapshots of every training that this store has given or taken."""
    for path in store.seconds:
        before, _, after = path.name.rpartition("-")
        for found in store.folder.glob(f"{escape(before)}.at_*-{after}"):
            found.unlink(missing_ok=True)
            found.with_suffix(".json").unlink(missing_ok=True)


def read(files: Iterable[Path]) -> tuple[list[Loss], list[tuple[str, float]]]:
    """The loss curves of finished steps, and the seconds that each took, in the order of their
    files."""
    losses, seconds = [], []
    for path in files:
        with safetensors.safe_open(path, "pt") as file:
            name = file.metadata()["step"]
            for key in filter(_is_loss, file.keys()):
                module = key.removeprefix("loss").removeprefix(".")
                losses.append(Loss(name, module, file.get_tensor(key)))
            seconds.append((name, float(file.get_tensor("seconds"))))
    return losses, seconds


def _is_loss(tensor: str) -> bool:
    return tensor == "loss" or tensor.startswith("loss.")


def _member(i: int, members: int, seeds: Sequence[int]) -> tuple[int, int]:
    """(seed, which of its copies) of member i of a training; copies lie side by side."""
    copies = max(1, members // len(seeds))
    return seeds[i // copies], i % copies


def _csv(path: Path, columns: Sequence[str], table: Iterable[Sequence]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(table)
    write_atomic(path, text.getvalue().encode())


def _events(
    folder: Path, seeds: Sequence[int], losses: list, after: list, found: dict | None
) -> None:
    """The same as events of TensorBoard, a run a seed, in place of those of before."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        tqdm.write(
            f"{folder}: saw no package tensorboard, so there are CSV files alone; with "
            'pip install -c constraints.txt -e ".[log]" the same command writes events too.'
        )
        return
    for old in folder.glob("seed-*/events.out.tfevents.*"):  # those of other seeds too
        old.unlink()
    for e, seed in enumerate(seeds):
        with SummaryWriter(str(folder / f"seed-{seed}")) as writer:
            for training, module, of, copy, step, loss in losses:
                if of == seed:
                    tag = "/".join(["loss", training, *([module] if module else []), str(copy)])
                    writer.add_scalar(tag, loss, step, walltime=step)
            for what, value in zip(AFTER[1:], after[e][1:], strict=True):
                if value is not None:
                    writer.add_scalar(f"after/{what}", value, 0)
            for point in found["points"] if found else []:
                writer.add_scalar("curve/score", point["score_by_seed"][e], point["step"])


class LastTraining(FileStore):
    """A row's store that notes the last training that it gives or takes.

    Where that is `known`, it is found as it was after `stand_in` steps; with 0 it is not found, and
    trained again.
    """

    def __init__(self, of: FileStore, known: tuple[str, dict] | None = None, stand_in: int = 0):
        super().__init__(of.folder, of.snapshots)
        self.last: tuple[str, dict] | None = None
        self.replaced, self.stand_in = known and self.path(*known), stand_in

    def _is_replaced(self, name: str, key: dict) -> bool:
        return self.path(name, key) == self.replaced

    def load(self, name: str, key: dict) -> dict[str, Tensor] | None:
        """As of a store, but for the last training."""
        if self._is_replaced(name, key):
            return self._snapshot(name, key) if self.stand_in else None
        found = super().load(name, key)
        self._note_training(name, key, found)
        return found

    def _snapshot(self, name: str, key: dict) -> dict[str, Tensor]:
        found = super().load(snapshot(name, self.stand_in), key)
        if found is None:  # a training in its place would be scored as if it were the snapshot
            raise RuntimeError(
                f"{self.path(snapshot(name, self.stand_in), key)}: saw no snapshot any more, "
                "expected it until all are scored: another row of the same training removed it; "
                "run this one again."
            )
        return found

    def save(self, name: str, key: dict, tensors: dict[str, Tensor]) -> None:
        """As of a store; the end of the last training, once more, is compared with the first."""
        if not self._is_replaced(name, key):
            super().save(name, key, tensors)
            self._note_training(name, key, tensors)
        elif not _same(super().load(name, key), tensors):
            raise RuntimeError(
                f"{self.path(name, key)}: saw other weights after the same training once more, "
                "expected the same to the bit: the machine or torch is another one. Delete that "
                "file, and both are trained again."
            )

    def _note_training(self, name: str, key: dict, tensors: dict[str, Tensor] | None) -> None:
        # snapshots and checkpoints are of a training whose end is noted
        if (
            tensors
            and "seconds" in tensors
            and any(map(_is_loss, tensors))
            and "rng" not in tensors
        ):
            self.last = (name, key)


def _same(one: dict[str, Tensor] | None, other: dict[str, Tensor]) -> bool:
    """Whether two ends of a training are one, but for their seconds."""
    names = other.keys() - {"seconds"}
    return one is not None and all(torch.equal(one[k], other[k].detach().cpu()) for k in names)


def snapshots_of(store: FileStore, name: str, key: dict) -> list[int]:
    """The steps of the snapshots of a finished training that are wanted; [] where some are missing,
    or the last is not its end."""
    before, _, after = store.path(snapshot(name, 0), key).name.partition(".at_0-")
    found = [p.name for p in store.folder.glob(f"{before}.at_*-{after}")]
    steps = sorted(int(x.removeprefix(f"{before}.at_").split("-")[0]) for x in found)
    wanted = marks(steps[-1], store.snapshots) if steps else []
    done, end = store.load(name, key), store.load(snapshot(name, steps[-1]), key) if steps else None
    return wanted if end and done and set(wanted) <= {*steps} and _same(done, end) else []


def curve(e: Experiment, method: str | Fit) -> dict[str, Any]:
    """How a method scores at each of the experiment's snapshots of its last training, with the
    episodes of its row, and what choosing the best of them would report.

    The row is `last`. `best` is each seed's best evaluation, averaged over seeds, as robomimic's
    tables report it (Mandlekar et al. 2021); `best_minus_last` is what
    this rule adds. Choosing on noise is part of it: `chosen_on_other_episodes` chooses by the one
    half of a seed's episodes and scores by the other, both ways (None for one episode a seed).
    UnknownName for a method without a training, without a simulator, and without snapshots.
    """
    if e.snapshots < 1:
        raise settings.UnknownName(
            f"curve: saw {e.snapshots} snapshots, expected at least one; ask for them with "
            "--curve, or dataclasses.replace(setup, snapshots=10)."
        )
    if not e.task.environment:
        raise settings.UnknownName(
            f"curve: saw no simulator for {e.task.task}, expected one to score snapshots in; "
            "name it with --environment."
        )
    name, fit = find_method(method)
    store = LastTraining(e.store())
    end = fit(e.data_of(name), e.hyper, e.budget, e.rng, store)
    if store.last is None:
        raise settings.UnknownName(
            f"curve: saw no training of {name} that can be found again, expected one; a method of "
            "yours trains with arq_core.engine.train.train, and its store."
        )
    key = dict(training=store.last, snapshots=e.snapshots, episodes=episodes_key(e, name))
    known = None if run_each_time(e, name) else store.load("curve", key)
    if known is not None:
        steps, found = known["steps"].tolist(), known["scores"].numpy()
    else:
        steps, found = _scored(e, name, fit, store.last, end)
        store.save("curve", key, dict(steps=torch.tensor(steps), scores=torch.from_numpy(found)))
    said = dict(
        task=e.task.task,
        profile=e.profile,
        method=name,
        variant=e.hyper.variant,
        dataset_sha256=e.dataset.sha256,
        training=store.last[0],
        seeds=list(e.seeds),
        episodes_a_seed=found.shape[2],
    )
    points = [
        dict(step=k, score=float(x.mean()), score_by_seed=x.mean(1).tolist())
        for k, x in zip(steps, found, strict=True)
    ]
    return said | dict(points=points) | summary(found)


def _scored(
    e: Experiment, name: str, fit: Fit, last: tuple[str, dict], end: Trained
) -> tuple[list[int], Float[np.ndarray, "snapshots E episodes"]]:
    """The steps of the snapshots of the `last` training, and the scores of each one's episodes;
    where snapshots are missing, it is trained once more."""
    data, store = e.data_of(name), e.store()

    def trained(stand_in: int) -> Any:
        return fit(data, e.hyper, e.budget, e.rng, LastTraining(e.store(), last, stand_in))

    steps = snapshots_of(store, *last)
    if not steps:
        trained(0)
        steps = snapshots_of(store, *last)

    def scores(step: int) -> Float[np.ndarray, "E episodes"]:
        at = None if step == steps[-1] else step
        policy = end if at is None else trained(step)
        return e.task.score(episodes(e, name, policy, simulators(e, data), store, at)["return"])

    return steps, np.stack([scores(step) for step in steps])


def summary(scores: Float[np.ndarray, "snapshots E episodes"]) -> dict[str, float | None]:
    """What `curve` says of all scores: last, best, their difference, and the score on episodes that
    did not choose."""
    by_seed = scores.mean(2)
    last, best = by_seed[-1].mean(), by_seed.max(0).mean()
    one, other = scores[:, :, ::2], scores[:, :, 1::2]
    fresh = None
    if other.shape[2]:
        halves = [
            np.take_along_axis(y.mean(2), x.mean(2).argmax(0)[None], 0).mean()
            for x, y in ((one, other), (other, one))
        ]
        fresh = float(np.mean(halves))
    return dict(
        last=float(last),
        best=float(best),
        best_minus_last=float(best - last),
        chosen_on_other_episodes=fresh,
    )
