"""Episodes into one HDF5 file in the layout of D4RL or of robomimic, part by part, so that a long
collection can be stopped and goes on.

No compression and no time stamps: the same recipe gives the same bytes, and so the same SHA-256, on
the same simulator; where a network acts, on processors that round its products alike. Elsewhere an
episode soon leaves the other's: the set is another one of the same kind, as its hash says.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save
from tqdm import tqdm

from arq_core.algorithm.types import DataError
from arq_core.config.files import replacing, sha256_of
from arq_core.config.lock import in_turn
from arq_core.config.paths import cache_folder

LIBVER = ("earliest", "v110")  # of HDF5: readable by the oldest libraries in use
LAYOUT_RECIPE = 1  # raise it when the same episodes would be written as other bytes
PER_STEP = ("actions", "rewards")

# observations [T+1 S] (the last is what the last step returned), actions [T A], rewards [T],
# terminal (the decision process ended at the last step; a time limit is no terminal); optionally
# arrays [T ...] named "infos/..." (robomimic: "states", "dones"), and attrs (robomimic: a dict of
# the demonstration's attributes; its entry "masks" names the filter keys that it belongs to).
Episode = Mapping[str, object]


@dataclass(frozen=True)
class Recipe:
    """How one dataset is collected.

    `part(i)` depends on nothing but `key` and i, so that parts can be made in any order, once each.
    """

    name: str
    layout: str  # "d4rl" or "robomimic"
    parts: int
    # all that the steps depend on: recipe number, seed, versions, hashes of weights
    key: Mapping
    part: Callable[[int], Sequence[Episode]]
    # texts, in the file too: how, behaviour, licence, differences from the official set
    card: Mapping[str, str]
    # env_args (a dict), observation_keys {name: width} in the order of S
    robomimic: Mapping = field(default_factory=dict)

    def __post_init__(self):
        if self.layout not in LAYOUTS or self.parts < 1:
            raise DataError(
                f"{self.name}: saw layout {self.layout!r} and {self.parts} parts, expected "
                f"one of {', '.join(LAYOUTS)} and at least one part."
            )

    @cached_property
    def digest(self) -> str:
        said = dict(
            name=self.name,
            layout=self.layout,
            parts=self.parts,
            key=dict(self.key),
            card=dict(self.card),
            layout_recipe=LAYOUT_RECIPE,
        )
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        return cache_folder() / "collected" / f"{self.name}-{self.digest}.hdf5"


def record(recipe: Recipe) -> Path:
    """The file of a recipe: from the cache where it is whole and unchanged, else collected. Beside
    it lies its data card (.json).

    Finished parts are kept until the file is whole. Two processes that want the same file: one
    waits for the other's, and says so.
    """
    path = recipe.path
    with in_turn(path.with_suffix(".lock"), f"{path.stem}: another process collects it"):
        if _is_whole(recipe):
            return path
        folder = path.with_suffix(".parts")
        for i in tqdm(range(recipe.parts), desc=f"collect {recipe.name}", unit="part"):
            if not _part_is_whole(folder / f"{i:05d}.safetensors"):
                _write_part(folder / f"{i:05d}.safetensors", recipe, i)
        with replacing(path) as target:
            statistics = LAYOUTS[recipe.layout](target, recipe, folder)
            card = dict(
                name=recipe.name,
                layout=recipe.layout,
                sha256=sha256_of(target),
                bytes=target.stat().st_size,
                **statistics,
                card=dict(recipe.card),
                key=dict(recipe.key),
            )
        with replacing(path.with_suffix(".json")) as part:
            part.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        shutil.rmtree(folder)
    return path


def data_card(recipe: Recipe) -> dict:
    """What the card beside the recorded file says: hash, counts, statistics of returns, texts."""
    return json.loads(record(recipe).with_suffix(".json").read_text(encoding="utf-8"))


def _is_whole(recipe: Recipe) -> bool:
    path, card = recipe.path, recipe.path.with_suffix(".json")
    if not (path.is_file() and card.is_file()):
        return False
    expected = json.loads(card.read_text(encoding="utf-8"))["sha256"]
    if (seen := sha256_of(path)) != expected:
        raise DataError(
            f"{path}: saw SHA-256 {seen}, expected {expected}, as when it was recorded; "
            "delete the file, and it is collected again."
        )
    return True


def _part_is_whole(path: Path) -> bool:
    try:
        with safe_open(path, "np") as part:
            return "attrs" in part.metadata()
    except (FileNotFoundError, SafetensorError):
        return False


def _write_part(path: Path, recipe: Recipe, i: int) -> None:
    episodes = [
        _checked(e, f"{recipe.name}, part {i}, episode {j}") for j, e in enumerate(recipe.part(i))
    ]
    if not episodes:
        raise DataError(
            f"{recipe.name}, part {i}: saw no episode, expected at least one; use fewer parts."
        )
    names = [k for k, v in episodes[0].items() if isinstance(v, np.ndarray)]
    tensors = {
        name: np.ascontiguousarray(np.concatenate([e[name] for e in episodes])) for name in names
    }
    tensors["length"] = np.array([len(e["actions"]) for e in episodes])
    tensors["terminal"] = np.array([bool(e["terminal"]) for e in episodes])
    attrs = json.dumps([e.get("attrs", {}) for e in episodes])
    with replacing(path) as target:
        target.write_bytes(save(tensors, metadata=dict(attrs=attrs)))


def _checked(episode: Episode, where: str) -> dict:
    """The episode with its numbers as float32, after a look at lengths and values.

    Other arrays (infos, states) keep their type.
    """
    steps, out = len(episode["actions"]), dict(episode)
    for name in ("observations", *PER_STEP):
        out[name] = np.asarray(episode[name], np.float32)
        if not np.isfinite(out[name]).all():
            raise DataError(
                f"{where}: field {name!r}: saw numbers that are not finite, expected finite "
                "ones; the simulator has diverged."
            )
    for name, x in out.items():
        if isinstance(x, np.ndarray) and len(x) != (expected := steps + (name == "observations")):
            raise DataError(
                f"{where}: field {name!r}: saw {len(x)} rows, expected {expected} for "
                f"{steps} actions."
            )
    if not steps:
        raise DataError(f"{where}: saw no step, expected at least one.")
    return out


@dataclass(frozen=True)
class _Part:
    arrays: dict[str, np.ndarray]
    attrs: list[dict]

    def episodes(self) -> Iterator[tuple[dict[str, np.ndarray], bool, dict]]:
        """(arrays by name, terminal, attrs) of each episode."""
        steps = np.concatenate([[0], self.arrays["length"].cumsum()])
        for j, (attrs, terminal) in enumerate(
            zip(self.attrs, self.arrays["terminal"], strict=True)
        ):
            whole = slice(steps[j], steps[j + 1])
            # one observation more than steps in each episode before
            seen = slice(steps[j] + j, steps[j + 1] + j + 1)
            yield (
                {
                    k: v[seen if k == "observations" else whole]
                    for k, v in self.arrays.items()
                    if k not in ("length", "terminal")
                },
                bool(terminal),
                attrs,
            )


def _parts(folder: Path, count: int) -> Iterator[_Part]:
    for i in range(count):
        path = folder / f"{i:05d}.safetensors"
        with safe_open(path, "np") as part:
            attrs = json.loads(part.metadata()["attrs"])
        yield _Part(load_file(path), attrs)


def _statistics(returns: Sequence[float], lengths: Sequence[int], terminals: int) -> dict:
    r, t = np.array(returns), np.array(lengths)
    return dict(
        transitions=int(t.sum()),
        episodes=len(t),
        terminals=terminals,
        timeouts=len(t) - terminals,
        returns=dict(
            mean=float(r.mean()), std=float(r.std()), min=float(r.min()), max=float(r.max())
        ),
        lengths=dict(mean=float(t.mean()), min=int(t.min()), max=int(t.max())),
    )


def _write_d4rl(target: Path, recipe: Recipe, folder: Path) -> dict:
    """D4RL's layout: flat arrays, a row per step; timeouts is true at the last step of an episode
    that was cut, terminals where it ended.
    """
    total = sum(int(p.arrays["length"].sum()) for p in _parts(folder, recipe.parts))
    returns, lengths, terminals, at = [], [], 0, 0
    with h5py.File(target, "w", libver=LIBVER) as file:
        for part in _parts(folder, recipe.parts):
            rows = _flat(part.arrays)
            steps = len(rows["actions"])
            for name, x in rows.items():
                if name not in file:
                    file.create_dataset(name, (total, *x.shape[1:]), x.dtype)
                file[name][at : at + steps] = x
            starts = np.concatenate([[0], part.arrays["length"].cumsum()[:-1]])
            returns += np.add.reduceat(rows["rewards"].astype(np.float64), starts).tolist()
            lengths += part.arrays["length"].tolist()
            terminals, at = terminals + int(part.arrays["terminal"].sum()), at + steps
        for name, text in (
            ("name", recipe.name),
            ("recipe", json.dumps(dict(recipe.key), sort_keys=True)),
            *recipe.card.items(),
        ):
            file[f"metadata/{name}"] = np.bytes_(text.encode())
    return _statistics(returns, lengths, terminals)


def _flat(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A part's arrays with a row per step: of T+1 observations the first T, the last T as
    next_observations, and both flags.
    """
    length, terminal, seen = (arrays[k] for k in ("length", "terminal", "observations"))
    last_step = length.cumsum() - 1
    # each episode has one observation more than steps
    last_seen = np.arange(1, len(length) + 1) + last_step
    first_seen = last_seen - length
    ends = {name: np.zeros(length.sum(), bool) for name in ("terminals", "timeouts")}
    ends["terminals"][last_step], ends["timeouts"][last_step] = terminal, ~terminal
    per_step = {k: v for k, v in arrays.items() if k not in ("length", "terminal", "observations")}
    return dict(
        observations=np.delete(seen, last_seen, 0),
        next_observations=np.delete(seen, first_seen, 0),
        **per_step,
        **ends,
    )


def _write_robomimic(target: Path, recipe: Recipe, folder: Path) -> dict:
    """robomimic's layout: a group per demonstration; `dones` marks success steps and the last step
    where the recipe gives none.
    """
    widths = recipe.robomimic["observation_keys"]
    returns, lengths, terminals, masks = [], [], 0, {}
    with h5py.File(target, "w", libver=LIBVER) as file:
        data = file.create_group("data")
        for part in _parts(folder, recipe.parts):
            for arrays, terminal, attrs in part.episodes():
                steps, demo = len(arrays["actions"]), data.create_group(f"demo_{len(lengths)}")
                seen = np.split(
                    arrays.pop("observations"), np.cumsum(list(widths.values()))[:-1], axis=1
                )
                for name, x in zip(widths, seen, strict=True):
                    demo[f"obs/{name}"], demo[f"next_obs/{name}"] = x[:-1], x[1:]
                done = (arrays["rewards"] > 0) | (np.arange(steps) == steps - 1)
                for name, x in (dict(dones=done.astype(np.int64)) | arrays).items():
                    demo[name] = x
                for name in attrs.pop("masks", []):
                    masks.setdefault(name, []).append(f"demo_{len(lengths)}".encode())
                demo.attrs.update(attrs | dict(num_samples=steps))
                returns.append(arrays["rewards"].sum(dtype=np.float64))
                lengths.append(steps)
                terminals += terminal
        data.attrs.update(
            dict(
                total=sum(lengths),
                env_args=json.dumps(recipe.robomimic["env_args"], indent=4, sort_keys=True),
                name=recipe.name,
                **recipe.card,
            )
        )
        for name, demos in masks.items():
            file[f"mask/{name}"] = np.array(demos)
    return _statistics(returns, lengths, terminals)


LAYOUTS = {"d4rl": _write_d4rl, "robomimic": _write_robomimic}
