"""A passport for each dataset: which version it is, what proves it, where it lies, how it is
scored, under which licence, what is mistaken for it.

All of it comes from `data/tasks.csv` and the reward of its group; a field that nobody states says
so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from arq_core.config import settings
from arq_core.config.labels import FIDELITIES
from arq_core.config.tasks import Task, task, tasks
from arq_core.datasets.rewards import REWARDS

UNKNOWN = "not stated by its publisher or by anyone we found"
MADE_HERE = "there is no file: made here, the hash is that of the arrays"
NOT_MADE = "those that its recipe makes"


@dataclass(frozen=True)
class Passport:
    """What identifies a dataset and what is known of it; empty texts and None where nothing is."""

    name: str
    published_name: str
    version: str
    fidelity: str
    sha256: str
    sha256_source: str
    # of the same bytes, the publisher's first; or how the data are made
    addresses: tuple[str, ...]
    other_versions: dict[str, str]  # name: address of files that are something else
    steps: int | None
    steps_source: str
    state_dim: int
    action_dim: int
    reward: str  # key of REWARDS that the paper trains with
    score_min: float
    score_max: float
    score_source: str
    licence: str
    also_known: str

    def lines(self) -> list[tuple[str, str]]:
        """(what, text) of each entry, in order, for printing or a table of a page."""
        own_scale = self.score_source == "return itself"
        ours = "://" not in self.addresses[0]
        nobody, steps = (MADE_HERE, NOT_MADE) if ours else (UNKNOWN, UNKNOWN)
        what_it_does = " ".join((REWARDS[self.reward].__doc__ or "").split("\n\n")[0].split())
        return [
            (
                "dataset",
                self.name
                + (
                    f" (the paper's {self.published_name})"
                    if self.published_name not in ("", self.name)
                    else ""
                ),
            ),
            ("version", self.version or "the only one"),
            ("fidelity", f"{self.fidelity}: {FIDELITIES[self.fidelity]}"),
            ("SHA-256", f"{self.sha256} ({self.sha256_source})" if self.sha256 else nobody),
            ("steps", f"{self.steps:,} ({self.steps_source})" if self.steps else steps),
            ("dimensions", f"{self.state_dim} state, {self.action_dim} action"),
            ("source", " or ".join(self.addresses)),
            ("reward", f"{self.reward}: {what_it_does}"),
            (
                "score",
                "the return itself"
                if own_scale
                else f"0 at {self.score_min:,.6g}, 100 at {self.score_max:,.6g} "
                f"({self.score_source})",
            ),
            ("licence", self.licence or UNKNOWN),
            *((f"other version {name}", address) for name, address in self.other_versions.items()),
            ("mistaken for", self.also_known or "nothing we know of"),
        ]

    def __str__(self) -> str:
        width = max(len(what) for what, _ in self.lines())
        return "\n".join(f"{what:<{width}}  {text}" for what, text in self.lines())


def of(row: Task) -> Passport:
    """The passport of a row of the task table."""
    others = dict(other.split("=", 1) for other in row.other_versions.split())
    addresses = tuple(row.source.split()) if "://" in row.source else (row.source,)
    return Passport(
        name=row.task,
        published_name=row.published_name,
        version=row.version,
        fidelity=row.fidelity,
        sha256=row.sha256,
        sha256_source=row.sha256_source,
        addresses=addresses,
        other_versions=others,
        steps=row.transitions,
        steps_source=row.transitions_source,
        state_dim=row.state_dim,
        action_dim=row.action_dim,
        reward=settings.hyper(row.group).reward,
        score_min=row.score_min,
        score_max=row.score_max,
        score_source=row.score_source,
        licence=row.licence,
        also_known=row.also_known,
    )


def passport(name: str) -> Passport:
    """The passport of the task of that name."""
    return of(task(name))


def passports(names: Iterable[str] = ()) -> list[Passport]:
    """Passports of these tasks, or of all."""
    return [passport(name) for name in (names or tasks())]
