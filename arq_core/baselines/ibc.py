"""Implicit BC: a network says how well an action suits a state, and acting is a search for the
action that suits best (Florence et al. 2021, "Implicit Behavioral Cloning"). Rewards are not seen.

The network E(s, a) (large where an action is likely: minus the paper's energy) has residual blocks
of ReLU layers, each weight divided by its largest singular value, which one power iteration a call
estimates (Miyato et al. 2018). One step:

    a_j      =   `negatives` actions, uniform in the recorded ones' box, after `langevin` steps
    E        <-  argmin  -log e^E(s,a) / (e^E(s,a) + sum_j e^E(s,a_j))                    (InfoNCE)
                         + mean over a and all a_j of max(0, max_i |dE/da_i| - 1)²

A Langevin step is a <- a + eta (dE/da / 2 + noise·N(0, I)), where eta falls from 0.5 to 1e-5 as a
parabola; the move is clipped to half of the box's half width in each dimension, and a to the box.
The noise is times eta, not its root as in Langevin dynamics, so this is a noisy ascent. Acting:
`samples` uniform actions, the same steps with noise 1, as many again with eta = 1e-5 and noise
0.5, and of all of them the one of the largest E.

All this is the authors' code (google-research/ibc, mlp_ebm_langevin_best.gin of D4RL, mcmc.py,
gradient_loss.py, spectral_norm.py): states are standardised by the root of their standard
deviation, actions are scaled to [-1, 1] by their smallest and largest, the box is 5% wider on each
side as far as actions are allowed, weights and biases start N(0, 0.05²). What differs: Adam's eps
is 1e-8, theirs is TensorFlow's; a state's dimension that never changed is 0 here; their logarithm
stops at probabilities of 1e-7.

The power iteration goes on from one stored vector a layer. A step of training stores two: that of
the loss and that of the gradient's penalty; the chain and acting use the first, or the last, and
store nothing. So one division of the weights serves a whole chain.

A step costs about `langevin`·`negatives` steps of plain cloning: the column's settings are for a
GPU. `ibc-small` is the same with smaller numbers, all of them ours, and goes by its own name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.algorithm.nets import Linear
from arq_core.algorithm.types import Actions, Candidates, DataError, States, Transitions, Values
from arq_core.baselines.neighbours import Batch, Settings, training_key
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.machine import nth, product
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import train
from arq_core.engine.updates import Update, exponential

FIRST_STEP, LAST_STEP, POWER = 0.5, 1e-5, 2.0  # of eta
MOVE = 0.5  # the largest move of a step, half widths of the box
NOISE, NOISE_ACTING, NOISE_AGAIN = 0.5, 1.0, 0.5
MARGIN = 1.0  # slopes below it are not penalised
WIDER = 0.05  # of the actions' range, on each side of the box
INITIAL_STD = 0.05
DECAY_PER = 100  # steps after which the learning rate is `decay` times as large
FLOOR = torch.finfo(torch.float32).eps  # of a scale that divides
ROWS = 2**15  # state-action pairs of a seed at once while acting
NEEDED = ("width", "depth", "negatives", "langevin", "samples", "lr", "decay", "batch", "reward")


def info_nce(energies: Float[Tensor, "*rows n"]) -> Float[Tensor, "*rows"]:
    """-log of the softmax's share of the last of n energies, the recorded action's, nats (Florence
    et al. 2021, section 2)."""
    return energies.logsumexp(-1) - energies[..., -1]


def slope_penalty(slopes: Float[Tensor, "*rows n A"]) -> Float[Tensor, "*rows"]:
    """Mean over n actions of max(0, max_i |dE/da_i| - 1)² (authors' gradient_loss.py)."""
    return (slopes.abs().amax(-1) - MARGIN).clamp(min=0).square().mean(-1)


def step_sizes(steps: int, first: float = FIRST_STEP, last: float = LAST_STEP) -> list[float]:
    """eta of each Langevin step, along a parabola (authors' mcmc.py, PolynomialSchedule)."""
    spread = max(steps - 1, 1)
    return [(first - last) * (1 - i / spread) ** POWER + last for i in range(steps)]


@dataclass(frozen=True)
class ActionRange:
    """Where actions are looked for, [A] each."""

    low: Float[Tensor, " A"]
    high: Float[Tensor, " A"]

    def clip(self, actions: Candidates) -> Candidates:
        """The nearest actions in it."""
        return torch.minimum(torch.maximum(actions, self.low), self.high)

    def uniform(self, rows: int, n: int, rng: Streams) -> Candidates:
        """n actions for each of so many states."""
        return self.low + (self.high - self.low) * rng.rand(rows, n, len(self.low))


def langevin_step(
    actions: Candidates, slope: Candidates, eta: float, noise: Candidates, box: ActionRange
) -> Candidates:
    """The actions after one step along dE/da = `slope`, in the box (authors' `langevin_step`)."""
    move, most = eta * (0.5 * slope + noise), MOVE * (box.high - box.low) / 2
    return box.clip(actions + torch.minimum(torch.maximum(move, -most), most))


def spectral(
    weight: Float[Tensor, "E inputs outputs"], u: Float[Tensor, "E 1 outputs"]
) -> tuple[Float[Tensor, "E inputs outputs"], Float[Tensor, "E 1 outputs"]]:
    """The weight divided by the estimate of its largest singular value after one power iteration
    from u, and the next u (Miyato et al. 2018, algorithm 1; gradients pass through all of it, as
    in the authors' code)."""
    with torch.autocast(weight.device.type, enabled=False):  # half precision has 3 digits
        v = F.normalize(u @ weight.mT, dim=-1, eps=1e-12)
        u = F.normalize(v @ weight, dim=-1, eps=1e-12)
        return weight / (v @ weight @ u.mT), u


@dataclass(frozen=True)
class Scales:
    """How states and actions enter the network: (x - centre)/scale."""

    state_centre: Float[Tensor, " S"]
    state_scale: Float[Tensor, " S"]
    centre: Float[Tensor, " A"]
    scale: Float[Tensor, " A"]
    box: ActionRange  # of scaled actions

    @classmethod
    def of(cls, data: Transitions) -> Scales:
        """Mean and root of the standard deviation of the states; middle and half range of the
        actions, and their box: 5% wider, but not beyond [-1, 1] before the scaling."""
        states = data.states[data.state].double()
        low, high = data.actions.amin(0), data.actions.amax(0)
        centre, scale = (low + high) / 2, ((high - low) / 2).clamp(min=FLOOR)
        room = WIDER * (high - low)
        edges = ((low - room).clamp(min=-1), (high + room).clamp(max=1))
        std = states.std(0, correction=0).float()
        box = ActionRange(*((edge - centre) / scale for edge in edges))
        return cls(states.mean(0).float(), std.sqrt(), centre, scale, box)

    def states(self, states: States) -> States:
        """Standardised states; 0 in a dimension that never changed."""
        z = (states - self.state_centre) / self.state_scale.clamp(min=FLOOR)
        return torch.where(self.state_scale == 0, 0.0, z)

    def actions(self, actions: Actions) -> Actions:
        """Scaled actions."""
        return (actions - self.centre) / self.scale

    def raw(self, scaled: Actions) -> Actions:
        """Actions of scaled ones, clipped to [-1, 1]."""
        return (self.centre + self.scale * scaled).clamp(-1, 1)


class EnergyNet(nn.Module):
    """E(s, a): a projection, `depth`/2 residual blocks of two layers that each follow a ReLU, and a
    last layer; the first is kept as one weight whose part that sees the state is multiplied once
    for all actions of a state."""

    def __init__(self, state_dim: int, action_dim: int, width: int, depth: int, rng: Streams):
        super().__init__()
        self.state_dim = state_dim
        sizes = [state_dim + action_dim, *[width] * (depth + 1), 1]
        self.layers = nn.ModuleList(
            Linear(a, b, rng) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        with torch.no_grad():
            for x in self.parameters():
                x.copy_(INITIAL_STD * rng.randn(*x.shape[1:]))
        for i, outputs in enumerate(sizes[1:]):
            self.register_buffer(f"u{i}", rng.randn(1, outputs))

    def vectors(self) -> list[Tensor]:
        """The stored vector of each layer's power iteration."""
        return [self.get_buffer(f"u{i}") for i in range(len(self.layers))]

    def divided(self, vectors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """All weights divided by their largest singular values, and the next vectors."""
        pairs = [spectral(layer.weight, u) for layer, u in zip(self.layers, vectors, strict=True)]
        return [w for w, _ in pairs], [u for _, u in pairs]

    def of_states(self, weights: list[Tensor], states: States) -> Float[Tensor, "E B W"]:
        """What the first layer makes of the states."""
        return product(states, weights[0][:, : self.state_dim]) + self.layers[0].bias

    def forward(
        self, weights: list[Tensor], of_states: Float[Tensor, "E B W"], actions: Candidates
    ) -> Values:
        """E of n actions of each state, by divided weights."""
        biases = [layer.bias for layer in self.layers]
        h = product(actions.flatten(1, 2), weights[0][:, self.state_dim :])
        h = (h.unflatten(1, actions.shape[1:3]) + of_states[:, :, None]).flatten(1, 2)
        for i in range(1, len(weights) - 1, 2):
            x = product(F.relu(h), weights[i]) + biases[i]
            h = h + product(F.relu(x), weights[i + 1]) + biases[i + 1]
        return (product(h, weights[-1]) + biases[-1]).float().view(actions.shape[:3])

    def slope(
        self,
        weights: list[Tensor],
        of_states: Float[Tensor, "E B W"],
        actions: Candidates,
        differentiable: bool = False,
    ) -> Candidates:
        """dE/da; `differentiable` keeps what its own gradient needs."""
        with torch.enable_grad():
            a = actions.detach().requires_grad_()
            energy = self(weights, of_states, a).sum()
            return torch.autograd.grad(energy, a, create_graph=differentiable)[0]


def climbed(
    net: EnergyNet,
    weights: list[Tensor],
    of_states: Float[Tensor, "E B W"],
    actions: Candidates,
    sizes: list[float],
    noise: float,
    box: ActionRange,
    rng: Streams,
) -> Candidates:
    """The actions after a Langevin step of each size; no gradient passes through the chain."""
    weights, of_states = [w.detach() for w in weights], of_states.detach()
    for eta in sizes:
        slope = net.slope(weights, of_states, actions)
        actions = langevin_step(actions, slope, eta, noise * rng.randn_like(actions), box)
    return actions


@dataclass(frozen=True)
class EnergyPolicy:
    """Looks for the action of the largest E; `loss` is the curve of its training [E, points]."""

    net: EnergyNet
    scales: Scales
    samples: int
    langevin: int
    loss: Tensor

    def reset(self, n: int) -> None:
        """Nothing to forget: the policy has no memory."""

    @torch.no_grad()
    def act(self, states: States, rng: Streams) -> Actions:
        """The best of `samples` actions that climbed twice, for each state."""
        expected = len(self.scales.state_centre)
        if expected != states.shape[-1]:
            raise DataError(
                f"states: saw dimension {states.shape[-1]}, expected {expected}, that of "
                "the training data; use its environment."
            )
        weights, _ = self.net.divided(self.net.vectors())
        pieces = self.scales.states(states).split(max(1, ROWS // self.samples), 1)
        return torch.cat([self._act(weights, piece, rng) for piece in pieces], 1)

    def _act(self, weights: list[Tensor], states: States, rng: Streams) -> Actions:
        box, of_states = self.scales.box, self.net.of_states(weights, states)
        actions = box.uniform(states.shape[1], self.samples, rng)
        again = [LAST_STEP] * self.langevin
        for sizes, noise in ((step_sizes(self.langevin), NOISE_ACTING), (again, NOISE_AGAIN)):
            actions = climbed(self.net, weights, of_states, actions, sizes, noise, box, rng)
        best = self.net(weights, of_states, actions).argmax(-1)
        return self.scales.raw(nth(actions, best))


def fit(
    name: str, data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> EnergyPolicy:
    """The policy after `budget.ibc_steps` (of "ibc-small": `ibc_small_steps`) steps with the
    settings `hyper.ibc` (`ibc_small`). DataError for a setting that is missing or of the wrong
    kind."""
    small = name == "ibc-small"
    given = hyper.ibc_small if small else hyper.ibc
    steps = budget.ibc_small_steps if small else budget.ibc_steps
    own = Settings(name, given, NEEDED)
    if (depth := own.count("depth")) % 2:
        raise DataError(
            f"{name}.depth: saw {depth}, expected an even number of layers, two a block; change "
            "it in data/neighbours.toml."
        )
    n, langevin = own.count("negatives"), own.count("langevin")
    draws, scales = rng.fork(name), Scales.of(data)
    sizes = data.states.shape[1], data.actions.shape[1]
    net = EnergyNet(*sizes, own.count("width"), depth, rng.fork(name, "net")).to(rng.device)
    batch, etas = Batch(data, own.count("batch"), draws), step_sizes(langevin)

    def of_net() -> Float[Tensor, " E"]:
        states, actions = scales.states(batch.states), scales.actions(batch.actions)
        weights, vectors = net.divided([u.clone() for u in net.vectors()])
        of_states = net.of_states(weights, states)
        start = scales.box.uniform(states.shape[1], n, draws)
        wrong = climbed(net, weights, of_states, start, etas, NOISE, scales.box, draws)
        every = torch.cat([wrong, actions[:, :, None]], 2)
        loss = info_nce(net(weights, of_states, every))
        weights, vectors = net.divided([u.detach() for u in vectors])
        slopes = net.slope(weights, net.of_states(weights, states), every, differentiable=True)
        for stored, found in zip(net.vectors(), vectors, strict=True):
            stored.copy_(found.detach())
        return (loss + slope_penalty(slopes)).mean(-1)

    curve = train(
        name,
        training_key(name, given, data, rng, steps, 0.0, budget.precision),
        dict(net=net),
        [Update("net", of_net, own["lr"], exponential(own["decay"], DECAY_PER))],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=budget.precision,
    )["net"]
    return EnergyPolicy(net.requires_grad_(False), scales, own.count("samples"), langevin, curve)


fit_ibc = partial(fit, "ibc")
fit_ibc_small = partial(fit, "ibc-small")
