"""Are two profiles' scores of one task and method the same, to within a margin? Two one-sided tests
(Schuirmann 1987), over seeds.

That a test finds no difference says little where seeds are few. Here the burden is the other way
round: two profiles are called equivalent only where both "the first is worse by the margin or more"
and "it is better by the margin or more" are rejected, each at LEVEL. That is the same as that the
interval of the difference, with confidence 1 - 2 LEVEL, lies inside the margin. Where the truth is
a difference of just the margin, about LEVEL of such cells are called equivalent (Welch's degrees of
freedom are no exact ones: 2.8 to 5.9% of normal draws with 2 to 10 seeds, spreads that differ up to
ten times). Where it is none, half of the cells with a margin of 5 points show it if seeds spread by
1.2 points with two seeds each, by 2.1 with three, by 3.1 with five; with more spread, fewer.

The unit is the seed, also where there are two: the means, their variances (never smaller than the
seed's own episodes say) and Welch's degrees of freedom are those of `significance`.

Seeds are not paired. Runs of both profiles with one number share the first states of their episodes
and the streams that their batches are drawn from; but another number of steps, another solver or
another precision sends the networks elsewhere, so nobody can say how much of a pair's luck is
common. Where it is a part, the variance of the difference is smaller than taken here, and the test
errs to the side of "not shown". Pairs would halve the degrees of freedom, from up to 4 to 2 with
three seeds each, and need the same seeds on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from arq_core.config.labels import LABELS
from arq_core.config.tasks import listed
from arq_core.results.records import ResultsError
from arq_core.results.regressions import CELL
from arq_core.results.rows import read_rows, smoke_test
from arq_core.results.significance import Mean, Seeds, contrast, mean_over_seeds

FAST, FULL = "fast", "full"  # the profiles that the book compares
MARGIN = 5.0  # points, a hundredth of the way from the random policy to the expert each
LEVEL = 0.05  # of each of the two tests
CONFIDENCE = 1 - 2 * LEVEL  # of the interval that says the same
SAME = (*CELL, "dataset_sha256")  # on both sides
EQUIVALENT, DIFFERENT, NOT_SHOWN = "equivalent", "different", "not shown"


class Tost(NamedTuple):
    """Of two one-sided tests: the difference, the limits of its interval (CONFIDENCE), and the
    larger of the two p.
    """

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Equivalence:
    """A task, method and variant at profile `first`, less the same at `second`.

    `difference`, its interval from `low` to `high` (CONFIDENCE) and `margin` are in units of the
    task's score, and so are the two means; `p` is the larger of the two tests', and `equivalent`
    says that it is below LEVEL. The last four are counts, of episodes those of a seed (the least).
    """

    task: str
    method: str
    variant: str
    first: str
    second: str
    first_mean: float
    second_mean: float
    difference: float
    low: float
    high: float
    p: float
    margin: float
    equivalent: bool
    first_seeds: int
    second_seeds: int
    first_episodes: int
    second_episodes: int

    @property
    def verdict(self) -> str:
        """EQUIVALENT; DIFFERENT where the interval leaves out 0; else NOT_SHOWN: neither."""
        if self.equivalent:
            return EQUIVALENT
        return DIFFERENT if self.low > 0 or self.high < 0 else NOT_SHOWN


@dataclass(frozen=True)
class Untested:
    """A cell with rows at both profiles that no test can be made of, and why."""

    task: str
    method: str
    variant: str
    reason: str


class Compared(NamedTuple):
    """The cells that have rows at two profiles: those that were tested, and those that no test can
    be made of; each in the order of data/tasks.csv and of labels.LABELS.
    """

    tested: list[Equivalence]
    untested: list[Untested]


def two_one_sided(first: Mean, second: Mean, margin: float) -> Tost:
    """The tests of first - second against -margin and margin, all in the same unit.

    Two means without any spread are as far apart as they are: the interval is a point, p is 0 or 1.
    """
    apart = contrast([first], [second])
    raised = lambda mean: [mean._replace(value=mean.value + margin)]
    p = max(contrast(raised(first), [second]).p, contrast(raised(second), [first]).p)
    reach = float(-stdtrit(apart.freedom, LEVEL) * apart.error) if apart.error else 0.0
    return Tost(apart.value, apart.value - reach, apart.value + reach, p)


def scale(task: str) -> float:
    """What one point is in units of a task's score: 1, but 0.01 where the score is a return from 0
    to 1 (the suite "ours" of data/tasks.csv), which five points would span five times over.
    """
    known = listed().get(task)
    if known is None or known["suite"] != "ours":
        return 1.0
    return (float(known["score_max"]) - float(known["score_min"])) / 100


def _name(row: dict) -> str:
    return f"{row['task']} {row['method']} at {row['profile']}"


def _seeds(rows: Sequence[dict]) -> Seeds:
    """The scores of one job's rows, an array [episodes] a seed; rows that no test can use are
    refused.
    """
    if not rows:
        raise ResultsError("saw a side without rows, expected those of two profiles.")
    for name in ("profile", *SAME):
        if other := {row[name] for row in rows} - {rows[0][name]}:
            raise ResultsError(
                f"{_name(rows[0])}: field {name!r}: saw {min(other)!r} too, expected "
                f"{rows[0][name]!r} in all rows of a side."
            )
    seeds: dict[int, list[float]] = {}
    for row in rows:
        if row["score"] is None or not math.isfinite(row["score"]):
            raise ResultsError(
                f"{_name(row)}: seed {row['seed']}, episode {row['episode']}: saw the score "
                f"{row['score']}, expected a finite number in every row."
            )
        seeds.setdefault(row["seed"], []).append(row["score"])
    if len(seeds) < 2:
        raise ResultsError(
            f"{_name(rows[0])}: saw one seed, expected two or more: one seed says nothing of "
            "another; run more of them."
        )
    if smoke_test(rows[0]["task"], rows[0]["profile"], len(seeds)):
        raise ResultsError(
            f"{_name(rows[0])}: saw a smoke test, expected a budget whose score says something."
        )
    return [np.array(scores) for scores in seeds.values()]


def _refuse(first: str, second: str, margin: float) -> None:
    if first == second:
        raise ResultsError(
            f"profile: saw {first!r} on both sides, expected two: rows are equivalent to "
            "themselves."
        )
    if not 0 < margin < math.inf:
        raise ResultsError(f"margin: saw {margin}, expected a number of points above 0.")


def equivalence(
    first: Sequence[dict], second: Sequence[dict], margin: float = MARGIN
) -> Equivalence:
    """The tests for the rows (rows.read_rows) of one job and those of the same task, data, method
    and variant at another profile; `margin` in points, `scale` of the score each.

    ResultsError for rows without a score, fewer than two seeds a side, smoke tests, rows of one
    profile or of different cells, and a margin that is not above 0.
    """
    sides = [_seeds(rows) for rows in (first, second)]
    one, other = first[0], second[0]
    for name in SAME:
        if one[name] != other[name]:
            raise ResultsError(
                f"{_name(one)} and {_name(other)}: field {name!r}: saw {one[name]!r} and "
                f"{other[name]!r}, expected the same on both sides; run the one again."
            )
    _refuse(one["profile"], other["profile"], margin)
    means = [mean_over_seeds(seeds) for seeds in sides]
    own = margin * scale(one["task"])
    found = two_one_sided(*means, own)
    episodes = [min(map(len, seeds)) for seeds in sides]
    return Equivalence(
        task=one["task"],
        method=one["method"],
        variant=one["variant"],
        first=one["profile"],
        second=other["profile"],
        first_mean=means[0].value,
        second_mean=means[1].value,
        **found._asdict(),
        margin=own,
        equivalent=bool(found.p < LEVEL),
        first_seeds=len(sides[0]),
        second_seeds=len(sides[1]),
        first_episodes=episodes[0],
        second_episodes=episodes[1],
    )


def compared(
    rows: Iterable[dict], first: str = FAST, second: str = FULL, margin: float = MARGIN
) -> Compared:
    """`equivalence` of every cell (task, fidelity, variant and method) of the rows that exists at
    both profiles.
    """
    _refuse(first, second, margin)
    sides: dict[tuple, dict[str, list[dict]]] = {}
    for row in rows:
        if row["profile"] in (first, second):
            cell = sides.setdefault(tuple(row[name] for name in CELL), {})
            cell.setdefault(row["profile"], []).append(row)
    place = lambda name, order: order.index(name) if name in order else len(order)
    tasks, methods = list(listed()), list(LABELS)
    order = lambda cell: (place(cell[0], tasks), place(cell[3], methods), cell)
    found = Compared([], [])
    for cell in sorted((cell for cell, both in sides.items() if len(both) == 2), key=order):
        task, _, variant, method = cell
        try:
            found.tested.append(equivalence(sides[cell][first], sides[cell][second], margin))
        except ResultsError as why:
            found.untested.append(Untested(task, method, variant, str(why)))
    return found


def equivalences(
    folder: str | Path, first: str = FAST, second: str = FULL, margin: float = MARGIN
) -> Compared:
    """`compared` of all rows in a folder of results; nothing where it does not exist."""
    return compared(read_rows(folder), first, second, margin)
