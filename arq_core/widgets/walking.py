"""What the widget `Walk` computes in a page, computed here by the project's own functions: the
policy acts (`ImplicitPolicy.act`), the bridge answers (`BridgeEnvs.step`), the noise is `Noise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from arq_core.envs.bridge import PLANKS, START_STRAY, BridgeEnvs, middle
from arq_core.widgets.base import refuse
from arq_core.widgets.noise import STEP, Noise, starts

WATCHER = STEP - 1  # stands on the middle of the plank that is looked at, with noise of its own
LARGEST = np.iinfo(np.int16).max


@dataclass(frozen=True)
class Trained:
    """What a page needs to run a policy of one member.

    `policy` is a policies.ImplicitPolicy with the very weights that the page has. Its candidates
    come from one solve on `times` [nodes], embedded as `embedded` [nodes, W], with the weights
    `integrals` [nodes - 1, nodes] of likelihood.path_integrals. `weights` are what `rounded` makes,
    by names of the networks' own; Q was learned with the discount `gamma` and `learned_epsilon`
    (log, nats).
    """

    policy: Any
    gamma: float
    learned_epsilon: float
    times: np.ndarray
    integrals: np.ndarray
    embedded: np.ndarray
    weights: Mapping[str, tuple[np.ndarray, np.float32]]


def rounded(name: str, x: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """(int16 numbers, unit) whose product is x to 1/65534 of its largest magnitude; WidgetError
    for numbers that are not finite.
    """
    refuse(name, x := np.asarray(x))
    unit = np.float32(max(float(np.abs(x).max()), 1e-30) / LARGEST)
    return np.round(x / unit).clip(-LARGEST, LARGEST).astype(np.int16), unit


@dataclass(frozen=True)
class Walked:
    """A walk of W walkers: `sideways` [PLANKS + 1, W] by plank (where one fell it stays, off the
    bridge), the number of `steps` [W] that each took, and whether it `crossed` [W].

    `empty` of all steps had no candidate in the support. `believed` is Q of the first step, and
    `earned` the discounted return; means over walkers.
    """

    sideways: np.ndarray
    steps: np.ndarray
    crossed: np.ndarray
    empty: int
    believed: float
    earned: float

    def positions(self) -> list[list[list[float]]]:
        """(plank, sideways) of each walker at the start and after each step."""
        planks = np.minimum(np.arange(len(self.sideways))[:, None], self.steps)
        return np.stack([planks, self.sideways], -1).tolist()


@dataclass(frozen=True)
class Choice:
    """What a policy chose from: `actions` [W, n, 2], `log_prob` and `q` [W, n], at W states; the
    place of its `chosen` [W] candidate.
    """

    actions: np.ndarray
    log_prob: np.ndarray
    q: np.ndarray
    chosen: np.ndarray


@dataclass(frozen=True)
class Drawn:
    """A behaviour whose candidates were drawn already: the policy chooses among the very ones that
    are shown.
    """

    actions: torch.Tensor
    log_prob_drawn: torch.Tensor

    def sample(self, states, n, rng):
        """The candidates."""
        return self.actions

    def sample_with_log_prob(self, states, n, rng, clip=False):
        """The candidates and their log-density, nats."""
        return self.actions, self.log_prob_drawn

    def log_prob(self, actions, states, rng):
        """Their log-density, nats."""
        return self.log_prob_drawn


@torch.no_grad()
def choose(policy: Any, states: np.ndarray, noise: Noise) -> Choice:
    """Eq. 4 and Eq. 6 at states [W, 2]."""
    there = torch.as_tensor(states)[None]
    actions, log_prob = policy.behavior.sample_with_log_prob(there, policy.n, noise, True)
    q = policy.q(there, actions)
    action = replace(policy, behavior=Drawn(actions, log_prob)).act(there, noise)
    chosen = (actions == action[:, :, None]).all(-1)[0].int().argmax(-1)
    return Choice(*(x[0].numpy() for x in (actions, log_prob, q)), chosen.numpy())


def walk(trained: Trained, policy: Any, walkers: int, seed: int) -> Walked:
    """One episode of each walker by `policy`: `trained.policy`, with settings of its own."""
    envs, everyone = BridgeEnvs(walkers), np.arange(walkers)
    stray = START_STRAY * starts(seed, walkers)
    states = envs.place(np.stack([np.zeros(walkers), stray], 1))
    places, alive, crossed = [states[:, 1]], np.ones(walkers, bool), np.zeros(walkers, bool)
    steps, earned, empty, believed = np.zeros(walkers, int), np.zeros(walkers), 0, 0.0
    for step in range(PLANKS):
        choice = choose(policy, states, Noise(seed, step, everyone))
        if step == 0:
            believed = float(choice.q[everyone, choice.chosen].mean())
        states, rewards, ended, success = envs.step(choice.actions[everyone, choice.chosen])
        earned += alive * trained.gamma**step * rewards
        empty += int((alive & ~(choice.log_prob >= policy.log_epsilon).any(-1)).sum())
        steps += alive
        crossed |= alive & success
        places.append(np.where(alive, states[:, 1], places[-1]))
        alive &= ~ended
    return Walked(np.stack(places), steps, crossed, empty, believed, float(earned.mean()))


def look(policy: Any, plank: int, seed: int) -> Choice:
    """What `policy` chooses from on the middle of a plank: a choice of one walker."""
    at = np.array([[plank, middle(np.float32(plank))]], np.float32)
    return choose(policy, at, Noise(seed, plank, [WATCHER]))


def falls(plank: int, actions: np.ndarray) -> np.ndarray:
    """Whether actions [n, 2] on the middle of a plank lead off the bridge."""
    envs = BridgeEnvs(len(actions))
    envs.place(np.tile(np.float32([plank, middle(np.float32(plank))]), (len(actions), 1)))
    _, _, ended, success = envs.step(actions)
    return ended & ~success


def names_of(layers: int) -> Sequence[str]:
    """Names of the weights that a page has, in the order in which they are sent."""
    score = ["of_state.weight", "of_state.bias", "of_action.weight"]
    score += [f"dense.{i}.{kind}" for i in range(layers) for kind in ("weight", "bias")]
    critic = ["of_state.weight", "of_state.bias", "of_action.weight", "hidden.weight"]
    return [
        *(f"score.{name}" for name in (*score, "out.weight", "out.bias")),
        *(f"critic.{name}" for name in (*critic, "hidden.bias", "out.weight", "out.bias")),
    ]
