"""Score models of problems with data of their own, trained as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.behavior import ScoreBehavior, key_of_scores, match_scores
from arq_core.algorithm.nets import Normalizer
from arq_core.algorithm.types import Pairs
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store, fingerprint
from arq_core.engine.streams import Streams


def fit_members(
    states: Float[Tensor, "E M S"],
    actions: Float[Tensor, "E M A"],
    hyper: Hyper,
    budget: Budget,
    rng: Streams,
    store: Store,
    keep_at: Sequence[int] = (),
) -> dict[int, ScoreBehavior]:
    """`fit_behavior` for members that have data of their own, standardised member by member: E
    problems trained as one batch. Returns the models by the number of steps taken: at each of
    `keep_at` on the way, and the final one last. They are to be looked at, by a solve or two.
    ValueError for steps that are none of the training's.
    """
    if wrong := [k for k in keep_at if not 0 <= k < budget.score_steps]:
        last = budget.score_steps - 1
        raise ValueError(f"keep_at: saw {wrong}, expected steps from 0 to {last}.")
    of_state, of_action = (Normalizer.of(x, keepdim=True) for x in (states, actions))
    member = torch.arange(len(rng), device=rng.device).repeat_interleave(hyper.ensemble)[:, None]
    pairs = Pairs(of_state(states), of_action(actions), None, member)
    data = fingerprint(dict(states=states, actions=actions))
    key = dict(key_of_scores(data, hyper, budget, rng), keep_at=list(keep_at))
    average, kept, curve = match_scores(pairs, key, hyper, budget, rng, store, keep_at)
    of_action = Normalizer(of_action.mean[:, None], of_action.scale[:, None])  # [E 1 1 A]
    return {
        k: ScoreBehavior(net, hyper.ensemble, of_state, of_action, budget, curve, calls=50)
        for k, net in [*kept.items(), (budget.score_steps, average)]
    }
