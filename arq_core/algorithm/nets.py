"""The few networks, each a batch of E members, and how their inputs are standardised.

Weights are [E, in, out], inputs [E, R, in], and a layer is one batched product. Member e computes
what it would compute alone, and starts from its own random stream. Nothing here couples members.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.engine.machine import product
from arq_core.engine.streams import Streams

STD_FLOOR = 0.05       # standard deviations are floored here before dividing; released code


@dataclass(frozen=True)
class Normalizer:
    """x -> (x - mean)/scale with scale = max(std, 0.05), and x -> 0 where std = 0 (released code).

    Of one set of data for all members [D], or of each member's own, with axes of 1 so that it
    broadcasts: [E, 1, D] or [E, 1, 1, D].
    """

    mean: Float[Tensor, "*axes D"]
    scale: Float[Tensor, "*axes D"]

    @classmethod
    def of(cls, x: Float[Tensor, "... M D"], keepdim: bool = False) -> Normalizer:
        """Mean and scale over the M rows of x; `keepdim` keeps an axis of 1 in their place."""
        x = x.double()
        mean, std = x.mean(-2, keepdim), x.std(-2, correction=0, keepdim=keepdim)
        scale = torch.where(std == 0, 0.0, std.clamp(min=STD_FLOOR))
        return cls(mean.float(), scale.float())

    def __call__(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """The standardised x."""
        return torch.where(self.scale == 0, 0.0, (x - self.mean) / self.scale.clamp(min=STD_FLOOR))

    def inverse(self, z: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """x of a standardised z, in raw units."""
        return self.mean + self.scale * z


class Linear(nn.Module):
    """E affine maps, initialised uniformly within 1/sqrt(in) as `torch.nn.Linear` is."""

    def __init__(self, inputs: int, outputs: int, rng: Streams, bias: bool = True):
        super().__init__()
        bound = 1 / math.sqrt(max(inputs, 1))
        self.weight = nn.Parameter((2 * rng.rand(inputs, outputs) - 1) * bound)
        self.bias = nn.Parameter((2 * rng.rand(1, outputs) - 1) * bound) if bias else None

    def forward(self, x: Float[Tensor, "E R in"]) -> Float[Tensor, "E R out"]:
        """x weight + bias."""
        y = product(x, self.weight)
        return y if self.bias is None else y.add_(self.bias)      # baddbmm would copy the bias

    def linear(self, x: Float[Tensor, "E *rows in"]) -> Float[Tensor, "E *rows out"]:
        """The map without its bias: what it does to a tangent."""
        return product(x.flatten(1, -2), self.weight).unflatten(1, x.shape[1:-1])


class ScoreNet(nn.Module):
    """The paper's score network (appendix A.2): residual blocks of two swish layers, and one
    embedding of the time, an affine map of Fourier features, added before each (released code).

    The first layer dense([a, s]) is kept as its two halves, so that the half that sees the state is
    computed once for all candidates and all solver steps. The output is sigma(t)·score(a, s, t).
    """

    frequencies: Tensor

    def __init__(self, state_dim: int, action_dim: int, width: int, blocks: int, rng: Streams):
        super().__init__()
        # Gaussian Fourier features, scale 30, fixed: as in the released code
        self.register_buffer("frequencies", 30 * rng.randn(1, width // 2))
        self.time = Linear(width, width, rng)
        self.of_state = Linear(state_dim, width, rng)
        self.of_action = Linear(action_dim, width, rng, bias=False)
        self.dense = nn.ModuleList(Linear(width, width, rng) for _ in range(2 * blocks))
        self.out = Linear(width, action_dim, rng)

    def embed_time(self, t: Float[Tensor, "E T"]) -> Float[Tensor, "E T W"]:
        """What is added before every layer at times t."""
        phase = 2 * math.pi * t[..., None] * self.frequencies
        return self.time(torch.cat([phase.sin(), phase.cos()], -1))

    def forward(self, actions: Float[Tensor, "E R A"], state: Float[Tensor, "E B W"],
                time: Float[Tensor, "E T W"]) -> Float[Tensor, "E R A"]:
        """sigma·score for embedded states and times.

        B and T divide R: R/B consecutive rows share a state, and R/T a time.
        """
        h = _add_shared(self.of_action(actions), state)
        for i in range(0, len(self.dense), 2):
            u = self.dense[i](F.silu(_add_shared(h, time)))
            h = h + self.dense[i + 1](F.silu(_add_shared(u, time)))
        return self.out(h)

    def jvp(self, actions: Float[Tensor, "E R A"], state: Float[Tensor, "E B W"],
            time: Float[Tensor, "E T W"], tangents: Float[Tensor, "E P R A"],
            ) -> tuple[Float[Tensor, "E R A"], Float[Tensor, "E P R A"]]:
        """The output and its derivatives along action tangents, by one forward-mode pass."""
        h, dh = _add_shared(self.of_action(actions), state), self.of_action.linear(tangents)
        for i in range(0, len(self.dense), 2):
            u, du = self._layer_jvp(self.dense[i], h, dh, time)
            u, du = self._layer_jvp(self.dense[i + 1], u, du, time)
            h, dh = h + u, dh + du
        return self.out(h), self.out.linear(dh)

    def _layer_jvp(self, layer: nn.Module, h: Tensor, dh: Tensor,
                   time: Tensor) -> tuple[Tensor, Tensor]:
        x, layer = _add_shared(h, time), cast(Linear, layer)
        gate = torch.sigmoid(x)
        swish = x * gate
        slope = torch.addcmul(gate + swish, swish, gate, value=-1)      # gate + swish·(1 - gate)
        return layer(swish), layer.linear(slope[:, None] * dh)


def _add_shared(h: Float[Tensor, "E R W"], x: Float[Tensor, "E G W"]) -> Float[Tensor, "E R W"]:
    """h + x in the type of h, where G divides R and R/G consecutive rows share a row of x."""
    return (h.unflatten(1, (x.shape[1], -1)) + x[:, :, None].to(h.dtype)).flatten(1, 2)


class Critic(nn.Module):
    """E critics Q(s, a): two layers of 256 ReLU units (appendix A.2), the first in two halves."""

    def __init__(self, state_dim: int, action_dim: int, rng: Streams, width: int = 256):
        super().__init__()
        self.of_state = Linear(state_dim, width, rng)
        self.of_action = Linear(action_dim, width, rng, bias=False)
        self.hidden = Linear(width, width, rng)
        self.out = Linear(width, 1, rng)

    def forward(self, states: Float[Tensor, "E B S"],
                actions: Float[Tensor, "E B n A"]) -> Float[Tensor, "E B n"]:
        """Values in reward units, summed in float32: half precision has 3 digits."""
        h = self.of_action.linear(actions)
        h = h + self.of_state(states)[:, :, None].to(h.dtype)
        h = F.relu(self.hidden(F.relu(h.flatten(1, 2))))
        values = (h.float() * self.out.weight.mT).sum(-1)
        if self.out.bias is not None:
            values = values + self.out.bias.squeeze(-1)
        return values.view(actions.shape[:3])


class MLP(nn.Module):
    """E perceptrons with two hidden layers of ReLU units."""

    def __init__(self, inputs: int, outputs: int, rng: Streams, width: int = 256):
        super().__init__()
        sizes = [(inputs, width), (width, width), (width, outputs)]
        self.layers = nn.ModuleList([Linear(a, b, rng) for a, b in sizes])

    def forward(self, x: Float[Tensor, "E B in"]) -> Float[Tensor, "E B out"]:
        """The last layer's outputs, not squashed."""
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))


class ResNet(nn.Module):
    """E residual networks: 4 blocks of 2048 units (appendix A.2, the robomimic policies)."""

    def __init__(self, inputs: int, outputs: int, rng: Streams, width: int = 2048, blocks: int = 4):
        super().__init__()
        self.inputs = Linear(inputs, width, rng)
        self.blocks = nn.ModuleList(nn.ModuleList(Linear(width, width, rng) for _ in range(2))
                                    for _ in range(blocks))
        self.out = Linear(width, outputs, rng)

    def forward(self, x: Float[Tensor, "E B in"]) -> Float[Tensor, "E B out"]:
        """The last layer's outputs, not squashed."""
        h = self.inputs(x)
        for first, second in cast(Iterable[nn.ModuleList], self.blocks):
            h = h + second(F.relu(first(F.relu(h))))
        return self.out(F.relu(h))
