"""Methods of the user's own that a package registers: names and entry points, not their code."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from arq_core.config.hyper import NEIGHBOURS
from arq_core.config.labels import LABELS
from arq_core.config.settings import UnknownName

GROUP = "arq_core.methods"  # of entry points
BUILT_IN = frozenset([*LABELS, *NEIGHBOURS])
NAME = re.compile(r"[A-Za-z0-9_+-]+")


def checked(name: str, where: str) -> str:
    """The name of a user's method; UnknownName for one that is built in, or that no file of rows
    can bear."""
    if name in BUILT_IN:
        raise UnknownName(
            f"method: saw the name {name!r} ({where}), which is built in, expected another one: "
            "rows could not be told apart; rename it."
        )
    if not NAME.fullmatch(name):
        raise UnknownName(
            f"method: saw the name {name!r} ({where}), expected letters, digits, _, + and - alone, "
            "since its file of rows is called by it; write it as `def name(...)`."
        )
    return name


@cache
def registered() -> dict[str, EntryPoint]:
    """All entry points of GROUP by their names, wrong ones too."""
    return {point.name: point for point in entry_points(group=GROUP)}


def installed() -> dict[str, EntryPoint]:
    """Those whose names are free; `refuse_wrong` says what is wrong with the others."""
    return {n: p for n, p in registered().items() if n not in BUILT_IN and NAME.fullmatch(n)}


def refuse_wrong(name: str) -> None:
    """UnknownName where a package registers this name and must not."""
    if name in registered():
        point = registered()[name]
        checked(name, f"entry point {point.value} of {_package(point)}")


def version(name: str) -> str:
    """What is known of the code of an installed method: its entry point, its package's version."""
    point = registered()[name]
    return f"{point.value} of {_package(point)}"


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
