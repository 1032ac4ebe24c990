"""Policies as Stable-Baselines3 1.x saves them, read without running any code of theirs.

A zip of `data` (JSON), `policy.pth` (tensors) and more; and, where observations are normalised, a
pickled `VecNormalize`, of which the running mean and variance are taken. What is serialized in
`data` is never decoded.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from arq_core.algorithm.types import DataError
from arq_core.collectors.policies.acting import LOG_STD, clipped, squashed
from arq_core.datasets.readers.pickles import ARRAYS, RestrictedUnpickler, StoredArray
from arq_core.envs.locomotion import HORIZON

# bytes of a file, and of what a member of an archive holds; the published ones take 3.4 MB
MOST = 2**24
NEEDED = ("_stable_baselines3_version", "data", "policy.pth")
MEMBERS = {
    *NEEDED,
    "actor.optimizer.pth",
    "critic.optimizer.pth",
    "ent_coef_optimizer.pth",
    "policy.optimizer.pth",
    "pytorch_variables.pth",
    "system_info.txt",
}
VERSIONS = r"1\.\d{1,3}\.[\w.]{1,20}"
ACTIVATIONS = {
    "<class 'torch.nn.modules.activation.ReLU'>": torch.relu,
    "<class 'torch.nn.modules.activation.Tanh'>": torch.tanh,
}


@dataclass(frozen=True)
class Family:
    """How the policies of some algorithms are stored, and how they draw."""

    part: str  # what the names of the layers below begin with
    layers: tuple[str, str]
    mean: str
    log_std: str
    std_of_state: bool  # log_std is a layer; else one number for each action
    activation: Callable[[Tensor], Tensor]  # where `data` names none
    draw: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    normalised: bool


TANH = Family(
    "actor.",
    ("actor.latent_pi.0", "actor.latent_pi.2"),
    "actor.mu",
    "actor.log_std",
    True,
    torch.relu,
    squashed,
    False,
)
GAUSSIAN = Family(
    "mlp_extractor.policy_net.",
    ("mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"),
    "action_net",
    "log_std",
    False,
    torch.tanh,
    clipped,
    True,
)
FAMILIES = {"sac": TANH, "tqc": TANH, "a2c": GAUSSIAN, "ppo": GAUSSIAN, "trpo": GAUSSIAN}


@dataclass(frozen=True)
class Statistics:
    """Of observations: x -> (x - mean)/sqrt(var + epsilon), clipped to ±clip."""

    mean: Tensor  # [D], float64
    var: Tensor  # [D], float64
    clip: float
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        """The normalised x [n, D]."""
        return ((x - self.mean) / (self.var + self.epsilon).sqrt()).clamp(-self.clip, self.clip)


@dataclass(frozen=True)
class Policy:
    """A published policy; called as `acting.Act`."""

    family: Family
    activation: Callable[[Tensor], Tensor]
    layers: tuple[tuple[Tensor, Tensor], ...]  # (weight [out, in], bias [out]) of each
    mean: tuple[Tensor, Tensor]
    log_std: Tensor | tuple[Tensor, Tensor]  # [A], or a layer
    statistics: Statistics | None
    # the last input is the share of the episode that is left
    clock: bool
    noise: float = 0.0  # standard deviation that is added to the policy's own, in u

    def parameters(self, states: Tensor, t: int = 0) -> Tensor:
        """Mean and log standard deviation of u, [n, 2A], at states [n, S] after t steps."""
        x = states.double()
        if self.clock:
            x = torch.cat([x, x.new_full((len(x), 1), 1 - t / HORIZON)], 1)
        h = (self.statistics(x) if self.statistics else x).float()
        for layer in self.layers:
            h = self.activation(F.linear(h, *layer))
        mean = F.linear(h, *self.mean)
        log_std = (
            F.linear(h, *self.log_std).clamp(*LOG_STD)
            if isinstance(self.log_std, tuple)
            else self.log_std.expand_as(mean)
        )
        if self.noise:
            log_std = 0.5 * ((2 * log_std).exp() + self.noise**2).log()
        return torch.cat([mean, log_std], 1)

    def __call__(self, states: Tensor, noise: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Actions and log densities; see `squashed` and `clipped`."""
        return self.family.draw(self.parameters(states, t), noise)


def read_policy(
    path: Path, statistics: Path | None, algorithm: str, inputs: int, state_dim: int, actions: int
) -> Policy:
    """The policy of an archive, with the statistics of its observations.

    `inputs` is the width of its observations: the state's, or one more for the clock. DataError
    where a file is damaged, of another version, or holds other shapes or numbers not finite.
    """
    family = FAMILIES[algorithm]
    if inputs not in (state_dim, state_dim + 1):
        raise DataError(
            f"{path}: saw {inputs} inputs listed, expected {state_dim} (the state) or "
            f"{state_dim + 1} (and the clock); repair the list."
        )
    if (statistics is not None) != family.normalised:
        raise DataError(
            f"{path}: saw {'statistics' if statistics else 'no statistics'} of observations, "
            f"expected {'some' if family.normalised else 'none'} for {algorithm}; repair the list."
        )
    with _told(path, "a policy that Stable-Baselines3 1.x saved"):
        members = _members(path)
        activation = _activation(members["data"], family, path)
        stored = _tensors(members["policy.pth"], path)
        take = _Taking(stored, path)
        width = take.rows(f"{family.layers[0]}.weight")
        layers = (
            take.layer(family.layers[0], width, inputs),
            take.layer(family.layers[1], width, width),
        )
        mean = take.layer(family.mean, actions, width)
        log_std = (
            take.layer(family.log_std, actions, width)
            if family.std_of_state
            else take(family.log_std, (actions,))
        )
        if more := sorted(k for k in stored.keys() - take.taken if k.startswith(family.part)):
            raise DataError(
                f"{path}: saw the tensor {more[0][:60]!r} too, expected two layers and what "
                "follows them; this reader does not know the network."
            )
    normalise = read_statistics(statistics, inputs) if statistics else None
    return Policy(family, activation, layers, mean, log_std, normalise, inputs > state_dim)


@contextmanager
def _told(path: Path, expected: str) -> Iterator[None]:
    """Whatever a damaged file raises becomes one DataError that names it."""
    try:
        yield
    except DataError as error:
        if str(error).startswith(str(path)):
            raise
        raise DataError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: saw no such file, expected {expected}; fetch it.") from error
    except Exception as error:  # a damaged archive can raise anything
        raise DataError(
            f"{path}: saw a file that cannot be read ({type(error).__name__}: {str(error)[:200]}), "
            f"expected {expected}; get the file again."
        ) from error


def _fits(size: int, what: str) -> None:
    if size > MOST:
        raise DataError(
            f"{what}: saw {size:,} bytes, expected at most {MOST:,}; get the file from its "
            "publisher."
        )


def _members(path: Path) -> dict[str, bytes]:
    """The members that are needed, after a look at all names and sizes; nothing is unpacked."""
    _fits(path.stat().st_size, str(path))
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist()]
        wrong = [name for name in names if name not in MEMBERS or names.count(name) > 1]
        missing = [name for name in NEEDED if name not in names]
        if wrong or missing:
            raise DataError(
                f"{path}: saw {', '.join(map(repr, (wrong or names)[:3]))}"
                f"{' and no ' + missing[0] if missing else ''}, expected {', '.join(NEEDED)} and "
                "optimizers, once each; get the file from its publisher."
            )
        for name in NEEDED:
            _fits(archive.getinfo(name).file_size, f"{path}: {name}")
        members = {name: archive.read(name) for name in NEEDED}
    version = members["_stable_baselines3_version"].decode().strip()
    if not re.fullmatch(VERSIONS, version, re.ASCII):
        raise DataError(
            f"{path}: saw version {version[:20]!r} of Stable-Baselines3, expected 1.x; get the "
            "file that the list names."
        )
    return members


def _activation(data: bytes, family: Family, path: Path) -> Callable[[Tensor], Tensor]:
    """The one that `data` names, as text, or the family's."""
    said: Any = json.loads(data)
    chosen = said.get("policy_kwargs") if isinstance(said, dict) else None
    if not isinstance(chosen, dict) or said.get("use_sde") or chosen.get("use_sde"):
        raise DataError(
            f"{path}: data: saw {'noise that depends on the state' if chosen else 'no settings'}, "
            "expected policy_kwargs of a policy with independent noise; get the file from its "
            "publisher."
        )
    name = chosen.get("activation_fn")
    if name is not None and name not in ACTIVATIONS:
        raise DataError(
            f"{path}: data: saw the activation {str(name)[:80]!r}, expected ReLU or Tanh; this "
            "reader does not know the network."
        )
    return ACTIVATIONS[name] if name else family.activation


def _tensors(data: bytes, path: Path) -> dict[str, Any]:
    """What `policy.pth` holds by name, after a look at the sizes inside."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _fits(sum(info.file_size for info in archive.infolist()), f"{path}: policy.pth")
    stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(stored, dict) or not all(isinstance(k, str) for k in stored):
        raise DataError(
            f"{path}: policy.pth: saw {type(stored).__name__}, expected tensors by name; get the "
            "file again."
        )
    return stored


class _Taking:
    """Tensors by name, each checked as it is taken."""

    def __init__(self, stored: dict[str, Any], path: Path):
        self.stored, self.path, self.taken = stored, path, set()

    def rows(self, name: str) -> int:
        """Length of a weight's first axis."""
        return self._tensor(name).shape[0] if self._tensor(name).ndim else 0

    def layer(self, name: str, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
        return self(f"{name}.weight", (outputs, inputs)), self(f"{name}.bias", (outputs,))

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        x = self._tensor(name)
        if tuple(x.shape) != shape or x.dtype is not torch.float32 or not x.numel():
            raise DataError(
                f"{self.path}: {name}: saw {x.dtype} of shape {tuple(x.shape)}, expected "
                f"torch.float32 of shape {shape}; get the file of this simulator and algorithm."
            )
        if not torch.isfinite(x).all():
            raise DataError(
                f"{self.path}: {name}: saw {int((~torch.isfinite(x)).sum())} numbers that are not "
                "finite, expected none; get the file again."
            )
        self.taken.add(name)
        return x.detach().clone().contiguous()

    def _tensor(self, name: str) -> Tensor:
        x = self.stored.get(name)
        if not isinstance(x, Tensor) or x.layout is not torch.strided or x.is_meta:
            raise DataError(
                f"{self.path}: policy.pth: saw no tensor {name!r} among {len(self.stored)}, "
                "expected it; get the file of this algorithm."
            )
        return x


class Record:
    """An object of a class that is not there: its fields by name, none of its behaviour."""

    def __init__(self, *arguments):
        self.fields = {}

    def __setstate__(self, state):
        if not isinstance(state, dict):
            raise ValueError(f"a state of type {type(state).__name__}")
        self.fields = state


def _new_record(unpickler):
    """Instead of pickle's: nothing but a Record is made anew."""
    arguments, kind = unpickler.stack.pop(), unpickler.stack.pop()
    if kind is not Record or arguments:
        raise ValueError(f"a new {kind!r:.60}")
    unpickler.append(Record())


class NormaliserUnpickler(RestrictedUnpickler):
    """As its parent; the classes that a VecNormalize names become Records."""

    expected: ClassVar[str] = "the statistics of a VecNormalize, and no other class"
    allowed: ClassVar[dict[tuple[str, str], Any]] = ARRAYS | dict.fromkeys(
        (
            ("stable_baselines3.common.vec_env.vec_normalize", "VecNormalize"),
            ("stable_baselines3.common.running_mean_std", "RunningMeanStd"),
            ("gym.spaces.box", "Box"),
            ("numpy.random._pickle", "__randomstate_ctor"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "scalar"),
        ),
        Record,
    )
    dispatch = RestrictedUnpickler.dispatch | {0x81: _new_record}  # NEWOBJ


def read_statistics(path: Path, inputs: int) -> Statistics:
    """Those of the observations in a pickled VecNormalize, of so many numbers. DataError as
    `read_policy`.
    """
    with _told(path, "a pickled VecNormalize"):
        _fits(path.stat().st_size, str(path))
        fields = _fields(NormaliserUnpickler(io.BytesIO(path.read_bytes())).load(), path)
        if fields.get("norm_obs") is not True:
            raise DataError(
                f"{path}: saw norm_obs {fields.get('norm_obs')!r:.60}, expected True; get the file "
                "of this policy."
            )
        moments = _fields(fields.get("obs_rms"), path)
        mean, var = (_numbers(moments.get(name), name, inputs, path) for name in ("mean", "var"))
        clip, epsilon = (fields.get(name) for name in ("clip_obs", "epsilon"))
        if var.min() < 0 or not all(
            isinstance(x, float) and 0 < x < np.inf for x in (clip, epsilon)
        ):
            raise DataError(
                f"{path}: saw a variance of {var.min():.3g}, clip_obs {clip!r:.60} and epsilon "
                f"{epsilon!r:.60}, expected a variance of 0 or more and positive numbers; get the "
                "file again."
            )
        return Statistics(torch.tensor(mean), torch.tensor(var), clip, epsilon)


def _fields(record: object, path: Path) -> dict[str, Any]:
    if not isinstance(record, Record):
        raise DataError(
            f"{path}: saw {type(record).__name__}, expected an object with the statistics of "
            "observations; get the file again."
        )
    return record.fields


def _numbers(stored: object, name: str, inputs: int, path: Path) -> np.ndarray:
    x = stored.values if isinstance(stored, StoredArray) else None
    if x is None or x.shape != (inputs,) or not np.isfinite(x).all():
        seen = "no numbers" if x is None else f"shape {x.shape}"
        raise DataError(
            f"{path}: obs_rms.{name}: saw {seen}{' or some not finite' if x is not None else ''}, "
            f"expected {inputs} finite numbers; get the file of this policy."
        )
    return x.astype(np.float64)
