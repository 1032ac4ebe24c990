"""A causal transformer, a batch of members as the other networks: GPT-2's (Radford et al. 2019)
with one head, ReLU units and no embedding of positions, as the Decision Transformer has it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.algorithm.nets import Linear
from arq_core.baselines.networks import LayerNorm, dropped
from arq_core.engine.streams import Streams

LAYER_NORM_EPS = 1e-5  # GPT-2's

WEIGHT_STD = 0.02  # of the initial weights of every block; biases are 0
WIDER = 4  # units of a block's hidden layer, in widths


def causal(seen: Bool[Tensor, "E B T"]) -> Bool[Tensor, "E B T T"]:
    """Which token (last axis) each token attends to: those up to itself that are `seen`, and
    itself, so that one that is not seen attends to something."""
    earlier = torch.ones(seen.shape[-1], seen.shape[-1], dtype=torch.bool, device=seen.device)
    itself = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
    return (earlier.tril() & seen[:, :, None]) | itself


class Block(nn.Module):
    """x + attention(norm(x)), then x + layers(norm(x)) (Radford et al. 2019, 2.3)."""

    def __init__(self, width: int, rng: Streams, dropout: float):
        super().__init__()
        self.before_attention, self.before_layers = (
            LayerNorm(len(rng), width, LAYER_NORM_EPS) for _ in range(2)
        )
        self.attention = Linear(width, 3 * width, rng)  # queries, keys, values
        self.mix = Linear(width, width, rng)
        self.wide = Linear(width, WIDER * width, rng)
        self.narrow = Linear(WIDER * width, width, rng)
        self.dropout = dropout

    def forward(
        self,
        x: Float[Tensor, "E R W"],
        may_see: Bool[Tensor, "E B T T"],
        rng: Streams | None = None,
    ) -> Float[Tensor, "E R W"]:
        """R = B·T rows, T of them a sequence; with `rng`, units and weights of the attention are
        dropped."""
        rows = may_see.shape[1:3]
        q, k, v = self.attention(self.before_attention(x)).unflatten(1, rows).chunk(3, -1)
        scores = (q @ k.mT) / math.sqrt(x.shape[-1])
        weights = scores.masked_fill(~may_see, torch.finfo(scores.dtype).min).softmax(-1)
        weights = dropped(weights.flatten(1, 2), self.dropout, rng).unflatten(1, rows)
        x = x + dropped(self.mix((weights.to(v.dtype) @ v).flatten(1, 2)), self.dropout, rng)
        h = F.relu(self.wide(self.before_layers(x)))
        return x + dropped(self.narrow(h), self.dropout, rng)


class Transformer(nn.Module):
    """E transformers of so many blocks, between two normalisations of the rows."""

    def __init__(self, width: int, layers: int, rng: Streams, dropout: float):
        super().__init__()
        self.first, self.last = (LayerNorm(len(rng), width, LAYER_NORM_EPS) for _ in range(2))
        self.blocks = nn.ModuleList(Block(width, rng, dropout) for _ in range(layers))
        self.dropout = dropout
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, Linear) and layer.bias is not None:
                    layer.weight.copy_(WEIGHT_STD * rng.randn(*layer.weight.shape[1:]))
                    layer.bias.zero_()

    def forward(
        self,
        tokens: Float[Tensor, "E B T W"],
        seen: Bool[Tensor, "E B T"],
        rng: Streams | None = None,
    ) -> Float[Tensor, "E B T W"]:
        """What each token becomes by those up to it that are `seen`; with `rng`, as in training."""
        may_see = causal(seen)
        x = dropped(self.first(tokens.flatten(1, 2)), self.dropout, rng)
        for block in self.blocks:
            x = block(x, may_see, rng)
        return self.last(x).unflatten(1, tokens.shape[1:3])
