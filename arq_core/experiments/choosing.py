"""Choosing without a simulator: epsilon, alpha, K and methods, ranked by what fitted Q evaluation
says of their policies on episodes that none of them learned from.

How far that may be trusted is measured where the truth is known: benchmarks/choosing_blind.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.arq import behavior_support
from arq_core.algorithm.behavior import ScoreBehavior
from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.types import DataError, Policy, SupportSet, Transitions
from arq_core.baselines import importance
from arq_core.baselines.fqe import Fitting, actions_of, fit_fqe
from arq_core.config import settings
from arq_core.config.labels import in_words
from arq_core.datasets.dataset import Dataset, thin
from arq_core.datasets.readers.saved import as_float32, read_saved
from arq_core.densities.conformal import recordings
from arq_core.engine.store import Store, fingerprint
from arq_core.engine.streams import Streams, derive_seed
from arq_core.experiments.experiment import Experiment, check_values, learned_from, train
from arq_core.experiments.methods import METHODS
from arq_core.results.calibration import half_width
from arq_core.results.measured import measured
from arq_core.results.records import ResultsError

N = TypeVar("N", int, float)
SHARE = 0.3  # of the episodes that are held out
FITTING = Fitting()
FEWEST = 20  # episodes, of which SHARE is held out
# the alpha of a method, the methods that have an epsilon, and those that have a K
ALPHA = {"arq+s_psi": "alpha_arq", "arq+pi": "alpha_pi", "q_beta+s_psi": "alpha_q_beta"}
RESTRICTED = ("arq+s_psi", "arq+pi")
# whose step has the critic of a policy that does not show it
CRITIC_OF = {"arq+pi": "arq+s_psi"}
# what `trust` tells of a calibration
TOLD = {"rank_correlation", "rank_correlation_interval", "policies", "regret_at_1", "range"}


@dataclass(frozen=True)
class Candidate:
    """A method with changed hyperparameters."""

    method: str
    changes: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a table calls it: its method, and what was chosen for it."""
        chosen = dict(self.changes)
        said = []
        if (epsilon := chosen.pop("log_epsilon", None)) is not None:
            said.append("ε off" if epsilon == -math.inf else f"ε e^{epsilon:g}")
        if (k := chosen.pop("k", None)) is not None:
            said.append(f"K {k}")
        said += [f"α {value:g}" for value in chosen.values()]
        return ", ".join([in_words(self.method), *said])


def grid(
    e: Experiment,
    methods: Sequence[str],
    log_epsilons: Sequence[float] = (),
    times_alpha: Sequence[float] = (),
    ks: Sequence[int] = (),
) -> list[Candidate]:
    """Every method with every epsilon (log, nats; -inf: no filter), alpha (as multiples of the
    group's own) and K that it has; nothing given is the group's own. UnknownName for a method or a
    value that is not known."""
    found = []
    for method in methods:
        settings.pick("method", method, METHODS)
        own = ALPHA.get(method)
        alphas = [x * getattr(e.hyper, own) for x in times_alpha or (1.0,)] if own else [None]
        restricted = method in RESTRICTED
        epsilons = log_epsilons or (e.hyper.log_epsilon,) if own else [None]
        several = ks or (e.hyper.k,) if restricted else [None]
        for epsilon, k, alpha in product(epsilons, several, alphas):
            changes = {"log_epsilon": epsilon, "k": k, own: alpha}
            changes = {name: v for name, v in changes.items() if name and v is not None}
            check_values(settings.with_changes(e.hyper, changes, "choose"), e.budget)
            found.append(Candidate(method, changes))
    if not found:
        raise settings.UnknownName(f"choose: saw no method, expected of {', '.join(METHODS)}.")
    return [c for i, c in enumerate(found) if c not in found[:i]]


def hold_out(e: Experiment) -> tuple[Experiment, Dataset]:
    """The experiment with the episodes that are learned from, and the others, with the rewards as
    recorded and as many of them as the profile affords. DataError for too few episodes."""
    data = e.recorded.transitions
    count = len(recordings(data))
    if count < FEWEST:
        raise DataError(
            f"{e.task.task}: saw {count} episode{'s' if count > 1 else ''}, expected {FEWEST} or "
            f"more, of which {SHARE:.0%} are held out so that policies are judged on what they did "
            "not learn from; record more, or say where episodes end (terminals, timeouts)."
        )
    order = torch.randperm(
        count, generator=torch.Generator().manual_seed(derive_seed("held out", count))
    )
    held = torch.zeros(count, dtype=torch.bool)
    held[order[: round(SHARE * count)]] = True
    begins = torch.zeros(len(data.actions), dtype=torch.long)
    begins[recordings(data)] = 1
    of_row = held[begins.cumsum(0) - 1]
    learn, rest = (_selected(e.recorded, rows) for rows in (~of_row, of_row))
    learned = learned_from(learn, e.hyper.reward, e.budget)
    return replace(e, dataset=learned, recorded=learn), thin(rest, e.budget.transitions)


def _selected(dataset: Dataset, rows: Tensor) -> Dataset:
    chosen = rows.nonzero().squeeze(1)
    recorded = None if dataset.recorded is None else dataset.recorded[chosen]
    transitions = dataset.transitions.select(chosen)
    return replace(dataset, transitions=transitions, recorded=recorded)


@dataclass(frozen=True)
class Judged:
    """A candidate and what is said of its policies of E seeds, reward units, discounted.

    `fqe` by H heads; `own` what the learner's critic says where episodes begin (None: it has none);
    `weighted` the importance-sampled return (None: no density), and of how many episodes that
    speaks.
    """

    candidate: Candidate
    fqe: Float[np.ndarray, "E H"]
    own: Float[np.ndarray, " E"] | None = None
    weighted: Float[np.ndarray, " E"] | None = None
    episodes: Float[np.ndarray, " E"] | None = None

    @property
    def value(self) -> float:
        """The mean over seeds and heads."""
        return float(self.fqe.mean())

    @property
    def half_width(self) -> float:
        """Of its 95% interval, by the heads' means over seeds."""
        return half_width(self.fqe.mean(0))


@dataclass(frozen=True)
class Judge:
    """Judges candidates of an experiment, whose data are those to be learned from, by the held-out
    transitions. `starts` [N, S] are states in which episodes will begin, where they are known and
    others than the recorded beginnings."""

    e: Experiment
    held: Transitions
    how: Fitting = FITTING
    starts: Float[Tensor, "N S"] | None = None

    @property
    def beginnings(self) -> Float[Tensor, "N S"]:
        """States in which episodes begin."""
        if self.starts is not None:
            return self.starts
        return self.held.states[self.held.state[recordings(self.held)]]

    @cached_property
    def supports(self) -> dict[str, SupportSet]:
        """Candidates at the held-out states of each clone that was met: policies share them."""
        return {}

    def trained(self, candidate: Candidate) -> Policy:
        """Its policy of all seeds."""
        hyper = settings.with_changes(self.e.hyper, candidate.changes, "choose")
        return train(replace(self.e, hyper=hyper), candidate.method).policy

    def support(self, policy: Policy, store: Store) -> SupportSet | None:
        """What its clone draws at the held-out states; None where nothing is chosen among them."""
        if not isinstance(policy, ImplicitPolicy) or policy.q is None:
            return None
        if not isinstance(policy.behavior, ScoreBehavior):
            return None
        name = f"{fingerprint(policy.behavior.net.state_dict())}, {policy.n}"
        if name not in self.supports:
            hyper = replace(self.e.hyper, n=policy.n)
            given = self.held, policy.behavior, hyper, self.e.rng.fork("choosing"), store
            self.supports[name] = behavior_support(*given)
        return self.supports[name]

    def judge(self, candidate: Candidate, sampled: bool = False) -> Judged:
        """What is said of a candidate; with `sampled`, importance sampling too."""
        policy, rng, store = self.trained(candidate), self.e.rng.fork("judge"), self.e.store()
        gamma, draws, found = self.e.hyper.gamma, self.how.draws, {}
        support = self.support(policy, store)
        if isinstance(policy, ImplicitPolicy) and support is not None:
            next_actions = importance.drawn_by(policy, self.held.states, support, draws, rng)
        else:
            next_actions = actions_of(policy, self.held.states, draws, rng)
        heads = Streams(range(self.how.heads), self.e.rng.device)
        fitted = fit_fqe(self.held, next_actions, gamma, self.how, heads, store)
        if self.starts is None:
            begin = next_actions[:, self.held.state[recordings(self.held)]]
        else:
            begin = actions_of(policy, self.starts, draws, rng)
        estimates = fitted.estimates(self.beginnings, begin, self.starts is None)
        if (own := self.own(candidate, policy, begin)) is not None:
            found["own"] = own.double().cpu().numpy()
        if sampled and isinstance(policy, ImplicitPolicy) and (support or policy.q is None):
            ratio = importance.ratios(policy, self.held, support, rng)
            weighted, episodes = importance.weighted_return(self.held, ratio, gamma)
            found["weighted"], found["episodes"] = weighted.cpu().numpy(), episodes.cpu().numpy()
        return Judged(candidate, estimates.double().cpu().numpy(), **found)

    @torch.no_grad()
    def own(self, candidate: Candidate, policy: Policy, begin: Tensor) -> Tensor | None:
        """What the learner's own critic says at the beginnings, in the units it learned in."""
        if candidate.method in CRITIC_OF:
            policy = self.trained(replace(candidate, method=CRITIC_OF[candidate.method]))
        q = getattr(policy, "q", None)
        if q is None:
            return None
        states = self.beginnings.expand(len(begin), -1, -1)
        return q(states, begin).mean((1, 2))


def choose(
    e: Experiment,
    candidates: Sequence[Candidate],
    how: Fitting = FITTING,
    starts: np.ndarray | None = None,
) -> list[Judged]:
    """Train every candidate on a part of the episodes, judge it by the others, and return what is
    said of each, the highest value first. `starts` [N, S]: states in which episodes will begin,
    where they are others than the recorded beginnings. DataError for too few episodes, for data
    without rewards, and for starts of another size."""
    learned, held = hold_out(e)
    if not held.transitions.rewards.any():
        raise DataError(
            f"{e.task.task}: saw rewards of 0 in all {len(held.transitions.rewards):,} transitions "
            "that were held out, expected some others; without them all policies are worth the "
            "same: record rewards, or more episodes."
        )
    begun = None if starts is None else _usable_starts(starts, learned.dataset.state_dim)
    judge = Judge(learned, held.transitions, how, begun)
    return sorted((judge.judge(c) for c in candidates), key=lambda j: -j.value)


def _usable_starts(starts: np.ndarray, width: int) -> Float[Tensor, "N S"]:
    x = np.asarray(starts)
    numbers = x.dtype.kind in "fiu"
    if not numbers or x.ndim != 2 or x.shape[1] != width or not len(x):
        raise DataError(
            f"starts: saw an array of {x.dtype} and shape {x.shape}, expected finite numbers "
            f"[N, {width}], a state a row, as in the data; write it with numpy.save."
        )
    kept = as_float32(x)
    if (bad := ~np.isfinite(kept).all(1)).any():
        raise DataError(
            f"starts: saw {int(bad.sum()):,} states (the first in row {int(bad.argmax()):,}) with "
            f"entries that are not finite as float32, expected finite numbers [N, {width}]; drop "
            "or repair these rows."
        )
    return torch.from_numpy(kept)


def behind(first: Judged, other: Judged) -> tuple[float, float]:
    """By how much `other` is estimated to be below `first`, and the half width of that difference's
    95% interval: both were judged by the same heads on the same episodes, so it is narrower than
    those of the two values."""
    difference = first.fqe.mean(0) - other.fqe.mean(0)
    return float(difference.mean()), half_width(difference)


def table(ranked: Sequence[Judged]) -> pd.DataFrame:
    """A candidate a row, as ranked: its value with the 95% interval, how far it is below the first
    and whether that is more than the uncertainty, and what its own critic says."""
    rows = {}
    for judged in ranked:
        less, width = behind(ranked[0], judged)
        apart = "apart" if _apart(ranked[0], judged) else "within uncertainty"
        rows[judged.candidate.name] = {
            "value": f"{judged.value:.3f} ± {judged.half_width:.3f}",
            "below the first": "" if judged is ranked[0] else f"{less:.3f} ± {width:.3f}",
            "": "the first" if judged is ranked[0] else apart,
            "own critic": "" if judged.own is None else f"{judged.own.mean():.3f}",
        }
    return pd.DataFrame(rows).T


def trust() -> str:
    """What is known of such a choice: its rank correlation and regret where a simulator tells the
    truth, out of data/benchmarks/choosing_blind.json. ResultsError where that does not say it."""
    tasks = measured("choosing_blind").get("tasks", {})
    known = {name: task.get("calibration", {}).get("fqe", {}) for name, task in tasks.items()}
    without = [name for name, c in known.items() if not c.keys() >= TOLD]
    if without or not known:
        seen = f"{', '.join(without)} without" if known else "no task with"
        raise ResultsError(
            f"data/benchmarks/choosing_blind.json: saw {seen} its calibration, expected one "
            "of each task, which benchmarks/choosing_blind.py writes when a task's last policy is "
            "measured; run it to its end, or restore the file."
        )
    lines = ["Where a simulator tells the truth, of the same estimate:"]
    for name, c in known.items():
        low, high = c["rank_correlation_interval"]
        lines.append(
            f"  {name}: rank correlation with the returns {c['rank_correlation']:.2f} "
            f"({low:.2f} to {high:.2f}) over {c['policies']} policies; the first by it returned "
            f"{c['regret_at_1']:.3g} less than the best, of a range of {c['range']:.3g}"
        )
    return "\n".join(lines)


def asked(
    e: Experiment, methods: str, epsilons: str = "", alphas: str = "", ks: str = ""
) -> list[Candidate]:
    """The `grid` that texts of a command ask for: words with commas or spaces between, of epsilons
    logs in nats or "off". UnknownName for one that is not understood."""
    several = [_words(x) for x in (methods, epsilons, alphas)]
    logs = [-math.inf if x == "off" else _number("epsilons", x, float) for x in several[1]]
    times = [_number("alphas", x, float) for x in several[2]]
    if bad := [x for x in logs if math.isnan(x) or x == math.inf]:
        raise settings.UnknownName(f"epsilons: saw {bad[0]:g}, expected logs in nats, such as -5.")
    if bad := [x for x in times if not 0 <= x < math.inf]:
        raise settings.UnknownName(f"alphas: saw {bad[0]:g}, expected 0 or more, such as 0.1.")
    return grid(e, several[0], logs, times, whole_numbers("ks", ks))


def whole_numbers(option: str, text: str) -> list[int]:
    """Those of a text; UnknownName for another word."""
    return [_number(option, x, int) for x in _words(text)]


def read_starts(path: str | Path) -> np.ndarray:
    """An array of numpy.save; DataError for a file that is none (pickled objects are not read)."""
    return read_saved(path, "states [N, S]")


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _number(option: str, word: str, kind: type[N]) -> N:
    try:
        return kind(word)
    except ValueError as error:
        more = ', or the word "off"' if option == "epsilons" else ""
        raise settings.UnknownName(
            f"{option}: saw {word!r}, expected {'whole ' if kind is int else ''}numbers{more}, "
            "with commas between."
        ) from error


def said(ranked: Sequence[Judged]) -> str:
    """The table, what it leaves open, and what is known of such choices, as text; where nothing can
    be read of that, why: a ranking that took hours is shown all the same."""
    first = ranked[0]
    close = [j for j in ranked[1:] if not _apart(first, j)]
    open_ = (
        f"Within uncertainty of the first: {len(close)} of {len(ranked) - 1}."
        if len(ranked) > 1
        else "There was one policy: nothing to choose."
    )
    try:
        known = trust()
    except ResultsError as error:
        known = f"What such a choice is worth is not known here: {error}"
    return f"{table(ranked).to_string()}\n\n{open_}\n{known}"


def _apart(first: Judged, other: Judged) -> bool:
    less, width = behind(first, other)
    return less > width
