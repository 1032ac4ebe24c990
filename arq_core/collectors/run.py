"""`arq collect`: datasets of our own, each by the recipe of its module."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from arq_core.collectors.recording import record
from arq_core.config.settings import pick
from arq_core.config.tasks import tasks


def collect(names: Sequence[str], cards: Path | None = None) -> Iterator[tuple[Path, dict]]:
    """(file, card) of each task, collected or from the cache; `cards` takes copies of the cards.

    All names are checked before the first is collected. Ctrl-C keeps finished parts.
    """
    recipes = {name: row.loader for name, row in tasks().items() if row.made == "collect"}
    loaders = [pick("task", name, recipes) for name in names]
    for name, loader in zip(names, loaders, strict=True):
        path = record(import_module(loader.split(":")[0]).recipe(name))
        card = path.with_suffix(".json")
        if cards:
            cards.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(card, cards / f"{name}.json")
        said = json.loads(card.read_text(encoding="utf-8"))
        yield path, {key: value for key, value in said.items() if key != "key"}
