"""Sample N in-support actions for every state of the dataset (the second line of Algorithm 1), and the K-th largest of Eq. 5."""
from __future__ import annotations

import time

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from arq_core.streams import Streams
from arq_core.train import CHECKPOINT_SECONDS
from arq_core.types import Behavior, Store, SupportSet

STATES_PER_BLOCK = 128   # one solve at a time; small enough for a core's cache, and part of the result (each block has its streams)


@torch.no_grad()
def sample_support(behavior: Behavior, states: Float[Tensor, "U S"], n: int, rng: Streams, store: Store, key: dict) -> SupportSet:
    """n candidates for each distinct state, with their log-density (nats), by every member's own behaviour model.

    States go through in fixed blocks whose random streams are named by the block, so a block's result depends on nothing else.
    Nothing is dropped here: epsilon is applied later, by `SupportSet.mask`. Interrupted, it goes on after the last saved block.
    """
    key = dict(key, n=n, block=STATES_PER_BLOCK, seeds=rng.seeds)
    if (done := store.load("support", key)) is not None:
        return SupportSet(done["actions"].to(rng.device), done["log_prob"].to(rng.device))
    blocks = states.split(STATES_PER_BLOCK)
    saved = {k: v.to(rng.device) for k, v in (store.load("support.partial", key) or {}).items()}
    actions = list(saved["actions"].split(STATES_PER_BLOCK, 1)) if saved else []
    log_prob = list(saved["log_prob"].split(STATES_PER_BLOCK, 1)) if saved else []
    before, start = float(saved.get("seconds", 0.0)), time.monotonic()
    saved_at = start

    def so_far():
        return dict(actions=torch.cat(actions, 1), log_prob=torch.cat(log_prob, 1),
                    seconds=torch.tensor(before + time.monotonic() - start, dtype=torch.float64))

    with tqdm(total=len(states), initial=min(len(actions) * STATES_PER_BLOCK, len(states)), desc="support", unit="state") as bar:
        for b in range(len(actions), len(blocks)):
            block = blocks[b].expand(len(rng), -1, -1)
            sampled = behavior.sample_with_log_prob(block, n, rng.fork("support", b))
            for kept, new in zip((actions, log_prob), sampled, strict=True):
                kept.append(new)
            bar.update(len(blocks[b]))
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                store.save("support.partial", key, so_far())
                saved_at = time.monotonic()
    result = so_far()
    store.save("support", key, result)
    store.discard("support.partial", key)
    return SupportSet(result["actions"], result["log_prob"])


def in_support_share(support: SupportSet, log_epsilon: float) -> Float[Tensor, "E"]:
    """The share of candidates that pass epsilon, for each member. Near 0, ARQ has become SARSA on the dataset's own next action."""
    return support.mask(log_epsilon).double().mean((1, 2))


def kth_largest(values: Float[Tensor, "... N"], mask: Bool[Tensor, "... N"], k: int) -> Float[Tensor, "..."]:
    """K-th [Q(s', a')] over the support, Eq. 5; K = 1 is the maximum. -inf where fewer than K candidates are in the support.

    What to do then is the caller's explicit choice (`qlearning.BOOTSTRAPS`), never an accident of sorting.
    """
    if not 1 <= k <= values.shape[-1]:
        raise ValueError(f"k: saw {k}, expected 1 to {values.shape[-1]}, the number of candidates.")
    return values.masked_fill(~mask, -torch.inf).topk(k, dim=-1).values[..., -1]
