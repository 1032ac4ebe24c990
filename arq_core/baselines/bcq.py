"""BCQ, batch-constrained Q-learning: the best of what a conditional VAE draws (Fujimoto, Meger and
Precup 2019, "Off-Policy Deep Reinforcement Learning without Exploration").

One step, in the order of both codes:

    VAE    <-  argmin  E mean_A (a - D(s, z))² + kl_weight KL(q(z|s, a) || p(z|s)),  z ~ q(z|s, a)
    Q_i    <-  argmin  E (y - Q_i(s, a))²,
               y = r + gamma (1 - d) max_n (w min_i + (1 - w) max_i) Q'_i(s', x'(s', D(s', z_n)))
    x      <-  argmax  E Q_1(s, x(s, D(s, z))),    x(s, a) = clip(a + phi tanh(.))
    Q', x' <-  polyak Q' + (1 - polyak) Q, and likewise x'

Acting takes the best of 100 draws by Q_1. Two forms:

- "original" (BCQ, continuous_BCQ/BCQ.py): KL is a mean over the latent variable's 2A dimensions,
  the encoder gives its log std, and what is drawn from N(0, 1) is clipped to ±0.5;
- "robomimic" (Mandlekar et al. 2021, algo/bcq.py; Table A.4 has its rows only): KL is a sum over 14
  dimensions, the encoder gives its log variance, nothing is clipped, x is left out (phi = 0) but
  for machine-generated data. With prior "mixture", p(z|s) is a learned mixture of 10 components,
  and the KL is estimated by the one z that is drawn: its settings for several operators.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arq_core.algorithm.types import Actions, Candidates, States, Transitions
from arq_core.baselines.neighbours import (
    Batch,
    Drawing,
    FirstCritic,
    Settings,
    bellman,
    training_key,
)
from arq_core.baselines.networks import (
    Critics,
    Perceptron,
    drawn_components,
    mixture_log_prob,
    normal_log_prob,
    refuse_other_states,
)
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import Averaging

LOG_STD_RANGE = (-4.0, 15.0)  # wherever a latent variable is drawn, in both codes
COMPONENTS = 10  # of a learned prior
PRIORS = ("normal", "mixture")
NEEDED = (
    *("form", "kl_weight", "prior", "phi", "min_share", "candidates", "acting_candidates"),
    *("lr", "batch", "polyak", "first_width", "second_width"),
    *("first_width_vae", "second_width_vae", "reward"),
)


@dataclass(frozen=True)
class Form:
    """What the two codes do differently."""

    latent: int | None  # dimensions of the latent variable; None: twice the action's
    summed: bool  # KL over them, else a mean
    log_variance: bool  # what the encoder gives, else the log std
    clip: float | None  # of what is drawn from N(0, 1)


FORMS = {
    "original": Form(None, summed=False, log_variance=False, clip=0.5),
    "robomimic": Form(14, summed=True, log_variance=True, clip=None),
}


def kl_from_normal(
    mean: Float[Tensor, "*rows L"], log_std: Float[Tensor, "*rows L"]
) -> Float[Tensor, "*rows L"]:
    """KL(N(mean, std²) || N(0, 1)) of each dimension, nats."""
    return -0.5 * (1 + 2 * log_std - mean.square() - (2 * log_std).exp())


def soft_clipped_maximum(q: Float[Tensor, "E C B n"], min_share: float) -> Float[Tensor, "E B"]:
    """max over n actions of w·min + (1 - w)·max over the critics (Fujimoto et al. 2019, Eq. 13)."""
    return (min_share * q.amin(1) + (1 - min_share) * q.amax(1)).amax(-1)


class ActionVAE(nn.Module):
    """A conditional VAE of actions with a decoder whose mean is squashed by tanh, and which has no
    noise."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        rng: Streams,
        widths: Sequence[int],
        form: Form,
        prior: str,
    ):
        super().__init__()
        self.form, self.latent = form, form.latent or 2 * action_dim
        self.state_dim = state_dim
        self.encoder = Perceptron(state_dim + action_dim, 2 * self.latent, rng, widths)
        self.decoder = Perceptron(state_dim + self.latent, action_dim, rng, widths)
        outputs = COMPONENTS * (1 + 2 * self.latent)
        self.prior = Perceptron(state_dim, outputs, rng, widths) if prior == "mixture" else None

    def _log_std(self, x: Tensor) -> Tensor:
        """Of what a network gives."""
        return 0.5 * x if self.form.log_variance else x

    def encode(self, states: States, actions: Actions) -> tuple[Tensor, Tensor]:
        """Mean and log std [E, B, L] of q(z|s, a)."""
        mean, spread = self.encoder(torch.cat([states, actions], -1)).float().chunk(2, -1)
        log_std = self._log_std(spread)
        return mean, log_std if self.form.log_variance else log_std.clamp(*LOG_STD_RANGE)

    def decode(self, states: States, z: Float[Tensor, "E B L"]) -> Actions:
        """D(s, z), in the box."""
        refuse_other_states(states, self.state_dim)
        return self.decoder(torch.cat([states, z], -1)).float().tanh()

    def prior_parts(self, states: States) -> tuple[Tensor, Tensor, Tensor]:
        """log weights [E, B, K], means and log stds [E, B, K, L] of a learned p(z|s)."""
        assert self.prior is not None
        k, size = COMPONENTS, COMPONENTS * self.latent
        logits, means, spread = self.prior(states).float().split([k, size, size], -1)
        log_stds = self._log_std(spread).clamp(*LOG_STD_RANGE)
        means, log_stds = (x.unflatten(-1, (k, self.latent)) for x in (means, log_stds))
        return logits.log_softmax(-1), means, log_stds

    def draw_latent(self, states: States, rng: Streams) -> Float[Tensor, "E B L"]:
        """z ~ p(z|s), one for each state."""
        noise = rng.randn(states.shape[1], self.latent)
        if self.prior is not None:
            log_weights, means, log_stds = self.prior_parts(states)
            k = drawn_components(log_weights, 1, rng)[..., None].expand(-1, -1, -1, self.latent)
            return (means.gather(2, k) + log_stds.exp().gather(2, k) * noise[:, :, None])[:, :, 0]
        return noise if self.form.clip is None else noise.clamp(-self.form.clip, self.form.clip)

    def draw(self, states: States, rng: Streams) -> Actions:
        """An action for each state."""
        return self.decode(states, self.draw_latent(states, rng))

    def divergence(self, states: States, z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """KL(q(z|s, a) || p(z|s)) [E]: in closed form, or by z where the prior is learned."""
        if self.prior is not None:
            of_q = normal_log_prob(z, mean, log_std.clamp(*LOG_STD_RANGE))
            return (of_q - mixture_log_prob(z, *self.prior_parts(states))).mean(-1)
        each = kl_from_normal(mean, log_std)
        return (each.sum(-1) if self.form.summed else each.mean(-1)).mean(-1)

    def loss(
        self, states: States, actions: Actions, kl_weight: float, rng: Streams
    ) -> Float[Tensor, " E"]:
        """Squared error, a mean over the action's dimensions, and the weighted KL."""
        mean, log_std = self.encode(states, actions)
        z = mean + log_std.clamp(*LOG_STD_RANGE).exp() * rng.randn_like(mean)
        error = (self.decode(states, z) - actions).square().mean((1, 2))
        return error + kl_weight * self.divergence(states, z, mean, log_std)


class Perturbation(nn.Module):
    """x(s, a) = clip(a + phi tanh(m(s, a))): actions within phi of those that are given."""

    def __init__(
        self, state_dim: int, action_dim: int, rng: Streams, widths: Sequence[int], phi: float
    ):
        super().__init__()
        self.net = Perceptron(state_dim + action_dim, action_dim, rng, widths)
        self.phi = phi

    def forward(self, states: States, actions: Actions) -> Actions:
        """An action in the box."""
        moved = self.phi * self.net(torch.cat([states, actions], -1)).float().tanh()
        return (actions + moved).clamp(-1, 1)


def candidates(
    vae: ActionVAE, actor: Perturbation | None, states: States, n: int, rng: Streams
) -> Candidates:
    """n perturbed draws for each state (without an actor, the draws)."""
    s = states.repeat_interleave(n, 1)
    a = vae.draw(s, rng)
    return (a if actor is None else actor(s, a)).unflatten(1, (-1, n))


@dataclass(frozen=True)
class Perturbed:
    """`candidates` of trained networks."""

    vae: ActionVAE
    actor: Perturbation | None

    def draw(self, states: States, n: int, rng: Streams) -> Candidates:
        """n perturbed draws for each state."""
        return candidates(self.vae, self.actor, states, n, rng)


def fit_bcq(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store) -> Drawing:
    """The policy after `budget.bcq_steps` steps with the settings `hyper.bcq`. DataError for a
    setting that is missing or of the wrong kind."""
    own = Settings("bcq", hyper.bcq, NEEDED)
    form, prior = FORMS[own.one_of("form", FORMS)], own.one_of("prior", PRIORS)
    of, sizes = partial(rng.fork, "bcq"), (data.states.shape[1], data.actions.shape[1])
    draws = of("draws")
    widths = [own.count("first_width"), own.count("second_width")]
    of_vae = [own.count("first_width_vae"), own.count("second_width_vae")]
    vae = ActionVAE(*sizes, of("vae"), of_vae, form, prior).to(rng.device)
    critic = Critics(*sizes, of("critic", copies=2), widths).to(rng.device)
    actor = Perturbation(*sizes, of("actor"), widths, own["phi"]).to(rng.device)
    critic_target = copy.deepcopy(critic).requires_grad_(False)
    actor_target = copy.deepcopy(actor).requires_grad_(False)
    moves = own["phi"] > 0
    batch, n = Batch(data, own.count("batch"), draws), own.count("candidates")

    def of_vae_() -> Float[Tensor, " E"]:
        return vae.loss(batch.states, batch.recorded, own["kl_weight"], draws)

    def of_critic() -> Float[Tensor, " EC"]:
        s = batch.next_states
        with torch.no_grad():
            a = candidates(vae, actor_target if moves else None, s, n, draws)
            after = soft_clipped_maximum(critic_target(s, a), own["min_share"])
        y = bellman(batch, hyper.gamma, after)
        error = critic.of(batch.states, batch.recorded) - y[:, None]
        return error.square().mean(-1).flatten()

    def of_actor() -> Float[Tensor, " E"]:
        with torch.no_grad():
            a = vae.draw(batch.states, draws)
        return -critic.of(batch.states, actor(batch.states, a))[:, 0].mean(-1)

    lr, polyak = own["lr"], own["polyak"]
    modules: dict[str, nn.Module] = dict(vae=vae, critic=critic, critic_target=critic_target)
    updates = [
        Update("vae", of_vae_, lr),
        Update("critic", of_critic, lr, after=[Averaging(critic_target, critic, polyak)]),
    ]
    if moves:
        modules |= dict(actor=actor, actor_target=actor_target)
        average = Averaging(actor_target, actor, polyak)
        updates.append(Update("actor", of_actor, lr, after=[average]))
    steps, precision = budget.bcq_steps, budget.precision
    train(
        "bcq",
        training_key("bcq", hyper.bcq, data, rng, steps, hyper.gamma, precision),
        modules,
        updates,
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )
    for net in (vae, critic, actor):
        net.requires_grad_(False)
    source = Perturbed(vae, actor if moves else None)
    return Drawing(source, own.count("acting_candidates"), FirstCritic(critic))
