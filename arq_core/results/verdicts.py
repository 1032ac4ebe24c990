"""Whether a number of ours reproduces the paper's: one rule, `verdict`, and the constants it rests
on.

The paper gives a cell as mean ± standard deviation over three seeds, and so do we. Two tests
compare them, each at the level LEVEL: Welch's t-test of the means (spreads of the two may differ)
and the F-test of the spreads, one-sided: ours must not be wider. Where neither finds a difference,
the cell counts as reproduced. The second test is there because the first alone would be easiest to
pass for a method of ours that is so unsteady that it agrees with anything. Three seeds find large
differences only: each verdict says how large one had to be.

A number that was made with less than the paper's budget, or from other data, gets no verdict but
`not comparable`, whatever it is; so does every number beside a cell that the paper borrowed from
other data, or from a run that was chosen by its score (`Paper.unfit`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import fdtri, stdtrit

from arq_core.config import settings
from arq_core.config.hyper import HORIZONS, NEIGHBOURS, horizons_of_lag, neighbours_walk

# a newcomer's reading of each word, in the order of the legend
WORDS = {
    "reproduced": "at the paper's budget, on the paper's data, tests find no difference from "
    "the paper's mean, and our spread is not wider",
    "not reproduced": "at the paper's budget, on the paper's data, a test finds a difference",
    "smoke test": "it ran from end to end, with a budget so small that the number says nothing: it "
    "is set beside nothing, and no test uses it",
    "not comparable": "we have a number, but a smaller budget, other data or a gap in the "
    "paper's table forbids a verdict",
    "failed": "the last run of this cell ended in an error",
    "not run": "nobody has run it yet; this is not a zero",
}
SMOKE_TEST = "smoke test"
# of each test: where nothing differs, about one cell in twenty is still called different by either
LEVEL = 0.05
PAPER_SEEDS = 3  # the paper's section 5: "100 episodes, 3 seeds"
PAPER_EPISODES = 100
# the paper's means are printed without decimals: 9 stands for 8.5 to 9.5, and nothing finer can be
# compared
ROUNDING = 0.5
COMPARABLE = ("official", "rebuilt")  # fidelities whose rows may stand beside the paper's number


@dataclass(frozen=True)
class Ours:
    """A number of ours. `short` says in words what its run had less of than the paper's, where
    its budget was recorded (`shortfall`).
    """

    mean: float
    std: float | None
    seeds: int
    episodes: int
    profile: str
    fidelity: str
    short: tuple[str, ...] = ()
    smoke_test: bool = False  # rows.smoke_test


@dataclass(frozen=True)
class Paper:
    """A cell of the paper; a mean that is None is "illegible" or "not reported", as `state`
    says. `unfit` is why no number of ours may be judged by it, in words; "" where it may.
    """

    state: str
    mean: float | None = None
    std: float | None = None
    unfit: str = ""


@dataclass(frozen=True)
class Verdict:
    """One of WORDS, and why, in a sentence or two."""

    word: str
    reason: str


def _known(x: float | None) -> bool:
    return x is not None and math.isfinite(x)


def difference(
    mean: float, std: float | None, paper_mean: float | None, paper_std: float | None
) -> float | None:
    """(ours - paper) / sqrt(s_ours^2 + s_paper^2): how far apart two numbers are, in units of the
    spread that one seed of each has together.

    Both s are standard deviations over seeds (ours with divisor n - 1; the paper does not say
    which). None where a mean or a spread is missing, or where neither side has any spread. It is a
    distance to read, not a test: that also needs the number of seeds (`margin`).
    """
    if not all(map(_known, (mean, std, paper_mean, paper_std))) or not (
        spread := math.hypot(std, paper_std)
    ):
        return None
    return (mean - paper_mean) / spread


def margin(std: float, seeds: int, paper_std: float, paper_seeds: int = PAPER_SEEDS) -> float:
    """How far two means may be apart, in points, before Welch's t-test at LEVEL (two-sided) calls
    them different; with the paper's rounding.

    Welch, Biometrika 34, 1947, with Satterthwaite's degrees of freedom.
    """
    ours, paper = std**2 / seeds, paper_std**2 / paper_seeds
    if ours + paper == 0:
        return ROUNDING
    freedom = (ours + paper) ** 2 / (ours**2 / (seeds - 1) + paper**2 / (paper_seeds - 1))
    return ROUNDING + float(stdtrit(freedom, 1 - LEVEL / 2)) * math.sqrt(ours + paper)


def widest(seeds: int, paper_std: float, paper_seeds: int = PAPER_SEEDS) -> float:
    """The widest spread of ours that an F-test at LEVEL (one-sided) does not call wider than the
    paper's; with three seeds each, 4.4 times that.

    The paper's spread counts as at least its rounding: between means without decimals nothing
    narrower shows.
    """
    return math.sqrt(float(fdtri(seeds - 1, paper_seeds - 1, 1 - LEVEL))) * max(paper_std, ROUNDING)


def labelled(profile: str) -> str:
    """A profile's name, and whether it trains by a recipe of its own (recipes.toml)."""
    recipe = settings.recipe(profile) if profile in settings.profiles() else ""
    return f"{profile}, a recipe of its own" if recipe else profile


def shortfall(
    budget: Mapping, steps: Mapping[str, int], hyper: Mapping | None = None, method: str = ""
) -> tuple[str, ...]:
    """What a recorded budget has less of than the training `steps` of that group
    (settings.paper_steps), in words: than the paper's, or than its authors' where `method` is a
    neighbour. With the recorded `hyper`, how far critics walked.
    """
    hyper, field = hyper or {}, NEIGHBOURS.get(method, "")
    theirs = {*NEIGHBOURS.values()}
    wanted = [n for n in steps if (n == field if field else n not in theirs)]

    def walk(name: str) -> str:
        if name not in ("q", "q_beta", field) or not {"gamma", "polyak"} <= hyper.keys():
            return ""
        if not field and hyper.get("warm_start"):
            return f", after {hyper['warm_start']:,} on returns"
        gamma, taken = hyper["gamma"], budget[f"{name}_steps"]
        walked = (
            neighbours_walk(hyper.get(field, {}), gamma, taken)
            if field
            else horizons_of_lag(taken, gamma, hyper["polyak"])
        )
        if walked is None or walked >= HORIZONS:
            return ""
        return f", {walked:.1f} horizons of target lag"

    short = [
        f"{budget[f'{name}_steps']:,} of {steps[name]:,} training steps ({name}{walk(name)})"
        for name in wanted
        if budget.get(f"{name}_steps", steps[name]) < steps[name]
    ]
    if budget.get("transitions"):
        short.append(f"at most {budget['transitions']:,} transitions of the data")
    return tuple(short)


def _not_comparable(ours: Ours, paper: Paper | None) -> list[str]:
    """Why a number of ours may not be judged by the paper's; empty where it may."""
    why = []
    if paper is None:
        why.append(f"The paper has no such dataset ({ours.fidelity} data).")
    elif ours.fidelity not in COMPARABLE:
        why.append(f"Other data than the paper's ({ours.fidelity}).")
    if paper and paper.unfit:
        why.append(f"{paper.unfit[0].upper()}{paper.unfit[1:]}.")
    short = list(ours.short)
    if ours.seeds < PAPER_SEEDS or ours.episodes < PAPER_EPISODES:
        short.append(
            f"{ours.seeds} × {ours.episodes} (seeds × episodes), the paper "
            f"{PAPER_SEEDS} × {PAPER_EPISODES}"
        )
    if short or ours.profile != "paper":
        why.append(
            "A smaller budget than the paper's: profile "
            f"{labelled(ours.profile)}{''.join(f'; {s}' for s in short)}."
        )
    if paper and not _known(paper.mean):
        unread = "The paper's number cannot be read in the copy this book was made from."
        why.append(unread if paper.state == "illegible" else "The paper reports no number here.")
    elif paper and not _known(paper.std):
        why.append(
            "The paper gives no spread over seeds here, so nothing says what chance "
            f"alone would do; the means are {ours.mean - paper.mean:+.1f} points apart."
        )
    return why


def verdict(ours: Ours | None, paper: Paper | None, failure: Mapping | None = None) -> Verdict:
    """The rule. `failure` (an entry of _build/grid/failed.json) comes first, then what cannot be
    judged, then the two tests.
    """
    if failure:
        kept = " The number is of an earlier run." if ours else ""
        error = (failure["error"].splitlines() or ["no message"])[0]
        return Verdict(
            "failed",
            f"Step {failure['step']} of the last run ended in an error: {error}. Log: "
            f"{failure['log']}.{kept}",
        )
    if ours is None:
        return Verdict("not run", "No run of it is recorded.")
    if ours.smoke_test:
        return Verdict(
            SMOKE_TEST,
            f"Profile {ours.profile} has for this dataset a budget that shows whether everything "
            "runs, and nothing else.",
        )
    if why := _not_comparable(ours, paper):
        return Verdict("not comparable", " ".join(why))
    apart, most = ours.mean - paper.mean, margin(ours.std, ours.seeds, paper.std)
    bound = widest(ours.seeds, paper.std)
    if abs(apart) > most:
        return Verdict(
            "not reproduced",
            f"Ours is {'higher' if apart > 0 else 'lower'}: {apart:+.1f} points, where "
            f"chance would explain {most:.1f}.",
        )
    if ours.std > bound:
        return Verdict(
            "not reproduced",
            f"The means agree ({apart:+.1f} points), but ours is less steady: a spread "
            f"of {ours.std:.1f} over seeds, where the paper's {paper.std:.1f} would "
            f"allow {bound:.1f}.",
        )
    return Verdict(
        "reproduced",
        f"The means are {apart:+.1f} points apart; a difference would have been "
        f"noticed from {most:.1f} points on.",
    )
