"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905): its losses and one update of all
networks. Twin critics are two members.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from arq_core.algorithm.nets import MLP, Critic
from arq_core.collectors.policies.acting import squashed
from arq_core.collectors.policies.sac_native import native_update
from arq_core.engine.streams import Streams
from arq_core.engine.train import ADAM, Averaging


@dataclass(frozen=True)
class Settings:
    """Table 1 of the paper, except `batch` (256 there), `uniform` (1,000 or 10,000) and what it
    leaves open.
    """

    seed: int = 0
    steps: int = 1_000_000  # environment steps; one update after each
    width: int = 128  # half the paper's, for the same reason
    # half the paper's: an update costs half, and a core is what we have
    batch: int = 128
    gamma: float = 0.99
    lr: float = 3e-4
    polyak: float = 0.995  # the target keeps this share of itself
    uniform: int = 5_000  # first steps, with uniform actions and no updates
    # UPDATES: the same formulas, rounded differently; "native" needs a C++ compiler
    update: str = "native"
    actor_every: int = 10_000  # steps between files of the actor
    state_every: int = 20_000  # steps between files of the whole state, at least


def soft_target(
    q_next: Tensor,
    log_prob: Tensor,
    rewards: Tensor,
    terminals: Tensor,
    alpha: Tensor,
    gamma: float,
) -> Tensor:
    """Eq. 3 with the smaller of the critics: r + γ·(1 - terminal)·(min_e Q_e(s', a') - α·log
    π(a'|s')), [B] from q_next [E, B].
    """
    return rewards + gamma * (1 - terminals) * (q_next.amin(0) - alpha * log_prob)


def critic_loss(
    critic: nn.Module,
    target: nn.Module,
    actor: nn.Module,
    log_alpha: Tensor,
    batch: list[Tensor],
    noise: Tensor,
    gamma: float,
) -> Tensor:
    """Eq. 5 for every critic: mean squared soft Bellman error, summed over the members."""
    states, actions, rewards, terminals, after = batch
    with torch.no_grad():
        a_next, log_prob = squashed(actor(after[None]), noise)
        y = soft_target(
            target(after.expand(2, -1, -1), a_next.expand(2, -1, -1)[:, :, None])[..., 0],
            log_prob[0],
            rewards,
            terminals,
            log_alpha.exp(),
            gamma,
        )
    q = critic(states.expand(2, -1, -1), actions.expand(2, -1, -1)[:, :, None])[..., 0]
    return (q - y).square().mean(1).sum()


def actor_loss(
    critic: nn.Module, actor: nn.Module, log_alpha: Tensor, states: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Eq. 9, mean of α·log π(a|s) - min_e Q_e(s, a), and the mean of log π."""
    actions, log_prob = squashed(actor(states[None]), noise)
    q = critic(states.expand(2, -1, -1), actions.expand(2, -1, -1)[:, :, None])[..., 0].amin(0)
    return (log_alpha.exp() * log_prob[0] - q).mean(), log_prob.detach().mean()


class Adam:
    """Adam on a list of parameters, with moments that can be saved (`torch.optim` without the
    bookkeeping of a step).
    """

    def __init__(self, parameters: list[Tensor], lr: float):
        self.parameters, self.lr = parameters, lr
        self.taken = [torch.zeros(()) for _ in parameters]
        self.mean, self.square = ([torch.zeros_like(p) for p in parameters] for _ in range(2))

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        adam(
            self.parameters,
            gradients,
            self.mean,
            self.square,
            [],
            self.taken,
            fused=True,
            lr=self.lr,
            **ADAM,
        )

    def tensors(self, name: str) -> dict[str, Tensor]:
        moments = dict(taken=self.taken, mean=self.mean, square=self.square)
        return {f"{name}.{k}.{i}": x for k, values in moments.items() for i, x in enumerate(values)}


def torch_update(learner: Learner) -> Callable[[Tensor, Tensor], None]:
    """`update(rows [B], noise [2 B A])`: one step of Adam for the critics, the actor and the
    temperature, in that order.
    """
    s, a = learner.dims
    critic, target, actor, log_alpha = (
        learner.critic,
        learner.target,
        learner.actor,
        learner.log_alpha,
    )
    average = Averaging(target, critic, learner.settings.polyak)

    def update(rows: Tensor, noise: Tensor) -> None:
        states, actions, rewards, terminals, after = learner.replay[rows].split([s, a, 1, 1, s], 1)
        batch = states, actions, rewards[:, 0], terminals[:, 0], after
        loss = critic_loss(
            critic, target, actor, log_alpha, batch, noise[:1], learner.settings.gamma
        )
        learner.adam["critic"].step(torch.autograd.grad(loss, learner.adam["critic"].parameters))
        loss, log_prob = actor_loss(critic, actor, log_alpha, states, noise[1:])
        learner.adam["actor"].step(torch.autograd.grad(loss, learner.adam["actor"].parameters))
        # Eq. 18: the gradient of -log α·(log π - A), with the target entropy -A
        learner.adam["alpha"].step([a - log_prob])
        average()

    return update


UPDATES = {"native": native_update, "torch": torch_update}


class Learner:
    """Actor, critics, temperature and replay buffer, and the one update of all of them."""

    def __init__(self, state_dim: int, action_dim: int, settings: Settings):
        self.settings, rng = settings, Streams([settings.seed])
        self.dims = state_dim, action_dim
        self.actor = MLP(state_dim, 2 * action_dim, rng.fork("actor"), settings.width)
        self.critic = Critic(state_dim, action_dim, rng.fork("critic", copies=2), settings.width)
        self.target = copy.deepcopy(self.critic)
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.draws = rng.fork("updates")
        trained = dict(
            critic=list(self.critic.parameters()),
            actor=list(self.actor.parameters()),
            alpha=[self.log_alpha],
        )
        self.adam = {name: Adam(parameters, settings.lr) for name, parameters in trained.items()}
        # s, a, r, terminal, s'
        self.replay = torch.zeros(settings.steps, 2 * state_dim + action_dim + 2)
        self._update = UPDATES[settings.update](self)

    def update(self, filled: int) -> None:
        """One step of Adam for the critics, the actor and the temperature, on a batch of the
        `filled` rows of the buffer.
        """
        a, b = self.dims[1], self.settings.batch
        self._update(self.draws.randint(filled, b)[0], self.draws.randn(2, b, a)[0])

    def tensors(self) -> dict[str, Tensor]:
        """All that an update reads or writes, but the replay buffer and the random streams."""
        modules = dict(actor=self.actor, critic=self.critic, target=self.target)
        out = {
            f"{m}.{k}": v for m, module in modules.items() for k, v in module.state_dict().items()
        }
        return (
            out
            | {"log_alpha": self.log_alpha}
            | {k: v for name, a in self.adam.items() for k, v in a.tensors(name).items()}
        )
