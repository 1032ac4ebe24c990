"""Other explicit clones of beta(a|s), to set beside s_psi: a Gaussian, a mixture density network, a
conditional VAE.

Each is E networks trained as one batch by maximum likelihood (or its lower bound) on data of their
own. Log-densities are of the standardised action, in nats, as `ScoreBehavior`'s; states and actions
are raw. Layers are swish, as s_psi's; widths give about as many parameters as s_psi has at width 64
(55,000). Learning rates were swept coarsely on seed 1000 (benchmarks/clones.py), which no result
uses.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.algorithm.nets import Linear, Normalizer
from arq_core.engine.store import Store, fingerprint
from arq_core.engine.streams import Streams
from arq_core.engine.train import train
from arq_core.engine.updates import Averaging, Update, cosine

# added to softplus for a standard deviation; the mixture policies of Mandlekar et al. 2021
# (robomimic)
MIN_STD = 1e-4
# bounds of the encoder's log standard deviation; Fujimoto et al. 2019 (BCQ)
LOG_STD_OF_Z = (-4.0, 15.0)
# of the raw action: BCQ's loss, squared error + KL/2 (means over A and 2A), is the ELBO of a
# decoder this wide
BCQ_STD = math.sqrt(1 / 8)
IMPORTANCE = 64  # samples of z for a log-density of the VAE
# share of the steps over which a VAE's KL term rises to its weight (Bowman et al. 2016): without it
# z goes unused
WARM_UP = 0.5
ROWS = 2**18  # network rows at a time


class Layers(nn.Module):
    """E perceptrons with swish between their layers: [E, R, inputs] -> [E, R, outputs]."""

    def __init__(self, inputs: int, outputs: int, width: int, hidden: int, rng: Streams):
        super().__init__()
        self.layers = nn.ModuleList(
            Linear(i, o, rng) for i, o in pairwise([inputs, *[width] * hidden, outputs])
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.silu(layer(x))
        return self.layers[-1](x)


def normal_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, diag std²), nats, over the last axis."""
    return -(((x - mean) / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2).sum(-1)


class Mixture(nn.Module):
    """A mixture density network (Bishop 1994): weights, means and standard deviations of K
    Gaussians are functions of the state.

    K = 1 is the Gaussian policy. Means start spread over the range of a uniform law of unit
    variance, so that components do not start as one.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        scale: Tensor,
        rng: Streams,
        components: int,
        width: int = 128,
        hidden: int = 4,
    ):
        super().__init__()
        self.k, self.a = components, action_dim
        self.layers = Layers(state_dim, components * (1 + 2 * action_dim), width, hidden, rng)
        with torch.no_grad():
            self.layers.layers[-1].bias[..., components : components * (1 + action_dim)] = (
                math.sqrt(3) * (2 * rng.rand(1, components * action_dim) - 1)
            )

    def parts(
        self, states: Float[Tensor, "E B S"]
    ) -> tuple[Float[Tensor, "E B K"], Float[Tensor, "E B K A"], Float[Tensor, "E B K A"]]:
        """log weights, means, standard deviations."""
        logit, mean, spread = self.layers(states).split(
            [self.k, self.k * self.a, self.k * self.a], -1
        )
        return (
            logit.log_softmax(-1),
            mean.unflatten(-1, (self.k, self.a)),
            (F.softplus(spread) + MIN_STD).unflatten(-1, (self.k, self.a)),
        )

    def log_prob(
        self, actions: Float[Tensor, "E B n A"], states: Float[Tensor, "E B S"], rng: Streams
    ) -> Float[Tensor, "E B n"]:
        log_weight, mean, std = (x[:, :, None] for x in self.parts(states))
        return (log_weight + normal_log_prob(actions[..., None, :], mean, std)).logsumexp(-1)

    def loss(
        self, actions: Float[Tensor, "E B A"], states: Float[Tensor, "E B S"], rng: Streams
    ) -> Float[Tensor, " E"]:
        return -self.log_prob(actions[:, :, None], states, rng).mean((1, 2))

    def at(self, share: float) -> None:
        """What changes with the share of training that is done: nothing."""

    def sample(
        self, states: Float[Tensor, "E B S"], n: int, rng: Streams
    ) -> Float[Tensor, "E B n A"]:
        log_weight, mean, std = self.parts(states)
        u = rng.rand(states.shape[1], n, 1)
        k = (
            (u > log_weight.exp().cumsum(-1)[:, :, None])
            .sum(-1)
            .clamp(max=self.k - 1)[..., None]
            .expand(-1, -1, -1, self.a)
        )
        return mean.gather(2, k) + std.gather(2, k) * rng.randn(states.shape[1], n, self.a)


class ConditionalVAE(nn.Module):
    """a ~ N(decoder(s, z)), z ~ N(0, I) of 2A dimensions, with an encoder q(z|s, a): BCQ's model of
    behaviour (Fujimoto et al. 2019).

    The decoder's standard deviation is learned as a function of (s, z), or `fixed` (of the raw
    action), as BCQ's loss has it without saying so. Differs from BCQ: swish, the mean is not
    squashed by tanh, z is not clipped when sampling, and samples have the decoder's noise. The KL
    term of a decoder that learns its spread is warmed up; BCQ's is whole from the start, as
    published.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        scale: Float[Tensor, "E 1 A"],
        rng: Streams,
        fixed: float | None = None,
        width: int = 112,
        hidden: int = 3,
    ):
        super().__init__()
        self.a, self.latent = action_dim, 2 * action_dim
        self.encoder = Layers(state_dim + action_dim, 2 * self.latent, width, hidden, rng)
        self.decoder = Layers(
            state_dim + self.latent, action_dim * (2 if fixed is None else 1), width, hidden, rng
        )
        self.register_buffer("std", None if fixed is None else fixed / scale)
        self.register_buffer("kl_weight", torch.ones(()))

    def encode(
        self, actions: Float[Tensor, "E R A"], states: Float[Tensor, "E R S"]
    ) -> tuple[Tensor, Tensor]:
        mean, log_std = self.encoder(torch.cat([states, actions], -1)).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD_OF_Z).exp()

    def decode(
        self, states: Float[Tensor, "E R S"], z: Float[Tensor, "E R L"]
    ) -> tuple[Tensor, Tensor]:
        out = self.decoder(torch.cat([states, z], -1))
        return (
            (out[..., : self.a], F.softplus(out[..., self.a :]) + MIN_STD)
            if self.std is None
            else (out, self.std)
        )

    def log_terms(
        self, actions: Float[Tensor, "E R A"], states: Float[Tensor, "E R S"], k: int, rng: Streams
    ) -> tuple[Tensor, Tensor]:
        """log p(a|s, z) and log p(z)/q(z|s, a) at k samples of z from the encoder, [E R k] each."""
        mean, std = (x[:, :, None] for x in self.encode(actions, states))
        z = mean + std * rng.randn(actions.shape[1], k, self.latent)
        of_mean, of_std = self.decode(states.repeat_interleave(k, 1), z.flatten(1, 2))
        of_mean, of_std = (
            of_mean.unflatten(1, (-1, k)),
            of_std[:, None] if self.std is not None else of_std.unflatten(1, (-1, k)),
        )
        of_z = normal_log_prob(z, torch.zeros_like(z), torch.ones_like(z)) - normal_log_prob(
            z, mean, std
        )
        return normal_log_prob(actions[:, :, None], of_mean, of_std), of_z

    def log_weights(
        self, actions: Float[Tensor, "E R A"], states: Float[Tensor, "E R S"], k: int, rng: Streams
    ) -> Float[Tensor, "E R k"]:
        """log p(a|s, z) p(z) / q(z|s, a): the mean over z is the ELBO, the log mean exp the IWAE
        bound.
        """
        return sum(self.log_terms(actions, states, k, rng))

    def _on_rows(
        self, f: Callable, actions: Float[Tensor, "E B n A"], states: Float[Tensor, "E B S"], k: int
    ) -> Float[Tensor, "E B n"]:
        """f(actions [E R A], states [E R S]) -> [E R], a few rows at a time."""
        rows = actions.flatten(1, 2), states.repeat_interleave(actions.shape[2], 1)
        size = max(1, ROWS // (k * len(actions)))
        return torch.cat(
            [f(a, s) for a, s in zip(*(x.split(size, 1) for x in rows), strict=True)], 1
        ).unflatten(1, actions.shape[1:3])

    def log_prob(
        self,
        actions: Float[Tensor, "E B n A"],
        states: Float[Tensor, "E B S"],
        rng: Streams,
        k: int = IMPORTANCE,
    ) -> Float[Tensor, "E B n"]:
        """The importance-weighted bound (Burda et al. 2016, Eq. 8): at most log beta(a|s) in the
        mean, and equal to it as k grows.
        """
        return self._on_rows(
            lambda a, s: self.log_weights(a, s, k, rng).logsumexp(-1) - math.log(k),
            actions,
            states,
            k,
        )

    def elbo(
        self,
        actions: Float[Tensor, "E B n A"],
        states: Float[Tensor, "E B S"],
        rng: Streams,
        k: int = IMPORTANCE,
    ) -> Float[Tensor, "E B n"]:
        """The evidence lower bound (Kingma and Welling 2014), by k samples."""
        return self._on_rows(
            lambda a, s: self.log_weights(a, s, k, rng).mean(-1), actions, states, k
        )

    def reconstruction_error(
        self, actions: Float[Tensor, "E B n A"], states: Float[Tensor, "E B S"]
    ) -> Float[Tensor, "E B n"]:
        """‖a - Dec(s, Enc(s, a))‖², of standardised actions: what anti-exploration penalises
        (Rezaeifar et al. 2022), with z at its mean.
        """
        return self._on_rows(
            lambda a, s: (a - self.decode(s, self.encode(a, s)[0])[0]).square().sum(-1),
            actions,
            states,
            1,
        )

    def loss(
        self, actions: Float[Tensor, "E B A"], states: Float[Tensor, "E B S"], rng: Streams
    ) -> Float[Tensor, " E"]:
        of_a, of_z = self.log_terms(actions, states, 1, rng)
        return -(of_a + self.kl_weight * of_z).mean((1, 2))

    def at(self, share: float) -> None:
        """Weigh the KL term as it is after this share of training."""
        if self.std is None:
            self.kl_weight.fill_(min(1.0, share / WARM_UP))

    def sample(
        self, states: Float[Tensor, "E B S"], n: int, rng: Streams
    ) -> Float[Tensor, "E B n A"]:
        mean, std = self.decode(
            states.repeat_interleave(n, 1), rng.randn(states.shape[1] * n, self.latent)
        )
        return (mean + std * rng.randn(*mean.shape[1:])).unflatten(1, (-1, n))


FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "gaussian": partial(Mixture, components=1),
    **{f"mdn-{k}": partial(Mixture, components=k) for k in (2, 5, 10, 20)},
    "vae": ConditionalVAE,
    "vae-bcq": partial(ConditionalVAE, fixed=BCQ_STD),
}


@dataclass(frozen=True)
class Recipe:
    """How a clone is trained: Adam with a cosine schedule, weights averaged, as s_psi of these
    problems.
    """

    lr: float
    steps: int
    batch: int
    ema: float


@dataclass(frozen=True)
class Clone:
    """An explicit clone of E members' behaviour; see `types.Behavior`.

    `net` works on standardised states and actions.
    """

    net: nn.Module
    of_state: Normalizer
    of_action: Normalizer
    loss: Float[Tensor, "E points"]

    @torch.no_grad()
    def log_prob(
        self, actions: Float[Tensor, "E B n A"], states: Float[Tensor, "E B S"], rng: Streams
    ) -> Float[Tensor, "E B n"]:
        """log beta(a|s) in nats, of the standardised action; for a VAE a lower bound of it."""
        return self.net.log_prob(self.of_action(actions), self.of_state(states), rng)

    @torch.no_grad()
    def sample(
        self, states: Float[Tensor, "E B S"], n: int, rng: Streams
    ) -> Float[Tensor, "E B n A"]:
        """n actions for each state, not clipped to the box."""
        return self.of_action.inverse(self.net.sample(self.of_state(states), n, rng))


def fit(
    family: str,
    states: Float[Tensor, "E M S"],
    actions: Float[Tensor, "E M A"],
    recipe: Recipe,
    rng: Streams,
    store: Store,
) -> Clone:
    """Train one of FAMILIES on each member's own pairs, standardised member by member."""
    if family not in FAMILIES:
        raise ValueError(
            f"family: saw {family!r}, expected one of {', '.join(map(repr, FAMILIES))}."
        )
    members, row = rng.fork("clone", family), torch.arange(len(rng), device=rng.device)[:, None]
    of_state, of_action = Normalizer.of(states, keepdim=True), Normalizer.of(actions, keepdim=True)
    x, a = of_state(states), of_action(actions)
    net = FAMILIES[family](states.shape[2], actions.shape[2], of_action.scale, members).to(
        rng.device
    )
    average = copy.deepcopy(net).requires_grad_(False)

    def loss() -> Tensor:
        m = members.randint(states.shape[1], recipe.batch)
        return net.loss(a[row, m], x[row, m], members)

    key = dict(
        family=family,
        data=fingerprint(dict(states=states, actions=actions)),
        seeds=rng.seeds,
        **asdict(recipe),
    )
    curve = train(
        family,
        key,
        dict(net=net, average=average),
        [Update("net", loss, recipe.lr, cosine, after=[Averaging(average, net, recipe.ema)])],
        steps=recipe.steps,
        rng=members,
        store=store,
        before_step=lambda taken: net.at(taken / recipe.steps),
    )["net"]
    return Clone(
        average, of_state, Normalizer(of_action.mean[:, None], of_action.scale[:, None]), curve
    )
