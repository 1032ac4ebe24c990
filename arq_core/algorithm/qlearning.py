"""Update theta with the gradient of Eq. 5; and Q_beta, the behaviour policy's value (ablation)."""
from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arq_core.algorithm.nets import Critic
from arq_core.algorithm.support import kth_largest
from arq_core.algorithm.types import (
    Candidates,
    DataError,
    States,
    SupportSet,
    Transitions,
    Values,
    in_support,
)
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine import machine
from arq_core.engine.store import Store, fingerprint
from arq_core.engine.streams import Streams
from arq_core.engine.train import Kept, precision, train
from arq_core.engine.updates import Averaging, Update

CRITICS = 2               # critics per seed for ARQ (appendix A.2); Q_beta has one
# (state, action, critic) rows at once: what stays in two cores' cache, or fits in memory
CRITIC_ROWS = {"cpu": 24_576, "cuda": 4_194_304}
CRITIC_UNITS = 512        # machine.activations of a critic for such a row: two layers of 256


@dataclass(frozen=True)
class QEnsemble:
    """C critics for each of E seeds, one batch of E·C networks; values in reward units. Trained
    ones are the target critics: those that policies ask (released code)."""

    net: Critic
    copies: int
    loss: Tensor | None = None

    def all(self, states: States, actions: Candidates) -> Float[Tensor, "E C B n"]:
        """What each critic says."""
        repeat = [x.repeat_interleave(self.copies, 0) for x in (states, actions)]
        return self.net(*repeat).unflatten(0, (-1, self.copies))

    def min(self, states: States, actions: Candidates) -> Values:
        """The least that a critic says."""
        return self.all(states, actions).amin(1)

    def __call__(self, states: States, actions: Candidates) -> Values:
        """The first critic: policies use one (released code)."""
        return self.all(states, actions)[:, 0]


def bootstrap_released(values: Float[Tensor, "*rows N"], mask: Bool[Tensor, "*rows N"], k: int,
                       of_data: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """max(K-th largest in support, Q(s', a'_data)); the latter where there are fewer than K."""
    return torch.maximum(kth_largest(values, mask, k), of_data)


def bootstrap_paper(values: Float[Tensor, "*rows N"], mask: Bool[Tensor, "*rows N"], k: int,
                    of_data: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """K-th largest in support, as Eq. 5 reads; where there are fewer the smallest in support, and
    Q(s', a'_data) where there is none."""
    fewest = values.masked_fill(~mask, torch.inf).amin(-1)
    kth = torch.where(mask.sum(-1) < k, fewest, kth_largest(values, mask, k))
    return torch.where(mask.any(-1), kth, of_data)


BOOTSTRAPS: dict[str, Callable] = {"released": bootstrap_released, "paper": bootstrap_paper}


def target(rewards: Float[Tensor, "*rows"], terminals: Bool[Tensor, "*rows"],
           v_next: Float[Tensor, "*rows"], gamma: float) -> Float[Tensor, "*rows"]:
    """r + gamma·v(s'), reward units; nothing beyond a terminal, always v beyond a time limit."""
    return rewards + gamma * ~terminals * v_next


def policy_evaluation_loss(q: QEnsemble, states: Float[Tensor, "E B S"],
                           actions: Float[Tensor, "E B A"],
                           targets: Float[Tensor, "E B"]) -> Float[Tensor, " EC"]:
    """L_policy-eval, Eq. 5, with d half the squared error, the target shared by both critics."""
    error = q.all(states, actions[:, :, None]).squeeze(-1) - targets[:, None]
    return 0.5 * error.square().mean(-1).flatten()


def loss_of_rows(q: QEnsemble, data: Transitions, m: Int[Tensor, "E B"],
                 v_next: Float[Tensor, "E B"], gamma: float,
                 loss: Callable = policy_evaluation_loss) -> Float[Tensor, " EC"]:
    """`policy_evaluation_loss` on transitions m, with the targets of `target`."""
    targets = target(data.rewards[m], data.terminals[m], v_next, gamma)
    return loss(q, data.states[data.state[m]], data.actions[m], targets)


@torch.no_grad()
def sarsa_values(q_target: QEnsemble, data: Transitions,
                 m: Int[Tensor, "E B"]) -> Float[Tensor, "E B"]:
    """Q(s', a') of transitions m with the data's own a'."""
    states, actions = data.states[data.next_state[m]], data.actions[data.next_transition[m]]
    return q_target.min(states, actions[:, :, None]).squeeze(-1)


@torch.no_grad()
def next_values(q_target: QEnsemble, data: Transitions, support: SupportSet,
                m: Int[Tensor, "E B"], hyper: Hyper) -> Float[Tensor, "E B"]:
    """What Eq. 5 bootstraps at s' of transitions m: the K-th largest of min over target critics.

    Where no transition follows in the episode (a time limit cut it), no a' is kept, and the densest
    candidate stands in for it.
    """
    e = torch.arange(len(m), device=m.device)[:, None]
    u, following = data.next_state[m], data.next_transition[m]
    actions, log_prob = support.actions[e, u], support.log_prob[e, u]        # [E B N A], [E B N]
    densest = machine.nth(actions, log_prob.argmax(-1))                      # [E B A]
    a_data = torch.where((following >= 0)[..., None], data.actions[following], densest)
    candidates = torch.cat([actions, a_data[:, :, None]], 2)                 # [E B N+1 A]
    values = q_target.min(data.states[u], candidates)                        # [E B N+1]
    inside = in_support(log_prob, hyper.log_epsilon)                         # [E B N]
    return BOOTSTRAPS[hyper.variant](values[..., :-1], inside, hyper.k, values[..., -1])


def fit_q(data: Transitions, support: SupportSet, hyper: Hyper, budget: Budget, rng: Streams,
          store: Store, key: dict, start: QEnsemble | None = None,
          kept: dict[int, QEnsemble | None] | None = None) -> QEnsemble:
    """ARQ's policy evaluation: two critics, polyak targets, Eq. 5 in `hyper.variant`.

    It goes on from the critics `start`, where there are some, and puts those of the steps that are
    the keys of `kept` into it.

    With `budget.target_every` = 1 each batch's bootstrap is computed for that batch. Otherwise
    v(s') of the whole dataset is refreshed from the target critics every so many steps: the same
    formula, at most that many steps old (see the ledger). It stays 0 where nothing comes after s'.
    """
    every, rows = budget.target_every, torch.arange(len(data.actions), device=rng.device)
    going_on = (~data.terminals).nonzero().squeeze(1)
    at_once = CRITIC_ROWS[rng.device.type]
    most = max(1, at_once // (len(rng) * CRITICS * (support.actions.shape[2] + 1)))
    _ = data.next_transition                   # computed here, and not in the compiled program
    columns = budget.q_steps * (hyper.batch if every == 1 else len(going_on) / every)
    size = dict(units=at_once * CRITIC_UNITS, calls=columns / most)
    values = machine.compiled(next_values, rng.device, **size)
    v = torch.zeros(len(rng), len(rows), device=rng.device)

    def bootstrap(q_target: QEnsemble, m: Tensor) -> Tensor:
        return machine.in_pieces(lambda m: values(q_target, data, support, m, hyper), m, most)

    def refresh(q_target: QEnsemble, taken: int) -> None:
        if taken % every == 0 and len(going_on):
            v[:, going_on] = bootstrap(q_target, going_on.expand(len(rng), -1))

    key = dict(key, variant=hyper.variant, k=hyper.k, log_epsilon=hyper.log_epsilon,
               target_every=every, lr=hyper.q_lr, steps=budget.q_steps)
    how = (bootstrap,) if every == 1 else (lambda q_target, m: v.gather(1, m), refresh)
    return fit_critics("q", CRITICS, rows, data, hyper, budget, rng, store, key, v, *how,
                       start=start, kept=kept)


def fit_q_beta(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store,
               start: QEnsemble | None = None,
               kept: dict[int, QEnsemble | None] | None = None) -> QEnsemble:
    """Q_beta by SARSA on (s, a, r, s', a'): one critic and a target network (appendix A.2); `start`
    and `kept` as in `fit_q`.

    Transitions that neither end the process nor have a next action carry no target and are left
    out; DataError where none is left.
    """
    usable = (data.terminals | (data.next_transition >= 0)).nonzero().squeeze(1)
    if not len(usable):
        raise DataError("Q_beta: saw no transition that ends the process or has a next one in its "
                        "episode, expected some; episodes of one or two steps that a time limit "
                        "cut say nothing about the behaviour's value.")
    values = sarsa_values
    if rng.device.type == "cuda":         # one row a transition: on a processor nothing is gained
        size = dict(units=hyper.batch * len(rng) * CRITIC_UNITS, calls=budget.q_beta_steps)
        values = machine.compiled(sarsa_values, rng.device, **size)
    key = dict(lr=hyper.q_beta_lr, steps=budget.q_beta_steps)
    return fit_critics("q_beta", 1, usable, data, hyper, budget, rng, store, key, None,
                       lambda q_target, m: values(q_target, data, m), start=start, kept=kept)


def fit_critics(name: str, copies: int, rows: Int[Tensor, " R"], data: Transitions, hyper: Hyper,
                budget: Budget, rng: Streams, store: Store, key: dict, v: Tensor | None,
                bootstrap: Callable, refresh: Callable = lambda q_target, taken: None,
                start: QEnsemble | None = None,
                kept: dict[int, QEnsemble | None] | None = None) -> QEnsemble:
    """Minimise Eq. 5 on transitions `rows` with v(s') = bootstrap(q_target, m); `v` is kept."""
    if wrong := [k for k in kept or () if not 0 <= k < key["steps"]]:
        raise ValueError(f"kept: saw {wrong}, expected steps from 0 to {key['steps'] - 1}.")
    batches, weights = rng.fork(name), rng.fork(name, "weights", copies=copies)
    net = Critic(data.states.shape[1], data.actions.shape[1], weights).to(rng.device)
    if start:
        net.load_state_dict(start.net.state_dict())
        key = dict(key, start=fingerprint(start.net.state_dict()))
    q = QEnsemble(net, copies)
    q_target = QEnsemble(copy.deepcopy(net).requires_grad_(False), copies)
    seen = {k: copy.deepcopy(q_target.net) for k in kept or ()}
    squared_error = machine.compiled_with_gathering(
        loss_of_rows, policy_evaluation_loss, rng.device,
        calls=key["steps"], units=machine.BACK_AND_FORTH * hyper.batch * machine.activations(net))

    def loss() -> Tensor:
        m = rows[batches.randint(len(rows), hyper.batch)]
        return squared_error(q, data, m, bootstrap(q_target, m), hyper.gamma)

    @torch.no_grad()
    def before_step(taken: int) -> None:
        if taken in seen:
            seen[taken].load_state_dict(q_target.net.state_dict())
        with precision(budget.critic_precision, rng.device):
            refresh(q_target, taken)

    key = dict(key, data=data.fingerprint(), seeds=rng.seeds, gamma=hyper.gamma, batch=hyper.batch,
               polyak=hyper.polyak, precision=budget.critic_precision)
    key = dict(key, kept=list(seen)) if seen else key
    modules = dict(q=net, target=q_target.net) | ({} if v is None else dict(v=Kept(v)))
    modules |= {f"at_{k}": x for k, x in seen.items()}
    update = Update("q", loss, key["lr"], after=[Averaging(q_target.net, net, hyper.polyak)])
    curve = train(name, key, modules, [update], steps=key["steps"], rng=batches, store=store,
                  before_step=before_step, arithmetic=budget.critic_precision)["q"]
    if kept is not None:
        kept.update({k: QEnsemble(x, copies) for k, x in seen.items()})
    return QEnsemble(q_target.net, copies, curve)
