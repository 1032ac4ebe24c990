"""What many runs say together, from the rows of results: interquartile means and probabilities of
improvement, by group and over all.

Agarwal et al. 2021 (see `bootstrap`). A run is one seed on one task; its score is the mean over
that seed's episodes, by the final weights, since rows hold no other: no checkpoint is picked. Runs
of different profiles, fidelities or variants never meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from arq_core.config.labels import GROUPS, METHODS, OWN_SUITES
from arq_core.config.paths import DATA
from arq_core.config.tasks import listed
from arq_core.results.bootstrap import (
    NOTHING,
    REPS,
    can_bear_interval,
    improvement,
    improvement_interval,
    iqm,
    iqm_interval,
    profile,
    profile_band,
)
from arq_core.results.rows import place_of, smoke_test, summary

SETTING = ["profile", "fidelity", "variant"]
# their scale is their own (0 to 1), so they are a group and no part of `overall`
SMALL = {"ours": "Small worlds of this book"}
OVERALL = "overall"
LABELS = GROUPS | OWN_SUITES | SMALL | {OVERALL: "All groups"}


class AggregateError(ValueError):
    """Runs that cannot be put together.

    The message says what was seen, what was expected and what to do.
    """


def cells(rows: Sequence[dict]) -> pd.DataFrame:
    """One line per task, setting and method: mean, std (divisor n - STD_DDOF) and n over seeds;
    `episodes` of each seed (the least).
    """
    frame = summary(rows).rename(columns={"score": "mean", "score_std": "std", "seeds": "n"})
    return frame[["task", *SETTING, "method", "mean", "std", "n", "episodes"]]


def runs(rows: Sequence[dict], field: str = "score") -> pd.DataFrame:
    """One line per run with the mean over its episodes, column `score`.

    Datasets without a scale have no score, and no line.
    """
    keys = [*SETTING, "task", "method", "seed"]
    frame = (
        pd.DataFrame(rows, columns=[*keys, field])
        .astype({field: float})
        .rename(columns={field: "score"})
    )
    return frame.groupby(keys, as_index=False)["score"].mean().dropna()


def strata(frame: pd.DataFrame, tasks: Iterable[str], method: str) -> list[np.ndarray]:
    """The scores of a method's runs on each task, from a frame of `runs` with one setting only."""
    settings = list(frame[SETTING].drop_duplicates().itertuples(index=False, name=None))
    if len(settings) > 1:
        raise AggregateError(
            f"saw runs of {len(settings)} settings, {settings[0]} and {settings[1]}, "
            "expected one profile, fidelity and variant: choose one, they are not the "
            "same experiment."
        )
    if lacking := lacks(frame, tasks, method):
        raise AggregateError(
            f"{method}: saw no run on {', '.join(lacking)}, expected runs on each task "
            "that is put together; run it there (make row), or leave the task out for "
            "every method."
        )
    frame = frame[frame["method"] == method]
    return [frame.loc[frame["task"] == task, "score"].to_numpy() for task in tasks]


def methods(frame: pd.DataFrame) -> list[str]:
    """The methods of a frame of `runs`: those of the tables in their order, then any other."""
    there = sorted(frame["method"].unique())
    return [m for m in METHODS if m in there] + [m for m in there if m not in METHODS]


def lacks(frame: pd.DataFrame, tasks: Iterable[str], method: str) -> list[str]:
    """The tasks on which a method has no run."""
    there = set(frame.loc[frame["method"] == method, "task"])
    return [task for task in tasks if task not in there]


def groups(tasks: Iterable[str], path: str | Path = DATA / "tasks.csv") -> dict[str, list[str]]:
    """The groups of the tables that these tasks belong to, in the tables' order; `overall` where
    there is more than one on the common scale.

    A task that data/tasks.csv does not list belongs to none: nobody says that its scale is the
    others'.
    """
    wanted = set(tasks)
    suite_of = {task: row["suite"] for task, row in listed(path).items() if task in wanted}
    members = {suite: [t for t, its in suite_of.items() if its == suite] for suite in LABELS}
    out = {suite: found for suite, found in members.items() if found}
    common = [suite for suite in out if suite not in SMALL]
    return out | ({OVERALL: [t for suite in common for t in out[suite]]} if len(common) > 1 else {})


def by_setting(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The lines of each setting under its name, as the tables write it."""
    return {
        f"{profile}, {variant}, {fidelity} data": part
        for (profile, fidelity, variant), part in frame.groupby(SETTING)
    }


def telling(rows: Sequence[dict]) -> list[dict]:
    """The rows whose scores say something: without smoke tests (rows.smoke_test)."""
    keys = [*SETTING, "task", "method"]
    seeds = pd.DataFrame(rows, columns=[*keys, "seed"]).groupby(keys)["seed"].nunique().to_dict()
    known = {
        (task, profile, n): smoke_test(task, profile, n)
        for (profile, _, _, task, _), n in seeds.items()
    }
    count = lambda row: seeds[tuple(row[key] for key in keys)]
    return [row for row in rows if not known[row["task"], row["profile"], count(row)]]


def largest_budgets(frame: pd.DataFrame) -> pd.DataFrame:
    """Of lines of several settings one setting a group, the first by rows.place_of, in the groups'
    order. `overall` is left out: it would put together what was run at other budgets.
    """
    if frame.empty:
        return frame
    chosen = []
    for group in LABELS:
        part = frame[frame["group"] == group]
        if group == OVERALL or part.empty:
            continue
        place = [place_of(x.profile, x.variant, x.fidelity) for x in part.itertuples()]
        chosen.append(part[[at == min(place) for at in place]])
    return pd.concat(chosen) if chosen else frame.iloc[:0]


def inventory(rows: Sequence[dict], path: str | Path = DATA / "tasks.csv") -> pd.DataFrame:
    """How many `datasets` each `group` has, and how many of them have runs in each setting (the
    other columns).
    """
    every = groups(listed(path), path)
    every.pop(OVERALL, None)
    counts = {
        "group": [LABELS[group] for group in every],
        "datasets": [len(tasks) for tasks in every.values()],
    }
    for name, part in by_setting(runs(rows)).items():
        here = groups(part["task"].unique(), path)
        counts[name] = [len(here.get(group, [])) for group in every]
    return pd.DataFrame(counts)


def _each(rows: Sequence[dict]) -> Iterator[tuple[dict, list[str], pd.DataFrame]]:
    """(setting and group, the group's tasks, their runs) for every setting and group of the
    rows.
    """
    for setting, frame in runs(rows).groupby(SETTING):
        for group, tasks in groups(frame["task"].unique()).items():
            yield (
                dict(zip(SETTING, setting, strict=True), group=group),
                tasks,
                frame[frame["task"].isin(tasks)],
            )


def _line(line: dict, value: float, bounds: np.ndarray, *notes: str) -> dict:
    return line | dict(
        value=float(value), low=bounds[0], high=bounds[1], note="; ".join(filter(None, notes))
    )


def _single(*several: Sequence[np.ndarray]) -> str:
    return "" if can_bear_interval(*several) else "one seed: no interval"


def interquartile_means(rows: Sequence[dict], reps: int = REPS, seed: int = 0) -> pd.DataFrame:
    """One line per setting, group and method: value, low, high, note, on the `tasks` of the group,
    with `seeds` (the least) on each.

    A method that lacks one of the group's tasks has no value; `missing` is the number of those,
    which `note` names, and `tasks` that of the others.
    """
    out = []
    for part, tasks, frame in _each(rows):
        for method in methods(frame):
            lacking = lacks(frame, tasks, method)
            line = part | dict(
                method=method, tasks=len(tasks) - len(lacking), missing=len(lacking), seeds=0
            )
            if lacking:
                out.append(_line(line, np.nan, NOTHING, f"not run on {', '.join(lacking)}"))
                continue
            scores = strata(frame, tasks, method)
            out.append(
                _line(
                    line | dict(seeds=min(map(len, scores))),
                    iqm(scores),
                    iqm_interval(scores, reps, seed),
                    _single(scores),
                )
            )
    return pd.DataFrame(
        out,
        columns=[
            *SETTING,
            "group",
            "method",
            "tasks",
            "missing",
            "seeds",
            "value",
            "low",
            "high",
            "note",
        ],
    )


def improvements(rows: Sequence[dict], over: str, reps: int = REPS, seed: int = 0) -> pd.DataFrame:
    """One line per setting, group and method: value = P(method > over), low, high, note, on those
    `tasks` of the group that both were run on.

    `missing` is the number of the group's other tasks, which `note` names.
    """
    out = []
    for part, tasks, frame in _each(rows):
        for method in methods(frame[frame["method"] != over]):
            without = [t for t in tasks if lacks(frame, [t], method) or lacks(frame, [t], over)]
            both = [t for t in tasks if t not in without]
            line = part | dict(method=method, over=over, tasks=len(both), missing=len(without))
            if not both:
                out.append(
                    _line(
                        line, np.nan, NOTHING, f"no task that {method} and {over} were both run on"
                    )
                )
                continue
            x, y = strata(frame, both, method), strata(frame, both, over)
            out.append(
                _line(
                    line,
                    improvement(x, y),
                    improvement_interval(x, y, reps, seed),
                    _single(x, y),
                    f"without {', '.join(without)}" if without else "",
                )
            )
    return pd.DataFrame(
        out,
        columns=[
            *SETTING,
            "group",
            "method",
            "over",
            "tasks",
            "missing",
            "value",
            "low",
            "high",
            "note",
        ],
    )


def profiles(rows: Sequence[dict], points: int = 200, seed: int = 0) -> pd.DataFrame:
    """Performance profiles: a line per setting, group, method and tau, with value (the share of
    runs above tau), low, high.

    Each group has `points` values of tau, from just below its lowest score to just above its
    highest. Methods that lack one of the group's tasks have no line.
    """
    out = []
    for part, tasks, frame in _each(rows):
        low, high = frame["score"].min(), frame["score"].max()
        # 0.5 where all scores are the same
        margin = 0.05 * (high - low) or 0.5
        taus = np.linspace(low - margin, high + margin, points)
        for method in [m for m in methods(frame) if not lacks(frame, tasks, m)]:
            scores = strata(frame, tasks, method)
            low, high = profile_band(scores, taus, seed=seed)
            out.append(
                pd.DataFrame(
                    part
                    | dict(method=method, tau=taus, value=profile(scores, taus), low=low, high=high)
                )
            )
    return (
        pd.concat(out, ignore_index=True)
        if out
        else pd.DataFrame(columns=[*SETTING, "group", "method", "tau", "value", "low", "high"])
    )
