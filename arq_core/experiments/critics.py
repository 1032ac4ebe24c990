"""Has a critic arrived? What it says along the recorded episodes, against what followed.

Rank correlation over all states hides a bad critic: in episodes of like course time alone explains
most of it. So it is taken among the transitions of one time, over episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from torch import Tensor

from arq_core.algorithm.types import QFunction, Transitions
from arq_core.baselines.returns import monte_carlo

ROWS = 4_096  # transitions at once
FEWEST = 5  # episodes that are still going on, for a rank correlation
BANDS = ((0, 25), (25, 75), (75, 125), (125, 175))  # steps of an episode, as in `summary`
HORIZONS = 20  # of the discount, in lags of the target: with fewer a critic has not arrived


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


def horizons_of_lag(steps: int, gamma: float, polyak: float) -> float:
    """How many horizons 1/(1 - gamma) the target's lags 1/(1 - polyak) cover in so many steps: what
    a one-step bootstrap has to walk before it says anything of an episode's end.
    """
    return steps * (1 - polyak) * (1 - gamma)
