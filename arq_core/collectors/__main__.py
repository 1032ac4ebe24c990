"""`python -m arq_core.collectors hopper-medium-recollected`: collect a dataset of data/tasks.csv (or take it from the cache) and show its card.

With `--cards FOLDER` the card is copied there too. Ctrl-C keeps finished parts; the same command goes on from there.
"""
from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
from pathlib import Path

from arq_core.algorithm.types import DataError
from arq_core.collectors.recording import record
from arq_core.config.settings import UnknownName, pick
from arq_core.config.tasks import tasks
from arq_core.datasets.fetch import FetchError
from arq_core.envs.vector import EnvError


def collectable() -> dict[str, str]:
    """Tasks that are collected by a recipe, and the module that has it."""
    return {name: t.loader.split(":")[0] for name, t in tasks().items() if t.loader.startswith("arq_core.collectors.")}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m arq_core.collectors", description=__doc__)
    parser.add_argument("task", nargs="+", help="name in data/tasks.csv")
    parser.add_argument("--cards", help="a folder for copies of the data cards")
    given = parser.parse_args(arguments)
    try:
        modules = [pick("task", name, collectable()) for name in given.task]
        for name, module in zip(given.task, modules, strict=True):
            path = record(importlib.import_module(module).recipe(name))
            card = path.with_suffix(".json")
            if given.cards:
                Path(given.cards).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(card, Path(given.cards) / f"{name}.json")
            shown = {k: v for k, v in json.loads(card.read_text()).items() if k != "key"}
            print(f"{path}\n{json.dumps(shown, indent=1)}")
    except (UnknownName, DataError, FetchError, EnvError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished parts are kept, the same command goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
