"""Theorem 1 of the paper on tables: policy iteration with a KL term is soft policy iteration on
penalised values, and what its constant Z(s) does.

Shapes: K decision processes at once, S states, A actions, n iterations; float64 throughout.
Rewards, penalties and Q are in nats, in units of the temperature, which Theorem 1 sets to 1
(`at_temperature` gives any other). A policy pi(a|s) is [K S A]. Iterations start at Q_0 = 0.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from arq_core.algorithm.types import DataError
from arq_core.engine.streams import Streams
from arq_core.theory.penalties import log_partition

SUM_TOLERANCE = 1e-9       # how far probabilities in float64 may be from a sum of one


@dataclass(frozen=True)
class TabularMDP:
    """K decision processes. DataError for what are none."""

    transitions: Float[Tensor, "K S A S"]     # P(s'|s, a)
    rewards: Float[Tensor, "K S A"]           # r(s, a)
    gamma: float                              # one discount, in [0, 1)

    def __post_init__(self):
        p, r = self.transitions, self.rewards
        if p.ndim != 4 or p.shape[:3] != r.shape or p.shape[1] != p.shape[3]:
            raise DataError(f"TabularMDP: saw transitions {tuple(p.shape)} and rewards "
                            f"{tuple(r.shape)}, expected [K S A S] and [K S A]; add a first axis "
                            "for one process.")
        if p.dtype != torch.float64 or r.dtype != torch.float64:
            raise DataError(f"TabularMDP: saw {p.dtype} and {r.dtype}, expected float64 for both; "
                            "call .double().")
        if not 0 <= self.gamma < 1:
            raise DataError(f"TabularMDP.gamma: saw {self.gamma}, expected 0 <= gamma < 1: at 1 "
                            "and beyond the values of an endless process are infinite.")
        if not r.isfinite().all():
            raise DataError(f"TabularMDP.rewards: saw {int((~r.isfinite()).sum())} entries that "
                            "are not finite, expected numbers; forbid actions by a penalty "
                            "instead.")
        sums = p.sum(-1)
        if not (p >= 0).all() or not ((sums - 1).abs() <= SUM_TOLERANCE).all():
            raise DataError(f"TabularMDP.transitions: saw entries from {p.min():.3g} and sums from "
                            f"{sums.min():.6g} to {sums.max():.6g}, expected probabilities of s', "
                            "at least 0 and of sum 1; divide by the sum over the last axis.")

    def at_temperature(self, temperature: float) -> TabularMDP:
        """The process in units of another temperature: a soft value here, times the temperature, is
        the soft value at that temperature."""
        return replace(self, rewards=self.rewards / temperature)

    def copies(self, count: int) -> TabularMDP:
        """The same processes `count` times over, K becomes count K."""
        transitions = self.transitions.repeat(count, 1, 1, 1)
        return replace(self, transitions=transitions, rewards=self.rewards.repeat(count, 1, 1))

    def backup(self, v: Float[Tensor, "K S"]) -> Float[Tensor, "K S A"]:
        """r(s, a) + gamma E v(s')."""
        return self.rewards + self.gamma * (self.transitions @ v[:, None, :, None]).squeeze(-1)


def corridor(states: int = 21, actions: int = 21, gamma: float = 0.95,
             ) -> tuple[Float[Tensor, " S"], Float[Tensor, " A"], TabularMDP]:
    """(positions in [0, 1], actions in [-1, 1], one process): a tenth of a step along the corridor,
    paid for around 0.9, effort costs half its square.

    Between two positions the walker lands on either with the probability that keeps its mean.
    Actions outside the data are the fast ones.
    """
    s = torch.linspace(0, 1, states, dtype=torch.float64)
    a = torch.linspace(-1, 1, actions, dtype=torch.float64)
    landing = (s[:, None] + 0.1 * a).clamp(0, 1) * (states - 1)
    places = torch.arange(states, dtype=torch.float64)
    near = (1 - (landing[..., None] - places).abs()).clamp(min=0)         # linear interpolation
    rewards = (-0.5 * ((s - 0.9) / 0.1) ** 2).exp()[:, None] - 0.5 * a ** 2
    return s, a, TabularMDP(near[None], rewards[None], gamma)


def relu_features(s: Float[Tensor, " S"], a: Float[Tensor, " A"], count: int,
                  rng: Streams) -> Float[Tensor, "E S A F"]:
    """A network's hidden layer with random, fixed weights: relu(w (2s - 1, a, 1)) / sqrt(F), a draw
    for each stream."""
    one = torch.ones((), dtype=s.dtype)
    x = torch.stack(torch.broadcast_tensors(2 * s[:, None] - 1, a[None], one), -1)
    weights = rng.randn(3, count, dtype=s.dtype)
    return (torch.einsum("sax,exf->esaf", x, weights) / count ** 0.5).relu()


@dataclass(frozen=True)
class Iterates:
    """What an iteration went through."""

    q: Float[Tensor, "n K S A"]      # Q_1 .. Q_n
    pi: Float[Tensor, "n K S A"]     # pi_1 .. pi_n, the policies that improve on them


def random_mdps(count: int, states: int, actions: int, gamma: float, rng: Streams) -> TabularMDP:
    """P(.|s, a) uniform on the simplex (normalised exponentials), rewards standard normal. `rng`
    has one stream, whatever the count; DataError otherwise."""
    if len(rng) != 1:
        raise DataError(f"random_mdps: saw {len(rng)} streams, expected 1; the count is an "
                        "argument.")
    weight = -torch.log1p(-rng.rand(count, states, actions, states, dtype=torch.float64)[0])
    rewards = rng.randn(count, states, actions, dtype=torch.float64)[0]
    return TabularMDP(weight / weight.sum(-1, keepdim=True), rewards, gamma)


def inner(pi: Float[Tensor, "... A"], u: Float[Tensor, "... A"]) -> Float[Tensor, " ..."]:
    """<pi, u>(s) = sum_a pi(a|s) u(s, a), with 0 times infinity taken as 0."""
    return torch.where(pi > 0, pi * u, 0).sum(-1)


def kl(pi: Float[Tensor, "... A"], log_pi_p: Float[Tensor, "... A"]) -> Float[Tensor, " ..."]:
    """D_KL(pi(s) || pi_p(s)), nats."""
    return inner(pi, pi.log() - log_pi_p)


def entropy(pi: Float[Tensor, "... A"]) -> Float[Tensor, " ..."]:
    """H(pi(s)) = -<pi, ln pi>(s), nats."""
    return -inner(pi, pi.log())


def evaluate(mdp: TabularMDP, pi: Float[Tensor, "K S A"],
             bonus: Float[Tensor, "K S"] | float = 0.0) -> Float[Tensor, "K S A"]:
    """The fixed point Q = r + gamma E[<pi, Q>(s') + bonus(s')], the evaluation half of Eq. 2, by a
    linear solve for v = <pi, Q> + bonus."""
    p_pi = torch.einsum("ksa,ksat->kst", pi, mdp.transitions)
    system = torch.eye(pi.shape[1], dtype=pi.dtype) - mdp.gamma * p_pi
    v = torch.linalg.solve(system, (pi * mdp.rewards).sum(-1) + bonus)
    return mdp.backup(v)


def kl_policy_iteration(mdp: TabularMDP, log_pi_p: Float[Tensor, "... S A"], iterations: int,
                        to_convergence: bool = False) -> Iterates:
    """Theorem 1, first algorithm, each argmin and argmax exact:
    Q_{k+1} = r + gamma E[<pi_k, Q_k> - D_KL(pi_k || pi_p)], pi_{k+1} = pi_p exp(Q_{k+1}) / sum.

    `to_convergence` repeats the evaluation of pi_k until it no longer changes, as in Eq. 2.
    DataError where pi_p does not sum to one.
    """
    sums = log_pi_p.logsumexp(-1)
    if log_pi_p.isnan().any() or not (sums.abs() <= SUM_TOLERANCE).all():
        raise DataError(f"log_pi_p: saw probabilities whose log-sums run from {sums.min():.3g} to "
                        f"{sums.max():.3g}, expected 0 (a sum of 1) at every state; a state "
                        "without support has no policy; use penalties.induced_policy(p).log().")
    return _iterate(mdp, iterations, to_convergence,
                    improve=lambda q: (log_pi_p + q).softmax(-1),
                    value=lambda pi, q: inner(pi, q) - kl(pi, log_pi_p))


def soft_policy_iteration(mdp: TabularMDP, penalty: Float[Tensor, "... S A"], iterations: int,
                          with_z: bool = True, to_convergence: bool = False) -> Iterates:
    """Theorem 1, second algorithm: Q_{k+1} = r + gamma E[<pi_k, Q_k - p> - Z + H(pi_k)],
    pi_{k+1} = softmax(Q_{k+1} - p). `with_z=False` ignores Z."""
    z = log_partition(penalty)
    shift = z if with_z else torch.zeros_like(z)
    return _iterate(mdp, iterations, to_convergence,
                    improve=lambda q: (q - penalty).softmax(-1),
                    value=lambda pi, q: inner(pi, q - penalty) - shift + entropy(pi))


def hard_max_iteration(mdp: TabularMDP, inside: Bool[Tensor, "... S A"], iterations: int,
                       to_convergence: bool = False) -> Iterates:
    """ARQ's evaluation (Eq. 5 at K = 1): Q_{k+1} = r + gamma E max over the support of Q_k. With
    `to_convergence` this is Eq. 2 inside the support. DataError where a support is empty."""
    log_partition(torch.where(inside, 0.0, torch.inf))                    # refuses an empty support
    return _iterate(mdp, iterations, to_convergence,
                    improve=lambda q: greedy(q.masked_fill(~inside, -torch.inf)), value=inner)


def filtered_iteration(mdp: TabularMDP, zeta: Bool[Tensor, "... S A"], iterations: int) -> Iterates:
    """MBS-QI's filtration (Liu et al. 2020): Q_{k+1} = r + gamma E max_a zeta Q_k, so a filtered
    action counts as worth 0, not as forbidden.

    We pass zeta(s, a) = 1[beta(a|s) >= epsilon]; theirs filters by the density of the pair (s, a).
    """
    return _iterate(mdp, iterations, False,
                    improve=lambda q: greedy(zeta * q), value=lambda pi, q: inner(pi, zeta * q))


def fitted_q_iteration(mdp: TabularMDP, features: Float[Tensor, "K S A F"],
                       data: Float[Tensor, "... S A"], inside: Bool[Tensor, "... S A"],
                       iterations: int, ridge: float) -> Iterates:
    """Eq. 3 with Q_theta linear in features and d the squared error: theta_{k+1} by ridge
    regression on the pairs that `data` counts, pi_{k+1} greedy in `inside`.

    Next states enter by their true distribution, so there is no noise of sampling: what goes wrong
    is the fit where there are no data.
    """
    share = (data / data.sum((-2, -1), keepdim=True)).expand(mdp.rewards.shape)
    x, share = features.flatten(1, 2), share.flatten(1)[..., None]
    gram = x.mT @ (share * x) + ridge * torch.eye(x.shape[-1], dtype=x.dtype)

    def fit(target):
        theta = torch.linalg.solve(gram, x.mT @ (share * target.flatten(1)[..., None]))
        return (x @ theta).reshape(target.shape)

    return _iterate(mdp, iterations, False, fit=fit, value=inner,
                    improve=lambda q: greedy(q.masked_fill(~inside, -torch.inf)))


def greedy(q: Float[Tensor, "... A"]) -> Float[Tensor, "... A"]:
    """All probability on the largest value, the first of equals."""
    return torch.nn.functional.one_hot(q.argmax(-1), q.shape[-1]).to(q.dtype)


def support_gap(q_star: Float[Tensor, "... S A"],
                inside: Bool[Tensor, "... S A"]) -> Float[Tensor, "... S"]:
    """Delta(s) = max_a Q*(s, a) - max over the support of Q*(s, a): what the constraint costs at s,
    once."""
    return q_star.amax(-1) - q_star.masked_fill(~inside, -torch.inf).amax(-1)


def support_constant(mdp: TabularMDP, q_star: Float[Tensor, "K S A"],
                     inside: Bool[Tensor, "... S A"]) -> Float[Tensor, " K"]:
    """alpha(Pi) = max over (s, a) of |T^Pi Q* - T Q*| (the suboptimality constant of Kumar et al.
    2019, section 4.1) for the policies of a support.

    It is gamma max E Delta(s'), and the best Q inside the support is within alpha(Pi) / (1 - gamma)
    of Q*.
    """
    return (mdp.backup(support_gap(q_star, inside)) - mdp.rewards).amax((-2, -1))


def _iterate(mdp: TabularMDP, iterations: int, to_convergence: bool,
             improve: Callable[[Tensor], Tensor], value: Callable[[Tensor, Tensor], Tensor],
             fit: Callable[[Tensor], Tensor] = lambda target: target) -> Iterates:
    """The scheme of Eq. 3: evaluate pi_k by one backup of value(pi_k, Q_k), or to its fixed point,
    and improve."""
    q = torch.zeros_like(mdp.rewards)
    pi, qs, pis = improve(q), [], []
    for _ in range(iterations):
        if to_convergence:
            q = evaluate(mdp, pi, value(pi, torch.zeros_like(q)))
        else:
            q = fit(mdp.backup(value(pi, q)))
        pi = improve(q)
        qs.append(q)
        pis.append(pi)
    return Iterates(torch.stack(qs), torch.stack(pis))
