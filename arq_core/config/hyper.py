"""What is chosen before anything is computed: hyperparameters, which the paper or we chose, and a
budget, which is what can be afforded.

Apart from `types`, so that planning the grid needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Hyper:
    """What the paper (or, for our own problems, we) chose: Tables A.1 to A.3 and the text.

    `data/hyperparameters.toml` cites each.
    """

    # "released" or "paper": how Eq. 5 is bootstrapped (qlearning.BOOTSTRAPS)
    variant: str
    n: int  # N, candidates per state that Eq. 5 learns from
    acting_n: int  # fresh ones at every state of an episode, Eq. 6; the paper's are as many
    log_epsilon: float  # log of epsilon in Eq. 4, nats
    k: int  # K of the K-th largest in Eq. 5
    gamma: float  # discount
    alpha_q_beta: float  # alpha of Eq. 6 for Q_beta + s_psi
    alpha_arq: float  # alpha of Eq. 6 for ARQ + s_psi
    alpha_pi: float  # alpha of AWR for ARQ + pi_phi
    head: str  # pi_phi: "gaussian", "deterministic" or "resnet" (policies.HEADS)
    ensemble: int  # members of s_psi whose scores are averaged
    width: int  # units per layer of s_psi
    batch: int
    score_lr: float
    q_lr: float
    q_beta_lr: float
    policy_lr: float
    ema: float  # averaging of the score network's weights
    score_schedule: str  # of the score network's learning rate (train.SCHEDULES)
    # p of diffusion times t = u^p, u uniform, in score matching; 1 is the paper's
    time_power: float
    polyak: float  # averaging of the target critic's weights
    # steps in which critics are regressed on returns before Eq. 5 (baselines.returns), and their
    # learning rate; 0, the paper's, is random weights
    warm_start: int
    warm_start_lr: float
    reward: str  # reward transform of the group (datasets.rewards)
    # direct Q-penalisation: temperature tau, and alpha of each row of Table 1 (baselines.penalised)
    dqp: Mapping[str, float]
    # settings of the neighbours, each by the name of its field (NEIGHBOURS): their authors', and
    # what they make of the recorded rewards. A mapping a method, so that a change for one makes no
    # step of another be done again
    iql: Mapping[str, float | str]
    td3_bc: Mapping[str, float | str]
    awac: Mapping[str, float | str]
    one_step: Mapping[str, float | str]
    bcq: Mapping[str, float | str]
    bc_mse: Mapping[str, float | str]
    bc_gmm: Mapping[str, float | str]
    cql: Mapping[str, float | str]
    dt: Mapping[str, float | str]
    ibc: Mapping[str, float | str]
    ibc_small: Mapping[str, float | str]
    idql: Mapping[str, float | str]
    rebrac: Mapping[str, float | str]


# The other columns of Table A.4, and two of today: method -> its field of Hyper; of Budget, with
# `_steps` behind it
NEIGHBOURS = {
    "bc-mse": "bc_mse",
    "bc-gmm": "bc_gmm",
    "ibc": "ibc",
    "ibc-small": "ibc_small",
    "one_step": "one_step",
    "dt": "dt",
    "awac": "awac",
    "td3+bc": "td3_bc",
    "bcq": "bcq",
    "cql": "cql",
    "iql": "iql",
    "idql": "idql",
    "rebrac": "rebrac",
}


# What a recipe of data/recipes.toml may replace: how something is optimised and how finely it is
# sampled, and nothing that a formula or a policy means
RECIPE = frozenset(
    "n k ensemble batch score_lr score_schedule ema q_lr q_beta_lr policy_lr polyak warm_start "
    "warm_start_lr".split()
)


@dataclass(frozen=True)
class Budget:
    """What we can afford. A profile of `data/profiles.toml` sets nothing else, or names a recipe
    (RECIPE) beside it.
    """

    seeds: int  # how many seeds, trained at once
    # they are this one and those after it: not 0 where the first ones chose hyperparameters
    first_seed: int
    episodes: int  # evaluation episodes per seed
    # of the dataset that are learned from, in whole episodes (dataset.thin); 0 is all
    transitions: int
    score_steps: int  # optimiser steps of s_psi
    q_steps: int  # of Q (ARQ)
    q_beta_steps: int  # of Q_beta
    policy_steps: int  # of pi_phi
    # of each neighbour (NEIGHBOURS); of one that trains several things in turn, of the last
    iql_steps: int
    td3_bc_steps: int
    awac_steps: int
    one_step_steps: int
    bcq_steps: int
    bc_mse_steps: int
    bc_gmm_steps: int
    cql_steps: int
    dt_steps: int
    ibc_steps: int
    ibc_small_steps: int
    idql_steps: int
    rebrac_steps: int
    # distinct diffusion times in a batch of score matching (the paper: one per row)
    times_per_batch: int
    sampler: str  # samplers.SAMPLERS
    sampler_steps: int  # evaluations of the score per sample
    # log-density of a sample: "same_solve" (with the sample), "multistep" or "rk45" (ScoreBehavior)
    density: str
    probes: int  # Hutchinson probes for the log-density; 0 is the exact divergence
    # critic steps between refreshes of the bootstrap values; 1 computes them for every batch
    target_every: int
    precision: str  # "float32" or "bfloat16": arithmetic of the large matrix products
    critic_precision: str  # and of the critics' own


# Horizons of target lag below which no critic on door-human, whose episodes are longer than one,
# was of use (data/benchmarks/critics.json): necessary, not sufficient
HORIZONS = 20


def horizons_of_lag(steps: int, gamma: float, polyak: float) -> float:
    """How many horizons 1/(1 - gamma) the lags 1/(1 - polyak) of a target network cover in so many
    steps: what a one-step bootstrap has to walk before a critic says anything of what is far.
    """
    return steps * (1 - polyak) * (1 - gamma)


def neighbours_walk(own: Mapping[str, float | str], gamma: float, steps: int) -> float | None:
    """`horizons_of_lag` of a neighbour's critic with the settings `own` and its `steps`; None for a
    neighbour that bootstraps nothing.

    One whose critic takes several steps for each of its own says how many (`q_share`), and one with
    a discount of its own says that too.
    """

    def number(name: str, otherwise: float) -> float:
        return float(own.get(name, otherwise))

    if "polyak" not in own:
        return None
    learned = round(steps * number("q_share", 1))
    return horizons_of_lag(learned, number("gamma", gamma), number("polyak", 0))
