"""A trained policy that is kept: one file, from which it acts without its data, in any process.

The file is safetensors: the numbers, and in its header one JSON text with what they belong to, the
boxes of states and actions, and where they come from. Nothing in it is executed (engine.objects).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from arq_core.algorithm.types import DataError, Policy
from arq_core.config.files import write_atomic
from arq_core.config.hyper import NEIGHBOURS
from arq_core.config.paths import given
from arq_core.datasets.boxes import Box, from_unit, unit
from arq_core.datasets.readers.saved import as_float32, read_saved
from arq_core.engine import objects
from arq_core.engine.streams import Streams
from arq_core.experiments.experiment import Experiment, train
from arq_core.results import provenance

FORMAT = 1  # raise it when a file of before can no longer be read
SUFFIX = ".arq"
HEADER = "arq"  # of the safetensors file
ROOMS = (
    "arq_core.algorithm",
    "arq_core.baselines",
    "arq_core.config.hyper",
    "arq_core.densities.conformal",
)
# states of the data on which a loaded policy must act as the kept one did, and by how much it may
# differ, in units of actions scaled to [-1, 1]: processors round differently
PROBES, PROBE_TOLERANCE, PROBE_SEED = 4, 1e-3, 0


@dataclass(frozen=True)
class KeptPolicy:
    """A policy of one seed that acts on numpy arrays, in the units of the data it learned from.

    `card` says what it is: method, task, data, settings, where and when it was trained. What it
    draws (candidates, noise) comes from `rng`, which `reset` starts again.
    """

    policy: Policy
    box: Box  # of the actions, as recorded
    state_dim: int
    card: dict[str, Any]
    device: torch.device = torch.device("cpu")
    rng: list[Streams] = field(default_factory=list)  # none before the first draw, else one

    def predict(self, observations: np.ndarray, seed: int | None = None) -> np.ndarray:
        """Actions [n, A] for observations [n, S], or [A] for one [S]; float32.

        With a seed the same observations get the same actions; without one the draws go on from
        those of the call before, as an episode wants it. DataError for observations of another
        size, that are not numbers, or not finite.
        """
        states = self._states(observations)
        if seed is not None:
            rng = Streams([seed], self.device)
        else:
            if not self.rng:
                self.rng.append(Streams([0], self.device))
            rng = self.rng[0]
        chosen = self.policy.act(states[None].to(self.device), rng)[0]
        actions = from_unit(chosen.cpu().numpy(), self.box)
        return actions[0] if np.ndim(observations) == 1 else actions

    def reset(self, n: int = 1, seed: int = 0) -> None:
        """Start n episodes: the draws begin again, and a policy with a memory forgets."""
        self.rng[:] = [Streams([seed], self.device)]
        self.policy.reset(n)

    def observe(self, rewards: np.ndarray) -> None:
        """Tell a policy that wants to know what its last actions earned, [n]; others ignore it."""
        if callable(hook := getattr(self.policy, "observe", None)):
            hook(torch.as_tensor(np.atleast_1d(rewards), dtype=torch.float32)[None])

    def save(self, path: str | Path) -> Path:
        """Write the file, as a whole or not at all."""
        path = given(path)
        path = path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
        said, tensors = objects.describe(self.policy)
        tensors = {k: v.cpu().contiguous().clone() for k, v in tensors.items()}
        header = dict(
            format=FORMAT,
            policy=said,
            box=[self.box.low, self.box.high],
            state_dim=self.state_dim,
            card=self.card,
            sha256=_hash(tensors),
        )
        text = json.dumps(header, sort_keys=True)
        write_atomic(path, safetensors.torch.save(tensors, metadata={HEADER: text}))
        return path

    def _states(self, observations: np.ndarray) -> Tensor:
        x = np.asarray(observations)
        if x.dtype.kind not in "fiu":
            raise DataError(
                f"observations: saw an array of {x.dtype}, expected numbers; convert it to float32."
            )
        if x.ndim not in (1, 2) or x.shape[-1] != self.state_dim or not x.size:
            raise DataError(
                f"observations: saw the shape {x.shape}, expected [{self.state_dim}] for one or "
                f"[n, {self.state_dim}] for n of them, as in the data of {self.card['task']}."
            )
        x = as_float32(np.atleast_2d(x))
        if not np.isfinite(x).all():
            raise DataError(
                f"observations: saw {int((~np.isfinite(x)).sum())} entries that are not finite as "
                "float32, expected numbers; look at the sensor or simulator that they come from."
            )
        return torch.from_numpy(x)


def policy(experiment: Experiment, method: str, seed: int | None = None) -> KeptPolicy:
    """The method's policy of one seed (None: the first), trained, or loaded where its steps are
    finished; on the processor.

    The box of its actions is that of the data. DataError for a seed that is not the experiment's.
    """
    e, seeds = experiment, experiment.seeds
    seed = seeds[0] if seed is None else seed
    if seed not in seeds:
        raise DataError(f"seed: saw {seed}, expected one of {', '.join(map(str, seeds))}.")
    trained, which = train(e, method), seeds.index(seed)
    try:
        said, tensors = objects.describe(trained.policy)
        own = objects.member(said, objects.to(tensors, "cpu"), which, len(seeds))
        acting = objects.rebuild(said, own, ROOMS)
    except objects.ObjectError as error:
        raise DataError(f"{method}: its policy cannot be kept: {error}") from error
    share, states = trained.in_support, e.dataset.transitions.states[:PROBES]
    probe = dict(states=states.tolist(), actions=_acts(acting, states).tolist())
    inside = None if share is None else float(share[which])
    card = dict(method=method, seed=seed, in_support=inside, **_card(e, method), probe=probe)
    bounds = e.dataset.bounds
    box = bounds if isinstance(bounds, Box) else unit(e.dataset.action_dim)
    return KeptPolicy(acting, box, e.dataset.state_dim, card)


def _card(e: Experiment, method: str) -> dict[str, Any]:
    """What a model card says of an experiment."""
    hyper = {k: v for k, v in vars(e.hyper).items() if k not in NEIGHBOURS.values()}
    if method in NEIGHBOURS:
        field = NEIGHBOURS[method]
        hyper = {field: dict(getattr(e.hyper, field)), "gamma": e.hyper.gamma}
    return dict(
        task=e.task.task,
        environment=e.task.environment,
        group=e.task.group,
        profile=e.profile,
        changes=e.changes,
        hyper={k: dict(v) if isinstance(v, Mapping) else v for k, v in hyper.items()},
        budget=vars(e.budget),
        dataset=dict(
            sha256=e.dataset.sha256,
            fidelity=e.dataset.fidelity,
            source=e.dataset.source,
            transitions=len(e.dataset.transitions.actions),
            notes=list(e.dataset.notes),
        ),
        **provenance.provenance(e.device),
    )


def load(path: str | Path, device: str = "cpu") -> KeptPolicy:
    """A kept policy. DataError for a file that is damaged, of another version, or that holds other
    things; nothing in it is executed."""
    path = given(path)
    header, tensors = _read(path)
    make = lambda where: objects.rebuild(header["policy"], objects.to(tensors, where), ROOMS)
    try:
        card = dict(header["card"])
        acting = make("cpu")
        box = Box(*(tuple(float(x) for x in side) for side in header["box"]))
        states, expected = (torch.tensor(card["probe"][k]) for k in ("states", "actions"))
        seen = _acts(acting, states)
        off = float((seen - expected).abs().max())
        acting = acting if torch.device(device).type == "cpu" else make(device)
        kept = KeptPolicy(acting, box, int(header["state_dim"]), card, torch.device(device))
    except (objects.ObjectError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"{path}: saw a policy that cannot be made here ({error}), expected one that this "
            f"version of arq_core wrote; {_other_version(header)}"
        ) from error
    if off > PROBE_TOLERANCE:
        raise DataError(
            f"{path}: saw actions that are {off:.3g} from those that it was kept with, expected at "
            f"most {PROBE_TOLERANCE}: the code that acts has changed; {_other_version(header)}"
        )
    return kept


def act_on_file(policy: str | Path, observations: str | Path, out: str | Path, seed: int) -> Path:
    """Write the actions of a kept policy for observations [n, S] in a file of numpy.save;
    DataError for one that cannot be read (pickled objects are not)."""
    target, buffer = given(out), io.BytesIO()
    x = read_saved(observations, "observations [n, S]")
    np.save(buffer, load(policy).predict(x, seed))
    write_atomic(target, buffer.getvalue())
    return target


def _other_version(header: dict) -> str:
    card = header.get("card")
    commit = card.get("commit") if isinstance(card, dict) else None
    return f"load it with the commit that wrote it ({commit or 'unknown'}), or train it again."


def _acts(acting: Policy, states: Tensor) -> Tensor:
    """What a policy does at some states [n, S], in [-1, 1]; on the processor."""
    acting.reset(len(states))
    acted = acting.act(states[None], Streams([PROBE_SEED]))[0]
    acting.reset(len(states))
    return acted


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """A file's header and tensors, checked."""
    expected = f"expected a policy that `save` wrote (a file *{SUFFIX})"
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(HEADER, "")
            tensors = {k: file.get_tensor(k) for k in file.keys()}
    except FileNotFoundError:
        raise DataError(f"{path}: saw no file, {expected}.") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{path}: saw a damaged file ({error}), {expected}.") from error
    try:
        header = json.loads(text)
        version = header["format"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise DataError(f"{path}: saw tensors without a description, {expected}.") from None
    if version != FORMAT:
        raise DataError(
            f"{path}: saw format {version}, expected {FORMAT}; load it with the version of "
            "arq_core that wrote it, or train it again."
        )
    if header.get("sha256") != _hash(tensors):
        raise DataError(
            f"{path}: saw tensors that are not those it was written with, {expected}; copy it "
            "again."
        )
    return header, tensors


def _hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}\n".encode())
        digest.update(x.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
