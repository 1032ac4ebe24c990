"""Does a method that clearly beat behaviour cloning still do so? Stored rows against new rows, by
tests and not by a margin someone chose.

A cell is *watched* where the stored rows show method > clone at LEVEL (Welch's test over seeds, see
`significance`; Holm's correction over all cells). It is *lost* where the new rows do not show it at
LEVEL (Holm over the watched cells) and the advantage dropped, at ALARM (Holm over every cell that
was run twice, watched or not, so that watching the lucky ones costs nothing).

False alarms: if nothing changed, stored and new rows are draws from one distribution, their
difference is symmetric whatever that distribution is, and the check fails for at most ALARM of all
pairs of stored and new rows. Methods meet the same first states, so their scores agree more than
the test assumes; that errs on the side of silence. Seeds that either work or fail break the
promise: where each fails half of the time, two work and then two fail in 1 of 16 pairs. More seeds
are the only cure. Missed losses: among 12 cells an advantage is watched from about 11 times the
seeds' spread on with 2 seeds, 4 times with 3 and 2.2 times with 5.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from arq_core.config.paths import given
from arq_core.results.rows import read_rows, smoke_test
from arq_core.results.significance import Contrast, Mean, Seeds, contrast, holm, mean_over_seeds

# the field's convention. In one set of stored rows of twenty a cell without an advantage is
# watched, which costs little
LEVEL = 0.05
# one check of a hundred fails by noise. That costs somebody's time, so it is to be rarer than a
# cell watched for nothing
ALARM = 0.01
CELL = ["task", "fidelity", "variant", "method"]
KEPT, LOST, UNDECIDED, MISSING, UNWATCHED = "kept", "lost", "undecided", "missing", "not watched"


class RegressionError(ValueError):
    """Rows that cannot be compared.

    The message says what was seen, what was expected and what to do.
    """


@dataclass(frozen=True)
class Finding:
    """One cell: its advantage over the clone in stored and new rows, and p of each (corrected), p
    of the drop (corrected), and the verdict.

    `noticeable` is the drop, in units of the score, that would have been told from noise. NaN where
    there is nothing to say.
    """

    task: str
    fidelity: str
    variant: str
    method: str
    stored: float
    stored_p: float
    new: float
    new_p: float
    drop_p: float
    noticeable: float
    verdict: str
    note: str


def advantage(cells: Mapping[tuple, Seeds], cell: tuple, over: str) -> tuple[Mean, Mean] | None:
    """(the method's mean, the clone's mean) of a cell; None where either has no rows."""
    clone = (*cell[:3], over)
    return (
        (mean_over_seeds(cells[cell]), mean_over_seeds(cells[clone]))
        if cell in cells and clone in cells
        else None
    )


def drop(before: tuple[Mean, Mean], after: tuple[Mean, Mean]) -> Contrast:
    """How much of the advantage went: (method - clone) before minus the same after.

    A clone that is the same on both sides cancels.
    """
    if before[1] is after[1]:
        return contrast(before[:1], after[:1])
    return contrast([before[0], after[1]], [before[1], after[0]])


def judge(stored: Mapping[tuple, Seeds], new: Mapping[tuple, Seeds], over: str) -> list[Finding]:
    """A finding for each stored cell of another method than `over`; keys are tuples of CELL.

    Without new rows of the clone its stored ones stand.
    """
    names = [cell for cell in stored if cell[3] != over]
    before = [advantage(stored, cell, over) for cell in names]
    after = [
        advantage(new, cell, over)
        or ((mean_over_seeds(new[cell]), old[1]) if old and cell in new else None)
        for cell, old in zip(names, before, strict=True)
    ]
    nothing = Contrast(np.nan, np.nan, np.nan, np.nan)
    there, here = (
        [nothing if pair is None else contrast(pair[:1], pair[1:]) for pair in side]
        for side in (before, after)
    )
    drops = [
        nothing if a is None or b is None else drop(a, b)
        for a, b in zip(before, after, strict=True)
    ]
    there_p, drop_p = holm([c.p for c in there]), holm([c.p for c in drops])
    watched = there_p < LEVEL
    here_p = holm([c.p if seen else np.nan for c, seen in zip(here, watched, strict=True)])
    compared = max(1, int(np.isfinite(drop_p).sum()))
    out = []
    for i, cell in enumerate(names):
        noticeable = (
            -stdtrit(drops[i].freedom, ALARM / compared) * drops[i].error if drops[i].error else 0.0
        )
        verdict = _verdict(bool(watched[i]), here_p[i], drop_p[i])
        note = _note(over, before[i], there[i], "stored") or (
            _note(over, after[i], here[i], "new") if watched[i] else ""
        )
        out.append(
            Finding(
                *cell,
                there[i].value,
                there_p[i],
                here[i].value,
                here_p[i],
                drop_p[i],
                noticeable,
                verdict,
                note,
            )
        )
    return out


def _verdict(watched: bool, new_p: float, drop_p: float) -> str:
    if not watched:
        return UNWATCHED
    if np.isnan(new_p):
        return MISSING
    return KEPT if new_p < LEVEL else LOST if drop_p < ALARM else UNDECIDED


def _note(over: str, pair: tuple | None, seen: Contrast, which: str) -> str:
    if pair is None:
        return f"no {which} rows of it or of {over}"
    return f"one seed in the {which} rows says nothing of another" if np.isnan(seen.p) else ""


def cells_of(rows: Sequence[dict], profile: str) -> dict[tuple, Seeds]:
    """The episodes' scores of every cell at a profile, one array a seed; the raw return where a
    dataset has no score.
    """
    frame = pd.DataFrame(
        [row for row in rows if row["profile"] == profile],
        columns=[*CELL, "seed", "episode", "score", "return_"],
    )
    frame["score"] = frame["score"].astype(float).fillna(frame["return_"].astype(float))
    return {
        cell: [s.to_numpy() for _, s in part.groupby("seed")["score"]]
        for cell, part in frame.groupby(CELL)
    }


def smoke_tests(rows: Sequence[dict], profile: str) -> list[str]:
    """The tasks whose rows at a profile are smoke tests (rows.smoke_test), in order."""
    seeds: dict[tuple, set[int]] = {}
    for row in rows:
        if row["profile"] == profile:
            seeds.setdefault(tuple(row[name] for name in CELL), set()).add(row["seed"])
    return sorted({c[0] for c, found in seeds.items() if smoke_test(c[0], profile, len(found))})


def compare(
    stored: Sequence[dict], new: Sequence[dict], profile: str, over: str = "bc"
) -> list[Finding]:
    """Findings for two sets of rows (rows.read_rows) at a profile.

    A cell is a task, fidelity, variant and method. Those that are smoke tests, in the stored rows
    or by now, are left out: chance decides them, and each would blunt the test of all others.
    """
    known = sorted({row["profile"] for row in stored})
    if profile not in known:
        near = "".join(
            f"; did you mean {n!r}?" for n in difflib.get_close_matches(profile, known, 1)
        )
        raise RegressionError(
            f"profile: saw {profile!r}, expected one that has stored rows: "
            f"{', '.join(known) or '(there are none)'}{near}"
        )
    old, now = cells_of(stored, profile), cells_of(new, profile)
    if not any(cell[3] == over for cell in old):
        raise RegressionError(
            f"stored rows at {profile}: saw none of {over}, expected some: without them "
            f"no cell can be watched; run {over} and commit its rows."
        )
    if not now:
        raise RegressionError(
            f"new rows at {profile}: saw none, expected those of the run that is to be "
            "checked; was it another folder?"
        )
    left_out = smoke_tests(stored, profile)
    ranked = ({c: s for c, s in cells.items() if c[0] not in left_out} for cells in (old, now))
    return judge(*ranked, over)


def failures(findings: Sequence[Finding], partial: bool = False) -> list[Finding]:
    """The findings that fail the check: what was lost and, unless only a part was run again, what
    is missing.
    """
    return [f for f in findings if f.verdict == LOST or f.verdict == MISSING and not partial]


def describe(f: Finding, over: str = "bc") -> str:
    """One line: the cell, its advantage before and now with p, and what the two differ by."""
    name = f"{f.verdict.upper():11} {f.task} {f.method} ({f.variant}, {f.fidelity} data)"
    if f.note:
        return f"{name}: {f.note}"
    return (
        f"{name}: advantage over {over} {f.stored:+.2f} (p {f.stored_p:.2g}) in the "
        f"stored rows, {f.new:+.2f} (p {f.new_p:.2g}) in the new; p of the drop "
        f"{f.drop_p:.2g}, a drop of {f.noticeable:.2f} would be noticed"
    )


def unwatched(findings: Sequence[Finding], over: str = "bc") -> list[str]:
    """What is not watched, and why: a line for each reason, with its cells."""
    why: dict[str, list[str]] = {}
    for f in findings:
        if f.verdict == UNWATCHED:
            reason = f.note or f"the stored rows do not beat {over} clearly"
            p = "" if f.note else f" (p {f.stored_p:.2g})"
            why.setdefault(reason, []).append(f"{f.task} {f.method}{p}")
    return [f"not watched, {reason}: {', '.join(cells)}" for reason, cells in why.items()]


def report(findings: Sequence[Finding], over: str = "bc", smoke: Sequence[str] = ()) -> str:
    """What was watched and what became of it, in words; then what is not watched, and why. `smoke`
    are tasks whose rows are smoke tests.
    """
    watched = [f for f in findings if f.verdict != UNWATCHED]
    order = [LOST, MISSING, UNDECIDED, KEPT]
    lines = [
        f"{len(watched)} of {len(findings)} cells are watched: their stored rows "
        f"beat {over} clearly (Welch's test over seeds, one-sided, Holm's "
        f"correction, level {LEVEL})."
    ]
    if not watched:
        lines.append(
            "So nothing can be found lost: it takes more seeds, or an advantage, "
            "before there is something to watch."
        )
    lines += [describe(f, over) for f in sorted(watched, key=lambda f: order.index(f.verdict))]
    lines += unwatched(findings, over)
    if smoke:
        lines.append(f"not watched, smoke tests whose scores say nothing: {', '.join(smoke)}")
    return "\n".join(lines)


def check(
    stored: str, new: str, profile: str = "ci", over: str = "bc", partial: bool = False
) -> bool:
    """All of `arq compare`: print what became of watched cells of two folders; whether none
    failed.
    """
    rows = read_rows(given(stored))
    findings = compare(rows, read_rows(given(new)), profile, over)
    print(report(findings, over, smoke_tests(rows, profile)), flush=True)
    if failed := failures(findings, partial):
        names = ", ".join(f"{f.task} {f.method} ({f.verdict})" for f in failed)
        print(
            f"error: saw {len(failed)} of the cells that clearly beat {over} without that now, "
            f"expected none: {names}. Find what changed; if the change is meant, commit the new "
            "rows and say why.",
            file=sys.stderr,
        )
    return not failed
