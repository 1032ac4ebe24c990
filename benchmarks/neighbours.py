"""Do the neighbours compute what another implementation computes? Losses and gradients of one step,
ours and d3rlpy's, at the same weights, on the same batch, by the same draws.

    python benchmarks/neighbours.py [METHOD ...]
    python benchmarks/neighbours.py --speed [METHOD ...]      (nothing else should be running)

METHOD is one of CASES (default: all). Ours is the training itself: `fit_*` goes on from a
checkpoint with random weights, for one step at a learning rate of 0, and the checkpoint after it
has the sums of the losses and Adam's first moments, a tenth of the gradients. d3rlpy's is
neighbours_peer.py in .venv-bench (make .venv-bench/.installed), which says what was switched off
there. float32, two seeds, networks of the authors' sizes, one random batch of at most BATCH. Prints
and writes
data/benchmarks/neighbours.json. A difference is relative: of a loss to d3rlpy's, of a gradient to
the largest entry of its tensor. d3rlpy runs a second time in float64, since a sum that cancels
(CQL's gap) has a rounding of its own: a gradient agrees that is within LIMIT of either; `nearest`
is the largest difference to the nearer one. Fails where something does not agree.

--speed measures a step of ours, three seeds as one batch, beside d3rlpy's, one seed after another,
in turns in one run: two threads, the authors' batch and widths, draws of the batch included. It
writes `speed` into the same file.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from arq_core.algorithm.types import Transitions
from arq_core.baselines.neighbours import EDGE
from arq_core.config import settings
from arq_core.config.files import write_atomic
from arq_core.config.hyper import NEIGHBOURS
from arq_core.config.paths import DATA, root
from arq_core.engine import machine, train
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.experiments.methods import FITS
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/neighbours.json"
HERE = Path(__file__).resolve().parent
PEER_PYTHON = root() / ".venv-bench" / "bin" / "python"
LIMIT = 1e-5
SEEDS, STATE_DIM, ACTION_DIM = (0, 1), 11, 3
BATCH, EPISODES, LENGTH = 256, 100, 10
MOVED = 0.02  # standard deviation of what is added to initial weights, so that all of them count
GROUP = "locomotion"  # its settings
ROUNDS, THREADS = 9, 2  # of --speed
RATES = ("lr", "policy_lr", "q_lr", "actor_lr", "critic_lr")


@dataclass(frozen=True)
class Case:
    """A method, what of its settings is changed, the names of what a step draws after its batch, in
    their order, and how many steps were taken before it (1 where the actor moves at every second
    one)."""

    method: str
    draws: tuple[str, ...]
    changes: dict = field(default_factory=dict)
    taken: int = 0
    shift: dict = field(default_factory=dict)  # added to weights, by the beginnings of their names
    units: str = "relu"  # of UNITS: in the place of ReLU, in both


UNITS = {"relu": F.relu, "swish": F.silu}
OF_CQL = ("now", "target", "box", "of_pi", "of_next_pi")
PLAIN_CQL = dict(cloning=0.0, max_backup=0, alpha=0.3)
CASES = {
    "iql": Case("iql", (), dict(dropout=0.0)),
    "td3+bc": Case("td3+bc", ("target",), dict(states="as recorded"), taken=1),
    "awac": Case("awac", ("target", "baseline"), shift={"actor.log_std": -2.5}),
    "bcq": Case("bcq", ("encoder", "target", "actor"), dict(form="original", prior="normal")),
    "cql": Case("cql", OF_CQL, PLAIN_CQL | dict(threshold=-1.0), units="swish"),
    "cql-lagrange": Case("cql", OF_CQL, PLAIN_CQL | dict(threshold=5.0), units="swish"),
    "rebrac": Case("rebrac", ("target",), taken=1),
}


class Watched(Streams):
    """Streams that remember what they drew since a checkpoint was read: those of a training."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu", log=None):
        super().__init__(seeds, device)
        self.log: list[Tensor] = [] if log is None else log

    def fork(self, *path: object, copies: int = 1) -> Streams:
        """Others, with the same memory."""
        return Watched(super().fork(*path, copies=copies).seeds, self.device, self.log)

    def _draw(self, sampler, *args, **kw) -> Tensor:
        drawn = super()._draw(sampler, *args, **kw)
        self.log.append(drawn)
        return drawn

    def restore(self, state: Tensor) -> None:
        """Go on from here, whatever the state: only what comes now is of interest."""
        self.log.clear()


class Start(dict):
    """A checkpoint after some steps: these weights, and zeros for everything else."""

    def __missing__(self, name: str) -> Tensor:
        return torch.zeros((0, 0) if name.startswith("loss") else ())


class Checkpoints(NoStore):
    """A store whose trainings go on from `start` (None: begin), and which keeps the last checkpoint
    and the finished step."""

    def __init__(self, start: dict[str, Tensor] | None = None):
        self.start, self.partial, self.done = start, {}, {}

    def load(self, name: str, key: dict) -> dict[str, Tensor] | None:
        """The start of a training that is under way."""
        return self.start if name.endswith(".partial") else None

    def save(self, name: str, key: dict, tensors: dict[str, Tensor]) -> None:
        """Copies."""
        kept = {k: v.clone() for k, v in tensors.items()}
        self.partial, self.done = (kept, self.done) if "partial" in name else (self.partial, kept)


def episodes(seed: int = 0) -> Transitions:
    """Random ones, half of which end in a terminal, the others by a time limit."""
    g, m = torch.Generator().manual_seed(seed), EPISODES * LENGTH
    episode = torch.arange(m) // LENGTH
    state, last = torch.arange(m) + episode, torch.arange(m) % LENGTH == LENGTH - 1
    return Transitions(
        torch.randn(m + EPISODES, STATE_DIM, generator=g),
        state,
        state + 1,
        torch.rand(m, ACTION_DIM, generator=g) * 1.9 - 0.95,
        torch.randn(m, generator=g),
        last & (episode % 2 == 0),
        episode,
    )


def settings_of(case: Case) -> dict:
    """The authors', with the case's changes."""
    return dict(getattr(settings.hyper(GROUP), NEIGHBOURS[case.method])) | case.changes


def train_by(case: Case, own: dict, data: Transitions, steps: int, rng: Streams, store) -> None:
    """The training of a method with these settings."""
    name = NEIGHBOURS[case.method]
    hyper = replace(settings.hyper(GROUP), **{name: own})
    how = {f"{name}_steps": steps, "precision": "float32"}
    FITS[case.method](data, hyper, replace(settings.budget("toy", GROUP), **how), rng, store)


def start_of(case: Case, own: dict, data: Transitions) -> dict[str, Tensor]:
    """Random weights for every module of a method, targets too: its initial ones, moved."""
    first, g = Checkpoints(), torch.Generator().manual_seed(1)
    train_by(case, own, data, 0, Streams(SEEDS), first)
    found = {}
    for name, x in first.done.items():
        if name.startswith("loss") or name == "seconds":
            continue
        found[name] = x + MOVED * torch.randn(x.shape, generator=g)
        for prefix, shift in case.shift.items():
            found[name] += shift if name.startswith(prefix) else 0.0
    return found


@dataclass(frozen=True)
class Step:
    """What one step of ours computed: losses [E] of each part, of twins the sum; gradients under
    the names of the weights; and what it drew, its batch's rows first."""

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    draws: list[Tensor]


def one_step(case: Case, own: dict, data: Transitions, weights: dict[str, Tensor]) -> Step:
    """One step of the training at a learning rate of 0, from these weights."""
    still = own | {name: 0.0 for name in RATES if name in own} | dict(polyak=1.0)
    start = Start(weights, step=torch.tensor(case.taken))
    store, rng = Checkpoints(start), Watched(SEEDS)
    units = UNITS[case.units]
    with patch.object(train, "CHECKPOINT_SECONDS", 0.0), patch.object(F, "relu", units):
        train_by(case, still, data, case.taken + 1, rng, store)
    after = store.partial
    if moved := [k for k, v in weights.items() if not torch.equal(v, after[k])]:
        raise RuntimeError(f"{case.method}: saw {', '.join(moved)} move at a learning rate of 0.")
    parts = [k.partition(".")[2] for k in after if k.startswith("window")]
    names = [k for part in parts for k in weights if k.startswith(part + ".")]
    losses = {p: after[f"window.{p}"].view(len(SEEDS), -1).sum(1) for p in parts}
    gradients = {k: 10 * after[f"adam.{i}.exp_avg"] for i, k in enumerate(names)}
    return Step(losses, gradients, list(rng.log))


def batch_of(case: Case, data: Transitions, m: Tensor) -> dict[str, Tensor]:
    """The rows m [E, B] that a step drew, as the method sees them."""
    rows = torch.arange(len(data.actions))
    if case.method == "rebrac":  # whose a' is recorded, or not asked for
        rows = rows[(data.next_transition >= 0) | data.terminals]
    m, edge = rows[m], EDGE if case.method in ("iql", "awac", "cql") else 0.0
    return dict(
        states=data.states[data.state[m]],
        actions=data.actions[m].clamp(-1 + edge, 1 - edge),
        rewards=data.rewards[m],
        going_on=(~data.terminals[m]).float(),
        next_states=data.states[data.next_state[m]],
        next_actions=data.actions[data.next_transition.clamp(min=0)[m]],
    )


def theirs(case: Case, own: dict, given: dict[str, Tensor], dtype: str) -> tuple[dict, dict]:
    """What d3rlpy finds at the same place, and what the peer says of itself."""
    if not PEER_PYTHON.exists():
        raise SystemExit(
            f"{PEER_PYTHON}: not there, expected d3rlpy's; `make .venv-bench/.installed`."
        )
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{name}.safetensors") for name in ("given", "found")]
        given = {k: v.contiguous() for k, v in given.items()}
        save_file(given, files[0], metadata=dict(settings=json.dumps(own)))
        command = [str(PEER_PYTHON), str(HERE / "neighbours_peer.py"), case.method, dtype, *files]
        alone = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        run = subprocess.run(command, env=alone, capture_output=True)
        if run.returncode:
            raise RuntimeError(f"{case.method}: d3rlpy's side failed.\n{run.stderr.decode()}")
        with safe_open(files[1], "pt") as file:
            about = {k: json.loads(v) for k, v in file.metadata().items()}
        return load_file(files[1]), about


def difference(ours: Tensor, other: Tensor) -> float:
    """The largest over the rows (members), each relative to its own largest entry."""
    ours, other = (x.double().reshape(len(x), -1) for x in (ours, other))
    return float(((ours - other).abs().amax(1) / other.abs().amax(1)).max())


def compared(case: Case) -> tuple[dict, dict]:
    """The line of a case, and the peer's versions."""
    own, data = settings_of(case), episodes()
    own["batch"] = min(BATCH, own["batch"])
    weights = start_of(case, own, data)
    step = one_step(case, own, data, weights)
    rows, *draws = step.draws
    given = {f"weights.{k}": v for k, v in weights.items()}
    given |= {f"draw.{k}": v for k, v in zip(case.draws, draws, strict=True)}
    given |= {f"batch.{k}": v for k, v in batch_of(case, data, rows).items()}
    own.setdefault("gamma", settings.hyper(GROUP).gamma)
    own["units"] = case.units
    found, about = theirs(case, own, given, "float32")
    exact, _ = theirs(case, own, given, "float64")
    parts = {part: part_of(part, step, found, exact) for part in step.losses}
    largest = max(max(p["loss_difference"], p["nearest"]) for p in parts.values())
    line = dict(method=case.method, largest=largest, parts=parts, switched=about["switched"])
    return line | dict(settings=own), about["versions"]


def part_of(part: str, step: Step, found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict:
    """The numbers of a part of a step: d3rlpy's `found` in float32, `exact` in float64."""
    loss, other = step.losses[part], found[f"loss.{part}"]
    tensors = {}
    for name, ours in step.gradients.items():
        if name.startswith(part + "."):
            single, double = (x[f"gradient.{name}"] for x in (found, exact))
            tensors[name] = dict(
                gradient_difference=difference(ours, single),
                gradient_difference_float64=difference(ours, double),
                rounding_theirs=difference(single, double),
            )
    worst = max(tensors, key=lambda name: tensors[name]["gradient_difference"])
    return dict(
        loss_ours=loss.tolist(),
        loss_theirs=other.tolist(),
        loss_difference=difference(loss, other),
        tensors=len(tensors),
        tensor=worst,
        **tensors[worst],
        nearest=max(
            min(t["gradient_difference"], t["gradient_difference_float64"])
            for t in tensors.values()
        ),
    )


def kept() -> dict:
    """The file, where there is one."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def write(found: dict) -> None:
    """The file anew."""
    FILE.parent.mkdir(exist_ok=True)
    write_atomic(FILE, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())


def fidelity(names: Sequence[str]) -> None:
    """Compare them, and write them down."""
    lines, versions = dict(kept().get("lines", {})), {}
    for name in names:
        lines[name], versions = compared(CASES[name])
        for part, p in lines[name]["parts"].items():
            print(
                f"{name:14s} {part:12s} loss {p['loss_ours'][0]:12.6g} "
                f"{p['loss_theirs'][0]:12.6g}  differs by {p['loss_difference']:.1e}, "
                f"gradients by {p['gradient_difference']:.1e} ({p['tensor']})",
                flush=True,
            )
    lines = {name: lines[name] for name in CASES if name in lines}
    about = dict(limit=LIMIT, dtype="float32", seeds=list(SEEDS), peer_versions=versions)
    about |= dict(largest=max(line["largest"] for line in lines.values()), **provenance(own=FILE))
    write(about | dict(lines=lines) | {k: v for k, v in kept().items() if k == "speed"})
    if above := [name for name in names if lines[name]["largest"] > LIMIT]:
        raise SystemExit(f"differ by more than {LIMIT:g}: {', '.join(above)}")


def speed(names: Sequence[str]) -> None:
    """Time them, and write it down."""
    from speed import compare  # it compiles our loops, and is of no use to the comparison

    found = dict(kept())
    lines = dict(found.get("speed", {}).get("lines", {}))
    for name in names:
        own = settings_of(CASES[name])
        own.setdefault("gamma", settings.hyper(GROUP).gamma)
        sizes = dict(state_dim=STATE_DIM, action_dim=ACTION_DIM, threads=THREADS)
        common = sizes | dict(method=CASES[name].method, own=own)
        lines[name] = compare(
            f"{name}, batch {own['batch']:.0f}",
            "seed and step",
            {
                "ours, 3 seeds at once": ("ours.neighbour_step", common | dict(seeds=3), 3),
                "d3rlpy": ("peers.neighbour", common, 1),
                # the arithmetic of the profiles, where the processor has it
                "ours in bfloat16": (
                    "ours.neighbour_step",
                    common | dict(seeds=3, precision=machine.fast_precision("bfloat16", "cpu")),
                    3,
                ),
            },
            rounds=ROUNDS,
            together=True,
        )
        write(found | dict(speed=provenance(own=FILE) | dict(threads=THREADS, lines=lines)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", metavar="METHOD")
    parser.add_argument("--speed", action="store_true", help="time them instead")
    given = parser.parse_args()
    if unknown := [name for name in given.methods if name not in CASES]:
        raise SystemExit(f"saw {', '.join(unknown)}, expected of {', '.join(CASES)}.")
    (speed if given.speed else fidelity)(given.methods or list(CASES))


if __name__ == "__main__":
    main()
