"""Networks of the neighbours, each a batch of members as in `algorithm.nets`: perceptrons of any
depth, critics that see many actions of a state, a Gaussian and a deterministic actor.

Initial weights are PyTorch's (`nets.Linear`) or orthogonal, as the authors have them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.algorithm.nets import Linear
from arq_core.algorithm.types import Actions, DataError, States
from arq_core.engine.machine import product
from arq_core.engine.streams import Streams


@torch.no_grad()
def orthogonal_(module: nn.Module, gain: float, rng: Streams) -> None:
    """Every `Linear` of a module gets orthogonal weights times `gain` and a bias of 0: the Q of a
    Gaussian matrix, with the signs that make it uniform (Saxe et al. 2014)."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            _, n, m = layer.weight.shape
            q, r = torch.linalg.qr(rng.randn(max(n, m), min(n, m)))
            q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
            layer.weight.copy_(gain * (q if n >= m else q.mT))
            if layer.bias is not None:
                layer.bias.zero_()


def dropped(x: Float[Tensor, "E R W"], share: float, rng: Streams | None) -> Tensor:
    """x with a share of its entries set to 0 and the others scaled up, by draws of `rng`
    (Srivastava et al. 2014); x itself without `rng`."""
    if rng is None or share == 0:
        return x
    return x * (rng.rand(*x.shape[1:]) >= share) / (1 - share)


class LayerNorm(nn.Module):
    """Each row to mean 0 and variance 1 over its units, then scaled and shifted unit by unit (Ba et
    al. 2016)."""

    EPS = 1e-6  # added to the variance, as Flax does

    def __init__(self, members: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Float[Tensor, "E R W"]) -> Float[Tensor, "E R W"]:
        """The normalised x."""
        return F.layer_norm(x, x.shape[-1:], eps=self.EPS) * self.weight + self.bias


class Perceptron(nn.Module):
    """E perceptrons with hidden layers of ReLU units of the given widths, each followed by a
    LayerNorm with `layer_norm`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: Streams,
        widths: Sequence[int],
        dropout: float = 0.0,
        layer_norm: bool = False,
    ):
        super().__init__()
        sizes = [inputs, *widths, outputs]
        self.layers = nn.ModuleList(
            Linear(a, b, rng) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.norms = nn.ModuleList(
            LayerNorm(len(rng), width) if layer_norm else nn.Identity() for width in widths
        )
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "E R in"], rng: Streams | None = None) -> Tensor:
        """The last layer's outputs [E R out], not squashed; with `rng`, units are dropped."""
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            x = dropped(norm(F.relu(layer(x))), self.dropout, rng)
        return self.layers[-1](x)


class Critics(nn.Module):
    """`copies` critics Q(s, a) a seed, as one batch; the half of the first layer that sees the
    state is computed once for all actions of a state."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        rng: Streams,
        widths: Sequence[int],
        copies: int = 2,
        layer_norm: bool = False,
    ):
        """`rng` has a stream for each critic: `rng.fork(..., copies=copies)` of the seeds'."""
        super().__init__()
        self.net = Perceptron(state_dim + action_dim, 1, rng, widths, layer_norm=layer_norm)
        self.state_dim, self.copies = state_dim, copies

    def forward(
        self, states: States, actions: Float[Tensor, "E B n A"]
    ) -> Float[Tensor, "E C B n"]:
        """The value of n actions of each state by each critic of each seed."""
        s, a = (x.repeat_interleave(self.copies, 0) for x in (states, actions))
        first, *middle, last = self.net.layers
        w = first.weight
        h = product(a.flatten(1, 2), w[:, self.state_dim :]).unflatten(1, a.shape[1:3])
        h = h + (product(s, w[:, : self.state_dim]) + first.bias)[:, :, None]
        first_norm, *norms = self.net.norms
        h = first_norm(F.relu(h).flatten(1, 2))
        for layer, norm in zip(middle, norms, strict=True):
            h = norm(F.relu(layer(h)))
        return last(h).float().view(len(states), self.copies, *a.shape[1:3])

    def of(self, states: States, actions: Actions) -> Float[Tensor, "E C B"]:
        """The value of one action of each state."""
        return self(states, actions[:, :, None]).squeeze(-1)


def refuse_other_states(states: States, expected: int) -> None:
    """DataError for states that have not as many numbers as those of the training data."""
    if expected != states.shape[-1]:
        raise DataError(
            f"states: saw dimension {states.shape[-1]}, expected {expected}, that of "
            "the training data; use its environment."
        )


class Standardised(nn.Module):
    """A network of (s - mean)/scale as a function of the recorded states s."""

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, mean: Float[Tensor, " S"], scale: Float[Tensor, " S"]):
        super().__init__()
        self.net = net
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, states: States) -> Tensor:
        """What the network says of standardised states."""
        refuse_other_states(states, len(self.mean))
        return self.net((states - self.mean) / self.scale)


class DeterministicActor(nn.Module):
    """pi(s) = tanh(m(s)), an action in the box for each state."""

    def __init__(self, state_dim: int, action_dim: int, rng: Streams, widths: Sequence[int]):
        super().__init__()
        self.net = Perceptron(state_dim, action_dim, rng, widths)

    def forward(self, states: States) -> Actions:
        """The action."""
        refuse_other_states(states, self.net.layers[0].weight.shape[1])
        return self.net(states).float().tanh()


class GaussianActor(nn.Module):
    """pi(a|s) = N(tanh(m(s)), std²) with one std for all states, clipped to exp of `log_std_range`;
    the density is the plain normal's. Called, it gives the mean."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        rng: Streams,
        widths: Sequence[int],
        log_std_range: tuple[float, float],
        dropout: float = 0.0,
    ):
        super().__init__()
        self.net = Perceptron(state_dim, action_dim, rng, widths, dropout)
        self.log_std = nn.Parameter(torch.zeros(len(rng), 1, action_dim))
        self.log_std_range = log_std_range

    def forward(self, states: States, rng: Streams | None = None) -> Actions:
        """The mean, in the box; with `rng`, units are dropped as in training."""
        refuse_other_states(states, self.net.layers[0].weight.shape[1])
        return self.net(states, rng).float().tanh()

    def log_prob(
        self, states: States, actions: Actions, rng: Streams | None = None
    ) -> Float[Tensor, "E B"]:
        """log pi(a|s), nats."""
        log_std = self.log_std.clamp(*self.log_std_range)
        z = (actions - self(states, rng)) / log_std.exp()
        return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def sample(self, states: States, rng: Streams) -> Actions:
        """A draw for each state, which may lie outside of the box."""
        mean, log_std = self(states), self.log_std.clamp(*self.log_std_range)
        return mean + log_std.exp() * rng.randn_like(mean)
