"""Policies out of Q: the implicit one of Eq. 6, and pi_phi by advantage-weighted regression (the
last lines of Algorithm 1)."""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from arq_core.algorithm.nets import MLP, ResNet
from arq_core.algorithm.types import (
    Actions,
    Behavior,
    QFunction,
    States,
    SupportSet,
    Transitions,
    in_support,
)
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.machine import BACK_AND_FORTH, activations, compiled_with_gathering, nth
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train

WEIGHT_CLIP = 100.0             # e^(alpha·A) is clipped here; released code
LOG_STD_RANGE = (-5.0, 2.0)     # of the Gaussian policy; released code
ROWS_PER_PASS = 64              # states at once: few enough to stay in cache


def advantage(values: Float[Tensor, "*rows n"],
              mask: Bool[Tensor, "*rows n"]) -> Float[Tensor, "*rows n"]:
    """A(s, a) = Q(s, a) less its mean over the candidates in the support (0 if none), Eq. 6."""
    mean = (values * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return values - mean


def implicit_probabilities(values: Float[Tensor, "*rows n"], mask: Bool[Tensor, "*rows n"],
                           alpha: float, logits: str = "advantage") -> Float[Tensor, "*rows n"]:
    """Eq. 6: softmax of alpha·A or alpha·Q (a constant apart) over the candidates in the support;
    alpha = inf is greedy, ties shared. Each state needs a candidate in the support."""
    if math.isinf(alpha):
        inside = values.masked_fill(~mask, -torch.inf)
        best = (inside == inside.amax(-1, keepdim=True)) & mask
        return best / best.sum(-1, keepdim=True)
    scaled = alpha * {"advantage": advantage, "q": lambda q, mask: q}[logits](values, mask)
    return scaled.masked_fill(~mask, -torch.inf).softmax(-1)


@dataclass(frozen=True)
class ImplicitPolicy:
    """Eq. 6 with n fresh samples of beta at every state, clipped to the box before density and Q
    judge them, and not filtered if `log_epsilon` is None (released code).

    Where no sample is in the support the first is taken, a plain draw of beta. Without a Q (`q`
    None) it is the cloned behaviour itself.
    """

    behavior: Behavior
    q: QFunction | None
    alpha: float
    n: int
    log_epsilon: float | None
    logits: str = "advantage"

    @property
    def replayable(self) -> bool:
        """Whether `act` may be replayed as a CUDA graph: RK45 chooses its steps on the CPU."""
        if self.q is None or self.log_epsilon is None:
            return True
        budget = getattr(self.behavior, "budget", None)
        return budget is None or budget.density != "rk45"

    def reset(self, n: int) -> None:
        """Nothing to forget: the policy has no memory."""

    @torch.no_grad()
    def act(self, states: States, rng: Streams) -> Actions:
        """An action for each state, in the box."""
        if self.q is None:
            return self.behavior.sample(states, 1, rng).squeeze(2).clamp(-1, 1)
        if self.log_epsilon is None:
            candidates = self.behavior.sample(states, self.n, rng).clamp(-1, 1)
            mask = torch.ones(candidates.shape[:3], dtype=torch.bool, device=candidates.device)
        else:
            candidates, log_prob = self.behavior.sample_with_log_prob(states, self.n, rng, True)
            mask = in_support(log_prob, self.log_epsilon)
            first = torch.arange(self.n, device=mask.device) == 0
            mask = torch.where(mask.any(-1, keepdim=True), mask, first)
        p = implicit_probabilities(self.q(states, candidates), mask, self.alpha, self.logits)
        cumulative, u = p.cumsum(-1), 1 - rng.rand(states.shape[1])            # u is in (0, 1]:
        chosen = (cumulative < u[..., None] * cumulative[..., -1:]).sum(-1)    # never where p = 0
        return nth(candidates, chosen)


class Head(nn.Module):
    """pi_phi as a network of E members: calling it gives actions."""

    def regression_loss(self, states: States, actions: Actions) -> Float[Tensor, "E B"]:
        """How badly each of `actions` is fitted."""
        raise NotImplementedError


class GaussianHead(Head):
    """Mean squashed by tanh, log-std in [-5, 2], the same at all states (released code)."""

    def __init__(self, state_dim: int, action_dim: int, rng: Streams):
        super().__init__()
        self.net = MLP(state_dim, action_dim, rng)
        self.log_std = nn.Parameter(torch.zeros(len(rng), 1, action_dim))

    def forward(self, states: States) -> Actions:
        """The mean."""
        return self.net(states).float().tanh()

    def regression_loss(self, states: States, actions: Actions) -> Float[Tensor, "E B"]:
        """-log N(a; mean(s), std), nats."""
        log_std = self.log_std.clamp(*LOG_STD_RANGE)
        z = (actions - self(states)) / log_std.exp()
        return (0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


class DeterministicHead(Head):
    """An action for each state, not squashed, fitted by squared error (released code)."""

    def __init__(self, state_dim: int, action_dim: int, rng: Streams, network: Callable = MLP):
        super().__init__()
        self.net = network(state_dim, action_dim, rng)

    def forward(self, states: States) -> Actions:
        """The action, not clipped to the box."""
        return self.net(states).float()

    def regression_loss(self, states: States, actions: Actions) -> Float[Tensor, "E B"]:
        """‖a - mean(s)‖², action units squared."""
        return (actions - self(states)).square().sum(-1)


HEADS: dict[str, Callable[..., Head]] = {   # Table A.3
    "gaussian": GaussianHead,
    "deterministic": DeterministicHead,
    "resnet": lambda s, a, rng: DeterministicHead(s, a, rng, ResNet),
}


@dataclass(frozen=True)
class ExplicitPolicy:
    """pi_phi: one network evaluation per state, clipped to the box."""

    head: nn.Module
    loss: Tensor

    def reset(self, n: int) -> None:
        """Nothing to forget: the policy has no memory."""

    @torch.no_grad()
    def act(self, states: States, rng: Streams) -> Actions:
        """An action for each state, clipped to the box."""
        return self.head(states).clamp(-1, 1)


@torch.no_grad()
def data_advantage(data: Transitions, support: SupportSet, q: QFunction,
                   log_epsilon: float) -> Float[Tensor, "E M"]:
    """A(s, a) of every transition, against the candidates in the support and a (released code)."""
    inside, members = support.mask(log_epsilon), len(support.actions)
    result = []
    for m in torch.arange(len(data.actions), device=data.actions.device).split(ROWS_PER_PASS):
        u, own = data.state[m], data.actions[m].expand(members, -1, -1)
        candidates = torch.cat([support.actions[:, u], own[:, :, None]], 2)
        mask = torch.cat([inside[:, u], torch.ones_like(inside[:, u, :1])], 2)
        values = q(data.states[u].expand(members, -1, -1), candidates)
        result.append(advantage(values, mask)[..., -1])
    return torch.cat(result, 1)


def weighted_regression_loss(head: Head, states: Float[Tensor, "E B S"],
                             actions: Float[Tensor, "E B A"],
                             weights: Float[Tensor, "E B"]) -> Float[Tensor, " E"]:
    """AWR's loss (Peng et al. 2019, Eq. 11): the head's regression loss, weighted."""
    return (weights * head.regression_loss(states, actions)).mean(1)


def loss_of_rows(head: Head, data: Transitions, m: Int[Tensor, "E B"],
                 weights: Float[Tensor, "E M"],
                 loss: Callable = weighted_regression_loss) -> Float[Tensor, " E"]:
    """`weighted_regression_loss` on transitions m."""
    return loss(head, data.states[data.state[m]], data.actions[m], weights.gather(1, m))


def awr_weights(advantages: Float[Tensor, "E M"], alpha: float) -> Float[Tensor, "E M"]:
    """e^(alpha·A), clipped at 100 (Peng et al. 2019, Eq. 11; the clip is the released code's)."""
    return (alpha * advantages).exp().clamp(max=WEIGHT_CLIP)


def fit_awr(data: Transitions, advantages: Float[Tensor, "E M"], alpha: float, hyper: Hyper,
            budget: Budget, rng: Streams, store: Store, key: dict,
            name: str = "policy") -> ExplicitPolicy:
    """AWR, advantage-weighted regression: minimise -E[e^(alpha·A) log pi_phi(a|s)] over the data's
    own actions. alpha = 0 is behaviour cloning.

    Deterministic heads use the weighted squared error instead. ValueError for an unknown head.
    """
    if hyper.head not in HEADS:
        raise ValueError(f"head: saw {hyper.head!r}, expected one of {sorted(HEADS)}.")
    batches, sizes = rng.fork(name), (data.states.shape[1], data.actions.shape[1])
    head = HEADS[hyper.head](*sizes, rng.fork(name, "weights")).to(rng.device)
    weights = awr_weights(advantages, alpha)
    if idle := [seed for seed, w in zip(rng.seeds, weights, strict=True) if not w.any()]:
        warnings.warn(f"{name}: saw weights e^(alpha·A) that are all 0 for seeds {idle}, with A "
                      f"from {float(advantages.min()):.4g} to {float(advantages.max()):.4g}, "
                      "expected some above 0: the policy stays as it was initialised. Critics that "
                      "rate the sampled candidates far above the data's own actions do this; most "
                      "often the score model was trained too briefly.", stacklevel=2)
    weighted = compiled_with_gathering(
        loss_of_rows, weighted_regression_loss, rng.device,
        units=BACK_AND_FORTH * hyper.batch * activations(head), calls=budget.policy_steps)

    def loss() -> Tensor:
        return weighted(head, data, batches.randint(len(data.actions), hyper.batch), weights)

    key = dict(key, data=data.fingerprint(), seeds=rng.seeds, alpha=alpha, head=hyper.head,
               lr=hyper.policy_lr, batch=hyper.batch, steps=budget.policy_steps,
               precision=budget.precision)
    curve = train(name, key, dict(head=head), [Update("head", loss, hyper.policy_lr)], rng=batches,
                  steps=budget.policy_steps, store=store, arithmetic=budget.precision)["head"]
    return ExplicitPolicy(head.requires_grad_(False), curve)
