"""Where the episodes of flat arrays end, for files whose flags do not mean what their names say.

A rule is text, since a row of `data/tasks.csv` gives it. Sources: D4RL's qlearning_dataset for
`timeouts` and `lengths`; for the rest the released code, which found out how the v0 files of Adroit
were put together.

    timeouts      both flags as named: terminals end the decision process, timeouts cut an episode
    lengths:N     terminals end the decision process; an episode is also cut after N steps (files
        without timeouts, or with wrong ones)
    terminals     terminals mark where a recording stops: a cut, never an end (human demonstrations;
        their timeouts are wrong)
    terminals:N   the same, and a cut after every N rows (recordings of one length)
    fixed:N       neither flag counts: a cut after every N rows

Rules of several parts of a file stand in order, each but the last with the row at which the next
begins: "terminals@500000 fixed:200". Every part ends with a cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from arq_core.algorithm.types import DataError

# whether N is there: what is allowed
RULES = {"timeouts": (False,), "lengths": (True,), "terminals": (True, False), "fixed": (True,)}


@dataclass(frozen=True)
class Part:
    """One rule and the row before which it stops (None: the end of the file)."""

    rule: str
    length: int | None
    until: int | None


def parse(cuts: str) -> tuple[Part, ...]:
    """The parts of a rule; a rule that is not of the table above is refused."""
    parts = tuple(_part(text, cuts) for text in cuts.split())
    bounds = [p.until for p in parts]
    if (
        not parts
        or None in bounds[:-1]
        or bounds[-1] is not None
        or bounds[:-1] != sorted(set(bounds[:-1]))
    ):
        raise DataError(
            f"cuts: saw {cuts!r}, expected parts with rising @rows, and no @row in the "
            "last; mend the rule."
        )
    return parts


def _part(text: str, cuts: str) -> Part:
    match = re.fullmatch(r"([a-z]+)(?::([1-9]\d*))?(?:@([1-9]\d*))?", text)
    if not match or (match[2] is not None) not in RULES.get(match[1], ()):
        raise DataError(
            f"cuts: saw {cuts!r}, expected timeouts, lengths:N, terminals, terminals:N "
            "or fixed:N, several of them with @row in between; write one of these."
        )
    return Part(match[1], *(int(n) if n else None for n in match.groups()[1:]))


def asks_for_timeouts(cuts: str) -> bool:
    """Whether the rule looks at the timeouts at all: else a file need not have them."""
    return any(p.rule == "timeouts" for p in parse(cuts))


def apply(
    cuts: str, terminals: np.ndarray, timeouts: np.ndarray | None, source: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(terminals, timeouts, notes) with the meaning that `timeouts` has above [M]: the arrays given
    are not changed.
    """
    if cuts == "timeouts":
        return terminals, timeouts, []
    ends, cut, begin = np.zeros_like(terminals), np.zeros_like(terminals), 0
    for part in parse(cuts):
        if part.until is not None and part.until >= len(terminals):
            raise DataError(
                f"{source}: saw {len(terminals):,} steps, expected more than "
                f"{part.until:,}, where the second part of {cuts!r} begins; give the file "
                "that the rule was made for."
            )
        rows = slice(begin, part.until)
        _apply_part(
            part,
            terminals[rows],
            None if timeouts is None else timeouts[rows],
            ends[rows],
            cut[rows],
        )
        begin = part.until
    reread = int((terminals & ~ends).sum())
    notes = [
        f"episodes end by the rule {cuts!r}: {int(cut.sum()):,} cuts"
        + (f"; {reread:,} terminals of the file do not end the decision process" if reread else "")
    ]
    return ends, cut, notes


def _apply_part(part: Part, terminals, timeouts, ends, cut) -> None:
    """Fills `ends` and `cut`, which are views, for the rows of one part."""
    if part.rule == "timeouts":
        ends[:], cut[:] = terminals, timeouts
    elif part.rule == "terminals":
        cut[:] = terminals
    elif part.rule == "lengths":
        ends[:] = terminals
    if part.length and part.rule == "lengths":
        cut[_every(part.length, terminals)] = True
    elif part.length:
        cut[part.length - 1 :: part.length] = True
    cut[-1] |= not ends[-1]


def _every(length: int, terminals: np.ndarray) -> np.ndarray:
    """Rows at which an episode that began after the last terminal has had a multiple of `length`
    steps, terminals themselves excluded.
    """
    ends = np.flatnonzero(terminals)
    starts = np.concatenate([[0], ends + 1])
    stops = np.concatenate([ends, [len(terminals)]])
    return np.concatenate(
        [np.arange(a + length - 1, b, length) for a, b in zip(starts, stops, strict=True)]
    )
