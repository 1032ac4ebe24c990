"""The rows of Table 1 on problems whose behaviour is known: what each method knows, what it
therefore subtracts, and what becomes of the policy.

`Evidence` is what the methods may look at, at the N cells of each state: computed from beta itself
(`of_bandit`, `of_density`), or from samples with the model that each method prescribes
(arq_core.baselines.penalty_models). `penalty` is Table 1 on evidence; `policy` is where policy
iteration with that penalty ends. Nothing here knows which of the two it has been given.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import wrightomega
from scipy.stats import rankdata
from torch import Tensor

from arq_core.densities.quality import Grid
from arq_core.densities.segments import SegmentDensity
from arq_core.theory import penalties
from arq_core.theory.bandits import Bandit

BANDWIDTH = 0.2        # of the Gaussian kernel, action units: half of a mode of `bandits.hole`
STEPS = 4000           # of mirror ascent for BRAC-MMD², whose penalty depends on the policy
LOG_EPSILON = -5.0     # the paper's, here of the density of the raw action
HOLE_AT = 1e9          # ranks need an order: what is infinitely penalised is ranked as if by this


@dataclass(frozen=True)
class Evidence:
    """What Table 1 is computed from, at N cells with middles `actions`; the other fields have
    leading axes for states."""

    actions: Float[Tensor, " N"]
    log_beta: Float[Tensor, "... N"]      # log density of the raw action: what Eq. 4 asks
    log_clone: Float[Tensor, "... N"]     # the same by BRAC's model, a Gaussian where it is learned
    mean: Float[Tensor, "... 1"]          # beta(s) of TD3+BC
    error: Float[Tensor, "... N"]         # reconstruction error of anti-exploration
    distance: Float[Tensor, "... N"]      # D(s, a) of PLOFF
    spread: Float[Tensor, "... N"]        # |Sigma(s, a)| of MOPO
    mass: Float[Tensor, "... N"]          # of the cells: CQL's ratio; BRAC-MMD² compares with it


def of_bandit(bandit: Bandit) -> Evidence:
    """beta known. An ideal autoencoder maps what it knows to itself and the rest to the nearest of
    it: its error is the squared distance to the support.

    D is the distance to the support. Sigma is the noise of the reward, the same everywhere:
    aleatoric, as the paper says, and blind to the data.
    """
    a, log_beta = bandit.actions, bandit.log_beta
    away = (a[:, None] - a[bandit.inside]).abs().amin(-1)
    mean, spread = (bandit.beta * a).sum(-1, keepdim=True), torch.full_like(a, bandit.noise)
    return Evidence(a, log_beta, log_beta, mean, away.square(), away, spread, bandit.beta)


def of_density(density: SegmentDensity, grid: Grid, noise: float) -> Evidence:
    """The same for a density of Figure A.1 at the states of a grid; D is measured in the plane of
    state and action."""
    a, mass = grid.actions, grid.mass(density)
    away = density.distance(a, grid.states[:, None])
    distance = density.plane_distance(a, grid.states)
    log_beta, mean = (mass / grid.cell).log(), (mass * a).sum(-1, keepdim=True)
    spread = torch.full_like(away, noise)
    return Evidence(a, log_beta, log_beta, mean, away.square(), distance, spread, mass)


def _mmd(e: Evidence, pi: Tensor, alpha: float, printed: bool) -> Tensor:
    kernel = penalties.gaussian_kernel(e.actions[:, None], e.actions[:, None], BANDWIDTH)
    if printed:
        difference = pi - e.mass
        square = (difference @ kernel * difference).sum(-1, keepdim=True)
        return (alpha * square).expand(e.mass.shape)
    return penalties.mmd_witness_of_masses(kernel, pi, e.mass, alpha)


def _td3_bc(e: Evidence, alpha: float, printed: bool) -> Tensor:
    return penalties.td3_bc(e.actions[:, None], e.mean, alpha, printed)


Row = Callable[[Evidence, Tensor, Tensor, float], Tensor]      # of q, the policy so far, alpha
# PLOFF's alpha is its alpha_2, per unit of the action, with alpha_1 = 1.
ROWS: dict[str, Row] = {
    "none": lambda e, q, pi, alpha: torch.zeros_like(e.log_beta),
    "support": lambda e, q, pi, alpha: penalties.support(e.log_beta, LOG_EPSILON),
    "brac-kl": lambda e, q, pi, alpha: penalties.brac_kl(e.log_clone, alpha),
    "brac-mmd": lambda e, q, pi, alpha: _mmd(e, pi, alpha, printed=False),
    "td3+bc": lambda e, q, pi, alpha: _td3_bc(e, alpha, printed=False),
    "anti-exploration": lambda e, q, pi, alpha: penalties.anti_exploration(e.error, alpha),
    "ploff": lambda e, q, pi, alpha: penalties.ploff(q, e.distance, 1.0, alpha, printed=False),
    "mopo": lambda e, q, pi, alpha: penalties.mopo(e.spread, alpha),
    "cql": lambda e, q, pi, alpha: penalties.cql(pi, e.mass, alpha)}
PRINTED: dict[str, Row] = {
    "brac-mmd": lambda e, q, pi, alpha: _mmd(e, pi, alpha, printed=True),
    "td3+bc": lambda e, q, pi, alpha: _td3_bc(e, alpha, printed=True),
    "ploff": lambda e, q, pi, alpha: penalties.ploff(q, e.distance, 1.0, alpha, printed=True)}


def uniform(like: Float[Tensor, "... N"]) -> Float[Tensor, "... N"]:
    """The policy of equal probabilities."""
    return torch.full_like(like, 1 / like.shape[-1])


def penalty(row: str, e: Evidence, q: Float[Tensor, "... N"], alpha: float,
            printed: bool = False) -> Float[Tensor, "... N"]:
    """A row of Table 1 at the first step of policy iteration, when the policy is uniform (BRAC-MMD²
    and CQL depend on it)."""
    return (PRINTED if printed else ROWS)[row](e, q, uniform(e.mass), alpha)


def policy(row: str, e: Evidence, q: Float[Tensor, " N"], alpha: float) -> Float[Tensor, " N"]:
    """Where soft policy iteration pi <- softmax(Q - p) ends in one state. In one step if p does not
    depend on pi; else the fixed point."""
    if row == "cql":
        return cql_fixed_point(q, e.mass, alpha)
    if row == "brac-mmd":
        return mmd_fixed_point(q, e, alpha)
    return penalties.induced_policy(penalty(row, e, q, alpha) - q)


def cql_fixed_point(q: Float[Tensor, " N"], beta: Float[Tensor, " N"],
                    alpha: float) -> Float[Tensor, " N"]:
    """mu = softmax(Q - alpha (mu/beta - 1)) on the support of beta: with w = alpha mu/beta,
    w + ln w = Q + alpha + ln(alpha/beta) - c.

    The left side is inverted by Wright's omega function, and c makes mu sum to one. Off the support
    mu is 0. Derived here.
    """
    inside = beta > 0
    b, y = beta[inside].double().numpy(), q[inside].double().numpy() + alpha
    of_c = lambda c: b / alpha * wrightomega(y - c + torch.log(alpha / torch.from_numpy(b)).numpy())
    c = brentq(lambda c: of_c(c).sum() - 1, y.min() - alpha - 100, y.max() + 100, xtol=1e-12)
    return torch.zeros_like(beta).masked_scatter(inside, torch.from_numpy(of_c(c)).to(beta.dtype))


def mmd_fixed_point(q: Float[Tensor, " N"], e: Evidence, alpha: float) -> Float[Tensor, " N"]:
    """pi = softmax(Q - witness(pi)), the maximiser of <pi, Q> - alpha MMD²(pi, beta) + H(pi), by
    mirror ascent.

    The objective is concave and 1 + 2 alpha smooth relative to the entropy (k <= 1), so steps of
    1 / (1 + 2 alpha) never overshoot.
    """
    kernel = penalties.gaussian_kernel(e.actions[:, None], e.actions[:, None], BANDWIDTH)
    step, logits = 1 / (1 + 2 * alpha), torch.zeros_like(q)
    for _ in range(STEPS):
        pi = logits.softmax(-1)
        witness = penalties.mmd_witness_of_masses(kernel, pi, e.mass, alpha)
        logits = torch.lerp(logits, q - witness, step)
    return logits.softmax(-1)


def on_support(inside: Bool[Tensor, "... N"]) -> Float[Tensor, "... N"]:
    """The policy that Eq. 4 induces: uniform on the support."""
    return inside / inside.sum(-1, keepdim=True)


def distance_to_uniform(p: Float[Tensor, "... N"],
                        inside: Bool[Tensor, "... N"]) -> Float[Tensor, ""]:
    """Total variation between pi_p and the uniform policy on the support, a mean over states; 0 is
    Eq. 4's policy, 1 has nothing of it."""
    return (penalties.induced_policy(p) - on_support(inside)).abs().sum(-1).mean() / 2


def in_or_out(p: Float[Tensor, "... N"], inside: Bool[Tensor, "... N"]) -> float:
    """The chance that an action of the support is penalised less than one off it at the same state,
    equal ones counted half (area under the ROC curve).

    The rank correlation with Eq. 4, whose penalty has two values only: 1 is its order, .5 none, 0
    the opposite. A mean over states.
    """
    values, states = [], (x.reshape(-1, x.shape[-1]) for x in (_finite(p), inside))
    for x, here in zip(*states, strict=True):
        n, rank = int(here.sum()), torch.from_numpy(rankdata(x.double().numpy()))
        out = len(here) - n
        values.append((rank[~here].sum() - out * (out + 1) / 2) / (out * n))
    return torch.stack(values).mean().item()


def spearman(p: Float[Tensor, "... N"], other: Float[Tensor, "... N"]) -> float:
    """Rank correlation over all cells and states at once, ties at their mean rank; 0 where one of
    the two is constant."""
    a, b = (torch.from_numpy(rankdata(_finite(x).double().flatten().numpy())) for x in (p, other))
    a, b = a - a.mean(), b - b.mean()
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return 0.0 if scale < 1e-9 else ((a * b).sum() / scale).item()


def spread_inside(p: Float[Tensor, "... N"], inside: Bool[Tensor, "... N"]) -> float:
    """How much a penalty differs among supported actions of one state, its largest less its
    smallest value, a mean over states; Eq. 4: 0."""
    high = p.masked_fill(~inside, -torch.inf).amax(-1)
    low = p.masked_fill(~inside, torch.inf).amin(-1)
    return (high - low).mean().item()


def _finite(p: Tensor) -> Tensor:
    return p.nan_to_num(posinf=HOLE_AT, neginf=-HOLE_AT)


def bound(p: Float[Tensor, " N"], good: Bool[Tensor, " N"]) -> float:
    """log 1/pi_p(G), nats: the most that soft policy iteration with penalty p loses of E_pi Q
    against the smallest Q in a set G of actions.

    pi maximises E_pi Q - KL(pi || pi_p), and pi_p restricted to G scores at least
    min_G Q - log 1/pi_p(G); as KL >= 0, E_pi Q is no less. Under Eq. 4 it is the log of the
    support's size over G's, whatever beta is; under BRAC-KL with alpha = 1 it is log 1/beta(G).
    Derived here.
    """
    return -(penalties.induced_policy(p)[good].sum()).log().item()
