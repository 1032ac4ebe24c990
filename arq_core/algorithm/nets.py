"""The few networks, each a batch of E members: weights [E, in, out], inputs [E, R, in], one batched product per layer.

Member e computes what it would compute alone, and starts from its own random stream. Nothing here couples members.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.engine.streams import Streams

TENSOR_CORE = 8        # half-precision numbers in 16 bytes


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x [E, R, in] times weight [E, in, out].

    On a GPU in half precision both sizes are filled up with zeros to multiples of 8: tensor cores read 16 bytes at a time, and fall back to
    kernels several times slower where rows of 3 or 11 numbers do not let them.
    """
    half = weight.dtype != torch.float32 or torch.is_autocast_enabled(weight.device.type)
    inputs, outputs = (-size % TENSOR_CORE for size in weight.shape[1:])
    if not (half and weight.is_cuda and (inputs or outputs)):
        return torch.bmm(x, weight)
    return torch.bmm(F.pad(x, (0, inputs)), F.pad(weight, (0, outputs, 0, inputs)))[..., :weight.shape[2]]


class Linear(nn.Module):
    """E affine maps, [E, R, in] -> [E, R, out], initialised uniformly within 1/sqrt(in) as `torch.nn.Linear` is."""

    def __init__(self, inputs: int, outputs: int, rng: Streams, bias: bool = True):
        super().__init__()
        bound = 1 / math.sqrt(max(inputs, 1))
        self.weight = nn.Parameter((2 * rng.rand(inputs, outputs) - 1) * bound)
        self.bias = nn.Parameter((2 * rng.rand(1, outputs) - 1) * bound) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = product(x, self.weight)
        return y if self.bias is None else y.add_(self.bias)      # not baddbmm: it copies the bias to every row first

    def linear(self, x: Tensor) -> Tensor:
        """The map without its bias: what it does to a tangent, [E, ..., in] -> [E, ..., out]."""
        return product(x.flatten(1, -2), self.weight).unflatten(1, x.shape[1:-1])


class ScoreNet(nn.Module):
    """The paper's score network (appendix A.2): residual blocks of two swish layers, each with the time added before it.

    The first layer dense([a, s]) is kept as its two halves, so that the half that sees the state is computed once for all
    candidates and all solver steps. The output is sigma(t)·score(a, s, t).
    """

    def __init__(self, state_dim: int, action_dim: int, width: int, blocks: int, rng: Streams):
        super().__init__()
        # Gaussian Fourier features, scale 30, fixed: as in the released code
        self.register_buffer("frequencies", 30 * rng.randn(1, width // 2))
        self.time = Linear(width, width, rng)
        self.of_state = Linear(state_dim, width, rng)
        self.of_action = Linear(action_dim, width, rng, bias=False)
        self.of_time = nn.ModuleList(Linear(width, width, rng) for _ in range(2 * blocks))
        self.dense = nn.ModuleList(Linear(width, width, rng) for _ in range(2 * blocks))
        self.out = Linear(width, action_dim, rng)

    def embed_time(self, t: Tensor) -> list[Tensor]:
        """Times [E, T] -> what each layer adds for them, a list of [E, T, W]."""
        phase = 2 * math.pi * t[..., None] * self.frequencies
        embedding = F.silu(self.time(torch.cat([phase.sin(), phase.cos()], -1)))
        if not t.is_cuda:
            return [layer(embedding) for layer in self.of_time]
        weight, bias = (torch.cat([getattr(layer, name) for layer in self.of_time], -1) for name in ("weight", "bias"))
        return list(product(embedding, weight).add_(bias).chunk(len(self.of_time), -1))      # one product: each alone is too small for a GPU

    def forward(self, actions: Tensor, state: Tensor, time: list[Tensor]) -> Tensor:
        """actions [E, R, A], state embedding [E, B, W], time embeddings [E, T, W] -> [E, R, A].

        B and T divide R: R/B consecutive rows share a state, and R/T a time.
        """
        h = _add_shared(self.of_action(actions), state)
        for i in range(0, len(self.dense), 2):
            u = self.dense[i](F.silu(_add_shared(h, time[i])))
            h = h + self.dense[i + 1](F.silu(_add_shared(u, time[i + 1])))
        return self.out(h)

    def jvp(self, actions: Tensor, state: Tensor, time: list[Tensor], tangents: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and its directional derivatives along action tangents [E, P, R, A] -> [E, P, R, A]. One forward-mode pass."""
        h, dh = _add_shared(self.of_action(actions), state), self.of_action.linear(tangents)
        for i in range(0, len(self.dense), 2):
            u, du = self._layer_jvp(i, h, dh, time)
            u, du = self._layer_jvp(i + 1, u, du, time)
            h, dh = h + u, dh + du
        return self.out(h), self.out.linear(dh)

    def _layer_jvp(self, i: int, h: Tensor, dh: Tensor, time: list[Tensor]) -> tuple[Tensor, Tensor]:
        x = _add_shared(h, time[i])
        gate = torch.sigmoid(x)
        swish = x * gate
        slope = torch.addcmul(gate + swish, swish, gate, value=-1)                # swish' = gate + swish·(1 - gate)
        return self.dense[i](swish), self.dense[i].linear(slope[:, None] * dh)


def _add_shared(h: Tensor, x: Tensor) -> Tensor:
    """h [E, R, W] + x [E, G, W], where G divides R and R/G consecutive rows share a row of x; in the type of h."""
    return (h.unflatten(1, (x.shape[1], -1)) + x[:, :, None].to(h.dtype)).flatten(1, 2)


class Critic(nn.Module):
    """E critics Q(s, a): two layers of 256 ReLU units (appendix A.2). The state half of the first layer is shared by candidates."""

    def __init__(self, state_dim: int, action_dim: int, rng: Streams, width: int = 256):
        super().__init__()
        self.of_state = Linear(state_dim, width, rng)
        self.of_action = Linear(action_dim, width, rng, bias=False)
        self.hidden = Linear(width, width, rng)
        self.out = Linear(width, 1, rng)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """states [E, B, S], actions [E, B, n, A] -> values [E, B, n]."""
        h = self.of_action.linear(actions)
        h = h + self.of_state(states)[:, :, None].to(h.dtype)
        h = F.relu(self.hidden(F.relu(h.flatten(1, 2))))
        values = (h.float() * self.out.weight.mT).sum(-1) + self.out.bias.squeeze(-1)     # summed in float32: half precision has 3 digits
        return values.view(actions.shape[:3])


class MLP(nn.Module):
    """E perceptrons with two hidden layers of ReLU units, [E, B, in] -> [E, B, out]."""

    def __init__(self, inputs: int, outputs: int, rng: Streams, width: int = 256):
        super().__init__()
        self.layers = nn.ModuleList([Linear(inputs, width, rng), Linear(width, width, rng), Linear(width, outputs, rng)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))


class ResNet(nn.Module):
    """E dense residual networks, [E, B, in] -> [E, B, out]: 4 blocks of 2048 units (appendix A.2, the robomimic policies)."""

    def __init__(self, inputs: int, outputs: int, rng: Streams, width: int = 2048, blocks: int = 4):
        super().__init__()
        self.inputs = Linear(inputs, width, rng)
        self.blocks = nn.ModuleList(nn.ModuleList([Linear(width, width, rng), Linear(width, width, rng)]) for _ in range(blocks))
        self.out = Linear(width, outputs, rng)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inputs(x)
        for first, second in self.blocks:
            h = h + second(F.relu(first(F.relu(h))))
        return self.out(F.relu(h))
