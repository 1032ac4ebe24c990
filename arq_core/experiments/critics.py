"""Has a critic arrived? What it says along the recorded episodes, against what followed.

Rank correlation over all states hides a bad critic: in episodes of like course time alone explains
most of it. So it is taken among the transitions of one time, over episodes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from arq_core.algorithm.types import QFunction, SupportSet, Transitions, in_support
from arq_core.baselines.returns import monte_carlo
from arq_core.config.hyper import (
    HORIZONS,
    NEIGHBOURS,
    Budget,
    Hyper,
    horizons_of_lag,
    neighbours_walk,
)

ROWS = 4_096  # transitions at once
JUDGED = 1_000  # transitions at which recorded actions and candidates are compared
FEWEST = 5  # episodes that are still going on, for a rank correlation
BANDS = ((0, 25), (25, 75), (75, 125), (125, 175))  # steps of an episode, as in `summary`


@dataclass(frozen=True)
class Along:
    """A critic's values of the recorded actions, what followed them, and each transition's time in
    its episode.
    """

    said: Float[Tensor, "E M"]
    followed: Float[Tensor, " M"]
    time: Int[Tensor, " M"]

    def rank_correlation(self, low: int, high: int) -> Float[np.ndarray, " E"]:
        """Spearman's, among transitions of one time, averaged over times in [low, high); NaN where
        fewer than FEWEST episodes are that long.
        """
        from scipy.stats import spearmanr  # here: half a second of every row that asks for no table

        found = []
        for t in range(low, min(high, int(self.time.max()) + 1)):
            now = self.time == t
            if now.sum() < FEWEST or self.followed[now].unique().numel() < 2:
                continue
            found.append([spearmanr(x, self.followed[now]).statistic for x in self.said[:, now]])
        return np.mean(found, 0) if found else np.full(len(self.said), np.nan)

    def summary(self) -> dict:
        """Means over seeds: value said and followed, their distance, and rank correlation at equal
        time by BANDS.
        """
        error = (self.said - self.followed).square().mean(1).sqrt()
        bands = {f"{a}-{b}": self.rank_correlation(a, b).mean() for a, b in BANDS}
        return dict(
            said=self.said.mean().item(),
            followed=self.followed.mean().item(),
            rms_error=error.mean().item(),
            rank_correlation={k: float(v) for k, v in bands.items() if np.isfinite(v)},
        )


@torch.no_grad()
def along_the_data(data: Transitions, q: QFunction, gamma: float, members: int) -> Along:
    """The critic of each of `members` seeds at every recorded transition; what followed is the
    discounted return (`returns.monte_carlo`), reward units.
    """
    said = []
    for m in torch.arange(len(data.rewards), device=data.rewards.device).split(ROWS):
        states, actions = data.states[data.state[m]], data.actions[m, None]
        said.append(q(states.expand(members, -1, -1), actions.expand(members, -1, -1, -1)))
    start = torch.ones_like(data.terminals)
    start[1:] = data.episode[1:] != data.episode[:-1]
    first = torch.where(start, torch.arange(len(start), device=start.device), 0).cummax(0).values
    time = torch.arange(len(start), device=start.device) - first
    return Along(torch.cat(said, 1).squeeze(-1).cpu(), monte_carlo(data, gamma).cpu(), time.cpu())


@torch.no_grad()
def of_candidates(
    data: Transitions, q: QFunction, support: SupportSet, log_epsilon: float
) -> tuple[Float[Tensor, " E"], Float[Tensor, " E"]]:
    """What a critic says on average of recorded actions, and of the candidates in the support in
    their place (NaN where there is none), by seed, reward units: at up to JUDGED transitions that
    lie equally far apart in the data."""
    count, device = len(data.actions), data.actions.device
    m = torch.linspace(0, count - 1, min(count, JUDGED), device=device).long()
    u, members = data.state[m], len(support.actions)
    states = data.states[u].expand(members, -1, -1)
    recorded = q(states, data.actions[m, None].expand(members, -1, -1, -1)).mean((1, 2))
    inside = in_support(support.log_prob[:, u], log_epsilon)
    drawn = q(states, support.actions[:, u]) * inside
    return recorded, drawn.sum((1, 2)) / inside.sum((1, 2))


def warn_of_short_walks(data: Transitions, hyper: Hyper, budget: Budget, method: str) -> None:
    """A warning where the critic of a method walks fewer than HORIZONS horizons (config.hyper), on
    data whose episodes are longer than a horizon. Critics that begin as returns have no such way
    to go; a neighbour's does not begin so.
    """
    walked = {}
    if field := NEIGHBOURS.get(method):
        taken = getattr(budget, f"{field}_steps")
        far = neighbours_walk(getattr(hyper, field), hyper.gamma, taken)
        walked = {} if far is None else {field: far}
    elif not hyper.warm_start:
        walked = {
            name: horizons_of_lag(getattr(budget, f"{name}_steps"), hyper.gamma, hyper.polyak)
            for name in critics_of(method)
        }
    if int(data.episode.bincount().max()) < 1 / (1 - hyper.gamma):
        return
    for name, horizons in walked.items():
        if horizons < HORIZONS:
            warnings.warn(
                f"{method}: {name} takes {getattr(budget, f'{name}_steps'):,} steps, in which its "
                f"target lags by {horizons:.1f} horizons, expected {HORIZONS} or more: its values "
                "have not arrived, and a policy that chooses by them may do worse than the clone "
                "(the book's page on critics). Raise the steps.",
                stacklevel=2,
            )


def critics_of(method: str) -> list[str]:
    """The steps of a method that bootstrap: "q" or "q_beta"."""
    if method == "q_beta+s_psi":
        return ["q_beta"]
    return ["q"] if method.startswith("arq") else []
