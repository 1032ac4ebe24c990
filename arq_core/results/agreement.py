"""Rows of a run made just now, beside the committed rows of the same seeds: are they the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arq_core.config.paths import DATA
from arq_core.results.rows import read_rows

# the budgets of a profile that are those of another, but for the number of seeds
SAME = {"page": "ci"}
ALIKE = 1e-6  # of two returns; a sum of rewards in another order


@dataclass(frozen=True)
class Agreement:
    """How many episodes were committed too, how many of them ended with the same return, and the
    largest difference between a method's mean returns.

    Not all need be the same: one seed alone is rounded otherwise than several together, and a
    choice between two candidates of nearly equal value can tip.
    """

    episodes: int
    same: int
    difference: float = 0.0

    @property
    def share(self) -> float:
        """The part that is the same; 1 where nothing was committed."""
        return self.same / self.episodes if self.episodes else 1.0

    def __str__(self) -> str:
        if not self.episodes:
            return "no committed rows to compare with"
        return (
            f"{self.same:,} of {self.episodes:,} episodes returned what they did when the "
            f"committed rows were made; means of methods differ by at most {self.difference:.3f}"
        )


def beside(
    live: Sequence[dict], methods: Sequence[str] = (), folder: Path | None = None
) -> tuple[list[dict], Agreement]:
    """The committed rows of the task and profile of `live`, of its methods and of `methods`, and
    those of `live` that were not committed; and how far the two agree.

    An episode is known by its method, variant, seed and number.
    """
    known = lambda row: (row["method"], row["variant"], row["seed"], row["episode"])
    settings = {
        (r["task"], SAME.get(r["profile"], r["profile"]), r["dataset_sha256"]) for r in live
    }
    wanted = {*methods, *(row["method"] for row in live)}
    committed = {
        known(row): row
        for row in read_rows(folder or DATA / "results")
        if (row["task"], row["profile"], row["dataset_sha256"]) in settings
        and row["method"] in wanted
    }
    both = [(row, committed[known(row)]) for row in live if known(row) in committed]
    same = sum(abs(new["return_"] - old["return_"]) <= ALIKE for new, old in both)
    gaps: dict[str, list[float]] = {}
    for new, old in both:
        gaps.setdefault(new["method"], []).append(new["return_"] - old["return_"])
    difference = max((abs(sum(gap) / len(gap)) for gap in gaps.values()), default=0.0)
    rest = [row for row in live if known(row) not in committed]
    return [*committed.values(), *rest], Agreement(len(both), same, difference)
