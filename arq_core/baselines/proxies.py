"""What the penalties of Table 1 measure in the place of beta(a|s), learned from the data: five
models, each a function of states and actions.

Every `fit_*` returns values [E, B, n] (or beta(s), [E, B, A]) for raw states [E, B, S] and raw
actions [E, B, n, A], differentiable in the actions, with weights that no gradient reaches. Inside,
states and actions are standardised. All are trained with pi_phi's learning rate, batch and steps
and a cosine schedule: like pi_phi they are models of the data that no value enters. Networks are
small (64 swish units); the published ones are wider.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.algorithm.nets import Normalizer
from arq_core.algorithm.types import Transitions
from arq_core.baselines.clones import ConditionalVAE, Layers, Mixture, normal_log_prob
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import train
from arq_core.engine.updates import Averaging, Update, cosine
from arq_core.theory.penalties import ensemble_spread

Proxy = Callable[[Tensor, Tensor], Tensor]  # (states [E B S], actions [E B n A]) -> [E B n]
NETWORK = dict(width=64, hidden=2)
EMBEDDING = 32  # dimensions of the pseudometric's embedding
# transitions among which the nearest is looked for; published: all, filtered by their state's
# neighbours
BANK = 512
MODELS = 5  # dynamics models; MOPO trains 7 and keeps 5
# least standard deviation of a dynamics model, in standard deviations of what it predicts: on data
# without noise it would go to 0
MODEL_STD = 0.01


def _standardised(data: Transitions) -> tuple[Normalizer, Normalizer, Tensor, Tensor]:
    """Normalizers of states and actions, the standardised distinct states [U S] and actions [M
    A].
    """
    of_state, of_action = Normalizer.of(data.states[data.state]), Normalizer.of(data.actions)
    return of_state, of_action, of_state(data.states), of_action(data.actions)


def _fit(
    name: str,
    net: nn.Module,
    loss: Callable[[Tensor], Tensor],
    data: Transitions,
    hyper: Hyper,
    budget: Budget,
    seeds: tuple[int, ...],
    members: Streams,
    store: Store,
    others: dict[str, nn.Module] | None = None,
    after: Sequence[Averaging] = (),
    before_step: Callable[[int], None] = lambda taken: None,
) -> nn.Module:
    """Train `net` on `loss(rows [E B]) -> [E]` of transitions drawn with replacement; returns it
    with its weights held.
    """
    drawn = lambda: loss(members.randint(len(data.actions), hyper.batch))
    key = dict(
        data=data.fingerprint(),
        seeds=seeds,
        lr=hyper.policy_lr,
        batch=hyper.batch,
        steps=budget.policy_steps,
        precision=budget.precision,
        **NETWORK,
    )
    key |= dict(gamma=hyper.gamma, polyak=hyper.polyak) if others else {}
    train(
        name,
        key,
        dict(net=net, **(others or {})),
        [Update("net", drawn, hyper.policy_lr, cosine, after=after)],
        steps=budget.policy_steps,
        rng=members,
        store=store,
        before_step=before_step,
        arithmetic=budget.precision,
    )
    return net.requires_grad_(False)


def _clone(
    name: str,
    build: Callable[..., nn.Module],
    data: Transitions,
    hyper: Hyper,
    budget: Budget,
    rng: Streams,
    store: Store,
):
    """Train one of `clones`' networks by its own loss: (net, of_state, of_action)."""
    members = rng.fork("proxy", name)
    of_state, of_action, states, actions = _standardised(data)
    scale = of_action.scale.expand(len(rng), 1, -1)
    net = build(data.states.shape[1], data.actions.shape[1], scale, members, **NETWORK).to(
        rng.device
    )
    net = _fit(
        name,
        net,
        lambda m: net.loss(actions[m], states[data.state[m]], members),
        data,
        hyper,
        budget,
        rng.seeds,
        members,
        store,
        before_step=lambda taken: net.at(taken / budget.policy_steps),
    )
    return net, of_state, of_action


def fit_reconstruction(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Proxy:
    """‖a - Dec(s, Enc(s, a))‖² of a conditional VAE, standardised actions (Rezaeifar et al. 2022);
    z at its mean, the decoder's spread learned.
    """
    net, of_state, of_action = _clone(
        "reconstruction", ConditionalVAE, data, hyper, budget, rng, store
    )
    return lambda states, actions: net.reconstruction_error(of_action(actions), of_state(states))


def fit_sampler(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Callable[[Tensor, int, Streams], Tensor]:
    """Actions of the same conditional VAE, (states [E B S], n, rng) -> raw [E B n A]: the
    behaviour's samples that BEAR's MMD is taken to.
    """
    net, of_state, of_action = _clone(
        "reconstruction", ConditionalVAE, data, hyper, budget, rng, store
    )
    return lambda states, n, rng: of_action.inverse(net.sample(of_state(states), n, rng))


def fit_gaussian_log_prob(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Proxy:
    """log beta(a|s) of the Gaussian clone that BRAC takes (Wu et al. 2019), nats, of the
    standardised action.
    """
    net, of_state, of_action = _clone(
        "gaussian", partial(Mixture, components=1), data, hyper, budget, rng, store
    )
    return lambda states, actions: net.log_prob(of_action(actions), of_state(states), rng)


class Mean(nn.Module):
    """An action for each state, by least squares: the conditional mean of the data's actions."""

    def __init__(
        self, state_dim: int, action_dim: int, scale: Tensor, rng: Streams, width: int, hidden: int
    ):
        super().__init__()
        self.layers = Layers(state_dim, action_dim, width, hidden, rng)

    def forward(self, states: Float[Tensor, "E B S"]) -> Float[Tensor, "E B A"]:
        return self.layers(states)

    def loss(
        self, actions: Float[Tensor, "E B A"], states: Float[Tensor, "E B S"], rng: Streams
    ) -> Float[Tensor, " E"]:
        return (actions - self(states)).square().sum(-1).mean(-1)

    def at(self, share: float) -> None:
        """What changes with the share of training that is done: nothing."""


def fit_mean(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Callable[[Tensor], Tensor]:
    """beta(s) of TD3+BC as the table writes it, states [E B S] -> raw actions [E B A]: E[a|s],
    which between two modes is neither.
    """
    net, of_state, of_action = _clone("mean", Mean, data, hyper, budget, rng, store)
    return lambda states: of_action.inverse(net(of_state(states)))


class Pseudometric(nn.Module):
    """Embeddings Phi(s, a) and Psi(s) whose Euclidean distances are the pseudometrics between pairs
    and between states.
    """

    def __init__(self, state_dim: int, action_dim: int, rng: Streams):
        super().__init__()
        self.of_pair, self.of_state = (
            Layers(state_dim + action_dim, EMBEDDING, rng=rng, **NETWORK),
            Layers(state_dim, EMBEDDING, rng=rng, **NETWORK),
        )

    def pair(
        self, states: Float[Tensor, "E B S"], actions: Float[Tensor, "E B A"]
    ) -> Float[Tensor, "E B D"]:
        return self.of_pair(torch.cat([states, actions], -1))


def _distance(x: Float[Tensor, "... D"], y: Float[Tensor, "... D"]) -> Float[Tensor, ...]:
    """Euclidean, with a gradient where it is zero."""
    return ((x - y).square().sum(-1) + 1e-12).sqrt()


def pseudometric_loss(
    net: Pseudometric,
    target: Pseudometric,
    states: Tensor,
    actions: Tensor,
    next_states: Tensor,
    rewards: Float[Tensor, "E B"],
    terminals: Tensor,
    anywhere: Float[Tensor, "E B A"],
    gamma: float,
) -> Float[Tensor, " E"]:
    """The fixed point of Dadashi et al. 2021, over the pairs that a batch makes with its own shift
    by one row:

    ‖Phi(x) - Phi(y)‖ = |r_x - r_y| + gamma ‖Psi(s'_x) - Psi(s'_y)‖ and ‖Psi(s) - Psi(t)‖ = E_u
    ‖Phi(s, u) - Phi(t, u)‖ with u uniform on the box, squared errors. Right sides come from the
    averaged weights `target`. Beyond a terminal nothing happens: it is embedded as zero.
    """
    with torch.no_grad():
        after = target.of_state(next_states) * ~terminals[..., None]
        goal = (rewards - rewards.roll(1, 1)).abs() + gamma * _distance(after, after.roll(1, 1))
        goal_of_states = _distance(
            target.pair(states, anywhere), target.pair(states.roll(1, 1), anywhere)
        )
    pair, state = net.pair(states, actions), net.of_state(states)
    return (
        (_distance(pair, pair.roll(1, 1)) - goal).square()
        + (_distance(state, state.roll(1, 1)) - goal_of_states).square()
    ).mean(-1)


def fit_pseudometric(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Proxy:
    """D(s, a) of PLOFF (Dadashi et al. 2021): the embedding's distance to the nearest of BANK
    transitions, in units of reward.

    It is a distance in consequences: two actions that the rewards cannot tell apart are as one.
    Differs from the published: the bank is a random part of the data, and the expectation over u is
    one draw a step.
    """
    members, bank = rng.fork("proxy", "pseudometric"), rng.fork("proxy", "pseudometric", "bank")
    of_state, of_action, x, a = _standardised(data)
    net = Pseudometric(x.shape[1], a.shape[1], members).to(rng.device)
    target = copy.deepcopy(net).requires_grad_(False)

    def loss(m):
        anywhere = of_action(2 * members.rand(*m.shape[1:], a.shape[1]) - 1)
        return pseudometric_loss(
            net,
            target,
            x[data.state[m]],
            a[m],
            x[data.next_state[m]],
            data.rewards[m],
            data.terminals[m],
            anywhere,
            hyper.gamma,
        )

    net = _fit(
        "pseudometric",
        net,
        loss,
        data,
        hyper,
        budget,
        rng.seeds,
        members,
        store,
        dict(target=target),
        after=[Averaging(target, net, hyper.polyak)],
    )
    m = bank.randint(len(a), BANK)
    # [E BANK D]
    kept = net.pair(x[data.state[m]], a[m])

    def nearest(states, actions):
        here = net.pair(
            of_state(states).repeat_interleave(actions.shape[2], 1),
            of_action(actions).flatten(1, 2),
        )
        best = torch.cdist(here.detach(), kept).argmin(-1)
        return _distance(here, kept.gather(1, best[..., None].expand(-1, -1, EMBEDDING))).unflatten(
            1, actions.shape[1:3]
        )

    return nearest


def fit_dynamics(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Proxy:
    """max over models of ‖Sigma(s, a)‖ (MOPO; Yu et al. 2020): K Gaussian models of (s' - s, r),
    each by likelihood on its own batches.

    Predicted numbers are standardised, so Sigma is in standard deviations of the data's changes.
    The models start from weights of their own.
    """
    members = rng.fork("proxy", "dynamics", copies=MODELS)
    of_state, of_action, x, a = _standardised(data)
    change = torch.cat(
        [data.states[data.next_state] - data.states[data.state], data.rewards[:, None]], -1
    )
    y, dim = Normalizer.of(change)(change), change.shape[1]
    net = Layers(x.shape[1] + a.shape[1], 2 * dim, rng=members, **NETWORK).to(rng.device)

    def predict(states, actions):
        mean, spread = net(torch.cat([states, actions], -1)).chunk(2, -1)
        return mean, F.softplus(spread) + MODEL_STD

    def loss(m):
        return -normal_log_prob(y[m], *predict(x[data.state[m]], a[m])).mean(-1)

    _fit("dynamics", net, loss, data, hyper, budget, rng.seeds, members, store)

    def spread(states, actions):
        rows = (
            of_state(states).repeat_interleave(actions.shape[2], 1),
            of_action(actions).flatten(1, 2),
        )
        # [EK Bn D]
        std = predict(*(r.repeat_interleave(MODELS, 0) for r in rows))[1]
        return ensemble_spread(std.unflatten(0, (-1, MODELS)), printed=False).unflatten(
            1, actions.shape[1:3]
        )

    return spread
