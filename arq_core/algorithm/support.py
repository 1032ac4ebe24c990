"""Sample N in-support actions for every state of the dataset (the second line of Algorithm 1), and the K-th largest of Eq. 5."""
from __future__ import annotations

import time

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm.types import Behavior, SupportSet
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams

# States whose candidates are drawn from one set of streams, and kept as one file. Part of the result: the streams are named by the block
STATES_PER_BLOCK = {"cpu": 128, "cuda": 8192}


@torch.no_grad()
def sample_support(behavior: Behavior, states: Float[Tensor, "U S"], n: int, rng: Streams, store: Store, key: dict,
                   part: tuple[int, int] = (0, 1)) -> SupportSet | None:
    """n candidates for each distinct state, with their log-density (nats), by every member's own behaviour model.

    States go through in fixed blocks whose random streams are named by the block, so a block's result depends on nothing else: not on
    who computes it, nor when. `part` = (i, p) computes only every p-th block from the i-th on, so that p processes or machines with one
    store share the work; who finds every block done returns the whole set, the others None. Each block goes to the store when it is
    done: memory holds one block, and an interrupted run loses one. Nothing is dropped here: epsilon is applied later, by
    `SupportSet.mask`.
    """
    if not 0 <= part[0] < part[1]:
        raise ValueError(f"part: saw {part}, expected (i, p) with 0 <= i < p: part i of p.")
    block = STATES_PER_BLOCK[rng.device.type]
    key = dict(key, n=n, block=block, seeds=rng.seeds)
    count = -(-len(states) // block)
    blocks = store.blocks("support", key, count)
    if (done := store.load("support", key)) is not None:
        blocks.clear()
        return SupportSet(done["actions"].to(rng.device), done["log_prob"].to(rng.device))
    mine = range(part[0], count, part[1])
    finished = blocks.finished()
    with tqdm(total=len(mine) * block, initial=sum(b in finished for b in mine) * block, desc="support", unit="state", mininterval=1.0) as bar:
        for b in mine:
            if b in finished or blocks.has(b):                                # perhaps another process has done it meanwhile
                continue
            start, some = time.monotonic(), states[b * block:(b + 1) * block]
            actions, log_prob = behavior.sample_with_log_prob(some.expand(len(rng), -1, -1), n, rng.fork("support", b))
            blocks.save(b, dict(actions=actions, log_prob=log_prob, seconds=_seconds_since(start)))
            bar.update(block)
    if (whole := blocks.join(axis=1)) is None:
        return None
    return SupportSet(whole["actions"].to(rng.device), whole["log_prob"].to(rng.device))


def _seconds_since(start: float) -> Tensor:
    return torch.tensor(time.monotonic() - start, dtype=torch.float64)


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
