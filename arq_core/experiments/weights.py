"""Trained policies of rows of the table: made by one recipe each, listed in data/weights.toml,
fetched from a release and verified.

    policy = weights.load("bridge-arq-s_psi")
    rows = weights.scored(policy)
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass, fields
from pathlib import Path

from arq_core.algorithm.types import DataError
from arq_core.config import settings
from arq_core.config.files import read_toml, replacing, sha256_of, write_atomic
from arq_core.config.paths import DATA, given
from arq_core.config.tasks import task
from arq_core.datasets.fetch import fetch_locked
from arq_core.engine.streams import Streams
from arq_core.experiments import kept
from arq_core.experiments.episodes import check_dimensions, evaluate
from arq_core.experiments.experiment import prepare
from arq_core.results import provenance, rows

FILE = "weights.toml"
PUBLISHED = "published.toml"  # what was made, as a release's entries of FILE


@dataclass(frozen=True)
class Making:
    """What is trained: the method's policy of one seed, at a profile."""

    task: str
    profile: str
    method: str
    seed: int


@dataclass(frozen=True)
class Published:
    """A file that a release holds."""

    url: str
    sha256: str
    bytes: int


def recipes() -> dict[str, Making]:
    """What a release trains, by name. DataError for an entry with other fields."""
    return _entries("make", Making, DATA / FILE)


def published() -> dict[str, Published]:
    """What can be fetched, by name. DataError for an entry with other fields, or without a recipe:
    nobody could say what it is."""
    found = _entries("published", Published, DATA / FILE)
    if unknown := sorted(found.keys() - recipes().keys()):
        raise DataError(
            f"{FILE}: saw [published.{unknown[0]}] without [make.{unknown[0]}], expected what it "
            "was made by; add that section."
        )
    return found


def _made_before(path: Path) -> dict[str, dict]:
    """The entries of a file PUBLISHED, {} where there is none yet."""
    found = _entries("published", Published, path) if path.exists() else {}
    return {name: vars(entry) for name, entry in found.items()}


def _entries(kind: str, cls: type, path: Path) -> dict:
    """Those of a kind in FILE, or in a file of its layout."""
    names, made = {f.name: f.type for f in fields(cls)}, {}
    for name, entry in read_toml(path).get(kind, {}).items():
        wrong = (
            not isinstance(entry, dict)
            or entry.keys() ^ names.keys()
            or [k for k, v in entry.items() if type(v).__name__ != names[k]]
        )
        if wrong or not re.fullmatch(r"[a-z0-9_-]+", name):
            raise DataError(
                f"{path.name} [{kind}.{name}]: saw {entry}, expected a name of small letters, "
                f"digits, _ and -, with {', '.join(f'{k} ({t})' for k, t in names.items())}."
            )
        made[name] = cls(**entry)
    return made


def listed() -> str:
    """A line for each policy: what it is, and whether it is published."""
    there = published()
    lines = [
        f"{name:<20}{r.task}, {r.method}, profile {r.profile}, seed {r.seed}; "
        + (f"{there[name].bytes:,} bytes" if name in there else "not published")
        for name, r in recipes().items()
    ]
    if not there:
        lines.append("Nothing is published yet. `arq weights --make FOLDER` trains these here.")
    return "\n".join(lines)


def fetch(name: str, out: str | Path | None = None) -> Path:
    """The verified file of a published policy, in the cache's downloads or at `out` (a file).

    An interrupted download goes on. UnknownName for another name; DataError where it is not
    published, cannot be had, or is another file than the release's.
    """
    recipe = settings.pick("weights", name, recipes())
    target = None if out is None else given(out)
    if target is not None and target.is_dir():
        raise DataError(
            f"{target}: saw a folder, expected the name of a file, such as "
            f"{target / name}{kept.SUFFIX}."
        )
    if name not in (there := published()):
        raise DataError(
            f"{name}: saw no published file, expected [published.{name}] in {DATA / FILE}; train "
            f"it: `arq weights {name} --make FOLDER`, or `arq keep {recipe.task} --profile "
            f"{recipe.profile} --method {recipe.method} --seed {recipe.seed} --out FILE`."
        )
    entry = there[name]
    # the hash is a part of the name: the file of an earlier release is another file
    file = f"{name}-{entry.sha256[:12]}{kept.SUFFIX}"
    found = fetch_locked(file, [entry.url], entry.sha256, entry.bytes)
    if target is None:
        return found
    with replacing(target) as part:
        shutil.copyfile(found, part)
    return target


def load(name: str) -> kept.KeptPolicy:
    """A published policy, fetched and verified, or one of a file *.arq; it is loaded as `arq.load`
    does. UnknownName, DataError as of `fetch`."""
    return kept.load(name if name.endswith(kept.SUFFIX) else fetch(name))


def scored(policy: kept.KeptPolicy) -> list[dict]:
    """The rows of a kept policy, as `experiment.measure` makes them of its seed: as many episodes
    as its profile has, in its task's simulator, from the same starts. No data are needed.
    UnknownName for a policy of data that are no task's; EnvError without the simulator."""
    card, of = policy.card, task(policy.card["task"])
    inside, count, began = card["in_support"], card["budget"]["episodes"], time.monotonic()
    envs = of.environments(count)
    check_dimensions(envs, policy.state_dim, len(policy.box.low))
    rng = Streams([card["seed"]], policy.device)
    found = evaluate(policy.policy, envs, count, rng, of.horizon)
    found["score"] = of.score(found["return"])
    return rows.episode_rows(
        found,
        [card["seed"]],
        None if inside is None else [inside],
        task=of.task,
        dataset_sha256=card["dataset"]["sha256"],
        fidelity=card["dataset"]["fidelity"],
        profile=card["profile"],
        method=card["method"],
        variant=card["hyper"].get("variant", rows.VARIANTS[0]),
        wall_s=round(time.monotonic() - began, 1),
        **provenance.provenance(str(policy.device)),
    )


def make(folder: str | Path, name: str = "", address: str = "") -> list[Path]:
    """Train one policy, or all of them, and write NAME.arq and its card NAME.json into a folder;
    with the `address` below which they will lie, also PUBLISHED, where other entries stay. What is
    trained is not trained again.

    Each file is loaded once, so that one which does not act as it was kept is no file.
    """
    chosen = {name: settings.pick("weights", name, recipes())} if name else recipes()
    folder, files = given(folder), []
    said = _made_before(folder / PUBLISHED) if address else {}
    for one, r in chosen.items():
        policy = kept.policy(prepare(r.task, r.profile, device="cpu"), r.method, r.seed)
        path = policy.save(folder / f"{one}{kept.SUFFIX}")
        card = {k: v for k, v in kept.load(path).card.items() if k != "probe"}
        write_atomic(about := path.with_suffix(".json"), f"{json.dumps(card, indent=1)}\n".encode())
        files += [path, about]
        url = f"{address.rstrip('/')}/{path.name}"
        said[one] = dict(url=url, sha256=sha256_of(path), bytes=path.stat().st_size)
    if address:
        text = "\n".join(
            f'[published.{one}]\nurl = "{x["url"]}"\nsha256 = "{x["sha256"]}"\n'
            f"bytes = {x['bytes']}\n"
            for one, x in said.items()
        )
        write_atomic(folder / PUBLISHED, text.encode())
        files.append(folder / PUBLISHED)
    return files
