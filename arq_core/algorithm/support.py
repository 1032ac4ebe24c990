"""Sample N actions for every state of the dataset (the second line of Algorithm 1), and the K-th
largest value of Eq. 5 among those in the support."""
from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from arq_core.algorithm.types import Behavior, SupportSet
from arq_core.engine.store import Store, in_blocks
from arq_core.engine.streams import Streams

# States whose candidates are drawn from one set of streams, and kept as one file. Part of the
# result: the streams are named by the block.
STATES_PER_BLOCK = {"cpu": 128, "cuda": 8192}


@torch.no_grad()
def sample_support(behavior: Behavior, states: Float[Tensor, "U S"], n: int, rng: Streams,
                   store: Store, key: dict, part: tuple[int, int] = (0, 1)) -> SupportSet | None:
    """n candidates for each distinct state, with log-density (nats), by every member's own model.

    States go through in fixed blocks whose random streams are named by the block, so a block's
    result depends on nothing else: not on who computes it, nor when. With `part` = (i, p), p
    processes share the work (`store.in_blocks`), and all but the last to end return None. Nothing
    is dropped here: epsilon is applied later, by `SupportSet.mask`.
    """
    block = STATES_PER_BLOCK[rng.device.type]

    def candidates(b: int) -> dict[str, Tensor]:
        some = states[b * block:(b + 1) * block].expand(len(rng), -1, -1)
        actions, log_prob = behavior.sample_with_log_prob(some, n, rng.fork("support", b))
        return dict(actions=actions, log_prob=log_prob)

    key, count = dict(key, n=n, block=block, seeds=rng.seeds), -(-len(states) // block)
    units = (block, "state")
    whole = in_blocks(store, "support", key, candidates, count, part, axis=1, units=units)
    if whole is None:
        return None
    return SupportSet(whole["actions"].to(rng.device), whole["log_prob"].to(rng.device))


def in_support_share(support: SupportSet, log_epsilon: float) -> Float[Tensor, " E"]:
    """The share of candidates that pass epsilon. Near 0, ARQ has become SARSA on the data's a'."""
    return support.mask(log_epsilon).double().mean((1, 2))


def kth_largest(values: Float[Tensor, "*rows N"], mask: Bool[Tensor, "*rows N"],
                k: int) -> Float[Tensor, "*rows"]:
    """K-th [Q(s', a')] over the support, Eq. 5; K = 1 is the maximum. -inf where fewer than K
    candidates are in the support.

    What to do then is the caller's explicit choice (`qlearning.BOOTSTRAPS`), never an accident of
    sorting.
    """
    if not 1 <= k <= values.shape[-1]:
        raise ValueError(f"k: saw {k}, expected 1 to {values.shape[-1]}, the number of candidates.")
    return values.masked_fill(~mask, -torch.inf).topk(k, dim=-1).values[..., -1]
