"""Networks of the neighbours, each a batch of members as in `algorithm.nets`: perceptrons of any
depth, critics that see many actions of a state, deterministic, Gaussian and squashed actors;
densities of normal distributions and of their mixtures.

Initial weights are PyTorch's (`nets.Linear`) or orthogonal, as the authors have them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
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


@torch.no_grad()
def uniform_(layer: Linear, bound: float, rng: Streams) -> None:
    """The weights and the bias of one layer become uniform within +-`bound`: a small last layer
    starts a network near 0."""
    for x in layer.parameters():
        x.copy_((2 * rng.rand(*x.shape[1:]) - 1) * bound)


def dropped(x: Float[Tensor, "E R W"], share: float, rng: Streams | None) -> Tensor:
    """x with a share of its entries set to 0 and the others scaled up, by draws of `rng`
    (Srivastava et al. 2014); x itself without `rng`."""
    if rng is None or share == 0:
        return x
    return x * (rng.rand(*x.shape[1:]) >= share) / (1 - share)


def refuse_other_states(states: States, expected: int) -> None:
    """DataError for states of another dimension than those that a network was made for."""
    if expected != states.shape[-1]:
        raise DataError(
            f"states: saw dimension {states.shape[-1]}, expected {expected}, that of "
            "the training data; use its environment."
        )


def normal_log_prob(
    x: Float[Tensor, "*rows D"], mean: Float[Tensor, "*rows D"], log_std: Float[Tensor, "*rows D"]
) -> Float[Tensor, "*rows"]:
    """log N(x; mean, diag std²), nats, over the last axis."""
    z = (x - mean) * (-log_std).exp()
    return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def mixture_log_prob(
    x: Float[Tensor, "*rows D"],
    log_weights: Float[Tensor, "*rows K"],
    means: Float[Tensor, "*rows K D"],
    log_stds: Float[Tensor, "*rows K D"],
) -> Float[Tensor, "*rows"]:
    """log of the sum of w_k N(x; mean_k, diag std_k²) over K components, nats."""
    each = normal_log_prob(x[..., None, :].expand_as(means), means, log_stds)
    return (log_weights + each).logsumexp(-1)


@torch.no_grad()
def drawn_components(
    log_weights: Float[Tensor, "E R K"], n: int, rng: Streams
) -> Int[Tensor, "E R n"]:
    """n of the K components of each row, drawn by their weights, with replacement."""
    cumulative = log_weights.float().exp().cumsum(-1)
    u = rng.rand(log_weights.shape[1], n) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, u, right=True).clamp(max=log_weights.shape[-1] - 1)


class LayerNorm(nn.Module):
    """Each row to mean 0 and variance 1 over its units, then scaled and shifted unit by unit (Ba et
    al. 2016). `eps` is added to the variance; as Flax does, unless said otherwise."""

    def __init__(self, members: int, width: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Float[Tensor, "E R W"]) -> Float[Tensor, "E R W"]:
        """The normalised x."""
        return F.layer_norm(x, x.shape[-1:], eps=self.eps) * self.weight + self.bias


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


class Standardised(nn.Module):
    """A network of (s - mean)/scale as a function of the recorded states s."""

    mean: Tensor
    scale: Tensor

    def __init__(
        self, net: nn.Module, mean: Float[Tensor, " S"], scale: Float[Tensor, " S"], members: int
    ):
        super().__init__()
        self.net = net
        self.register_buffer("mean", mean.repeat(members, 1, 1))
        self.register_buffer("scale", scale.repeat(members, 1, 1))

    def forward(self, states: States) -> Tensor:
        """What the network says of standardised states."""
        refuse_other_states(states, self.mean.shape[-1])
        return self.net((states - self.mean) / self.scale)


class DeterministicActor(nn.Module):
    """a = tanh(m(s))."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        rng: Streams,
        widths: Sequence[int],
        dropout: float = 0.0,
    ):
        super().__init__()
        self.net = Perceptron(state_dim, action_dim, rng, widths, dropout)
        self.state_dim = state_dim

    def forward(self, states: States, rng: Streams | None = None) -> Actions:
        """The action; with `rng`, units are dropped as in training."""
        refuse_other_states(states, self.state_dim)
        return self.net(states, rng).float().tanh()


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
        log_std = self.log_std.clamp(*self.log_std_range).expand_as(actions)
        return normal_log_prob(actions, self(states, rng), log_std)

    def sample(self, states: States, rng: Streams) -> Actions:
        """A draw for each state, which may lie outside of the box."""
        mean, log_std = self(states), self.log_std.clamp(*self.log_std_range)
        return mean + log_std.exp() * rng.randn_like(mean)


class SquashedActor(nn.Module):
    """pi(a|s) of a = tanh(u), u ~ N(m(s), std(s)²), with std clipped to exp of `log_std_range`
    (Haarnoja et al. 2018, appendix C). Called, it gives tanh(m(s))."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        rng: Streams,
        widths: Sequence[int],
        log_std_range: tuple[float, float],
    ):
        super().__init__()
        self.net = Perceptron(state_dim, 2 * action_dim, rng, widths)
        self.log_std_range = log_std_range

    def forward(self, states: States) -> Actions:
        """The mode of u, squashed."""
        refuse_other_states(states, self.net.layers[0].weight.shape[1])
        return self.parts(states)[0].tanh()

    def parts(self, states: States) -> tuple[Actions, Actions]:
        """Mean and log standard deviation of u."""
        mean, log_std = self.net(states).float().chunk(2, -1)
        return mean, log_std.clamp(*self.log_std_range)


def squashed_sample(
    parts: tuple[Actions, Actions], n: int, rng: Streams
) -> tuple[Float[Tensor, "E B n A"], Float[Tensor, "E B n"]]:
    """n actions a state, through which gradients pass, and their log pi(a|s), nats, of the raw
    action, for an actor's `parts`."""
    mean, log_std = (x[:, :, None] for x in parts)
    z = rng.randn(mean.shape[1], n, mean.shape[-1])
    u = mean + log_std.exp() * z
    return u.tanh(), _squashed_log_prob(u, z, log_std)


def squashed_log_prob(parts: tuple[Actions, Actions], actions: Actions) -> Float[Tensor, "E B"]:
    """log pi(a|s), nats, of actions strictly inside the box, for an actor's `parts`."""
    mean, log_std = parts
    u = actions.atanh()
    return _squashed_log_prob(u, (u - mean) / log_std.exp(), log_std)


def _squashed_log_prob(u: Tensor, z: Tensor, log_std: Tensor) -> Tensor:
    """log N(u; mean, std²) - log(1 - tanh(u)²), summed over the action; z = (u - mean)/std."""
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log(1 - tanh(u)²) without underflow
    return -(z.square() / 2 + log_std + math.log(2 * math.pi) / 2 + log_slope).sum(-1)
