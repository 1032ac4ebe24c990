"""What the widgets that walk compute in a page, computed here by the project's own functions: a
policy acts (`ImplicitPolicy.act`), a simulator answers (`BridgeEnvs.step`, `MazeEnvs.step`), the
noise is `Noise`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from arq_core.envs.bridge import PLANKS, START_STRAY, BridgeEnvs, middle
from arq_core.envs.maze import FARTHEST, STRAY, WAY, MazeEnvs
from arq_core.widgets.base import refuse
from arq_core.widgets.noise import STEP, Noise, normal_starts, starts

WATCHER = STEP - 1  # stands where the reader looks, with noise of its own
LARGEST = np.iinfo(np.int16).max
# whole numbers of 16 or 8 bits and their unit, or units that broadcast
Numbers = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class World:
    """Where walkers walk: `envs(n)` simulates n of them, `starts(seed, n)` are their first states
    [n, 2], and a walk is cut after so many `steps`.
    """

    envs: Callable[[int], Any]
    starts: Callable[[int, int], np.ndarray]
    steps: int


def _on_the_first_plank(seed: int, n: int) -> np.ndarray:
    return np.stack([np.zeros(n), START_STRAY * starts(seed, n)], 1)


def _near_the_start(seed: int, n: int) -> np.ndarray:
    """As `MazeEnvs.reset`: the first normal draw that is not too far off."""
    off = STRAY * normal_starts(seed, n)
    first = (np.linalg.norm(off, axis=-1) <= FARTHEST).argmax(1)
    return np.array(WAY[0]) + off[np.arange(n), first]


BRIDGE = World(BridgeEnvs, _on_the_first_plank, PLANKS)
MAZE = World(MazeEnvs, _near_the_start, MazeEnvs.horizon)


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
    weights: Mapping[str, Numbers]

    def arrays(self) -> dict[str, np.ndarray]:
        """What a page is sent to compute candidates: what modelOf of walk_stage.js reads."""
        behavior, numbers = self.policy.behavior, self.weights.values()
        arrays = {
            "weights": np.concatenate([x.ravel() for x, _ in numbers if x.dtype == np.int16]),
            "units": np.concatenate([np.ravel(unit) for _, unit in numbers]),
            "embedded": self.embedded,
            "integrals": self.integrals,
            "normal": np.stack([
                *(x.numpy() for x in (behavior.of_state.mean, behavior.of_state.scale)),
                *(x.numpy() for x in (behavior.of_action.mean, behavior.of_action.scale)),
            ]),
        }  # fmt: skip
        small = [x.ravel() for x, _ in numbers if x.dtype == np.int8]
        return arrays | ({"bytes": np.concatenate(small)} if small else {})

    def words(self) -> dict[str, Any]:
        """How to read `arrays`."""
        behavior = self.policy.behavior
        kinds = {np.dtype(np.int16): "i2", np.dtype(np.int8): "i1"}
        return {
            "layout": [
                [name, list(x.shape), kinds[x.dtype], list(np.shape(unit))]
                for name, (x, unit) in self.weights.items()
            ],
            "layers": len(behavior.net.dense),
            "times": self.times.tolist(),
            "betas": [behavior.sde.beta_min, behavior.sde.beta_max],
            "gamma": self.gamma,
        }


def rounded(name: str, x: np.ndarray) -> Numbers:
    """(int16 numbers, unit) whose product is x to 1/65534 of its largest magnitude; WidgetError
    for numbers that are not finite.
    """
    refuse(name, x := np.asarray(x))
    unit = np.float32(max(float(np.abs(x).max()), 1e-30) / LARGEST)
    return np.round(x / unit).clip(-LARGEST, LARGEST).astype(np.int16), unit


@dataclass(frozen=True)
class Walked:
    """A walk of W walkers: `states` [steps + 1, W, 2] (where a walk ended it stays), the number of
    `steps` [W] that each took, whether it `arrived` [W] and whether it `ended` [W] before it was
    cut; `rewards` [W] of the last steps.

    `empty` of all steps had no candidate in the support. `believed` is Q of the first step, and
    `earned` the discounted return; means over walkers.
    """

    states: np.ndarray
    steps: np.ndarray
    arrived: np.ndarray
    ended: np.ndarray
    rewards: np.ndarray
    empty: int
    believed: float
    earned: float

    def positions(self) -> list[list[list[float]]]:
        """The state of each walker at the start and after each step."""
        return self.states.tolist()


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


@dataclass(frozen=True)
class Certain:
    """A behaviour that has one action in each state, that of an `actor` (states -> actions)."""

    actor: Callable[[torch.Tensor], torch.Tensor]

    def sample(self, states, n, rng):
        """The action, n times."""
        return self.actor(states)[:, :, None].expand(-1, -1, n, -1)

    def sample_with_log_prob(self, states, n, rng, clip=False):
        """The action, and 0: it has no density."""
        return self.sample(states, n, rng), torch.zeros(*states.shape[:2], n)

    def log_prob(self, actions, states, rng):
        """0: it has no density."""
        return torch.zeros(actions.shape[:3])


def no_value(states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """The Q of who has none: 0."""
    return torch.zeros(actions.shape[:3])


@torch.no_grad()
def choose(policy: Any, states: np.ndarray, noise: Noise) -> Choice:
    """Eq. 4 and Eq. 6 at states [W, 2]."""
    there = torch.as_tensor(states)[None]
    actions, log_prob = policy.behavior.sample_with_log_prob(there, policy.n, noise, True)
    q = policy.q(there, actions)
    action = replace(policy, behavior=Drawn(actions, log_prob)).act(there, noise)
    chosen = (actions == action[:, :, None]).all(-1)[0].int().argmax(-1)
    return Choice(*(x[0].numpy() for x in (actions, log_prob, q)), chosen.numpy())


def walk(world: World, policy: Any, gamma: float, walkers: int, seed: int) -> Walked:
    """One episode of each walker by `policy`, and its return with the discount `gamma`."""
    envs, everyone = world.envs(walkers), np.arange(walkers)
    states = envs.place(world.starts(seed, walkers))
    passed, alive, arrived = [states], np.ones(walkers, bool), np.zeros(walkers, bool)
    steps, earned, empty, believed = np.zeros(walkers, int), np.zeros(walkers), 0, 0.0
    last = np.zeros(walkers)
    line = -np.inf if policy.log_epsilon is None else policy.log_epsilon
    for step in range(world.steps):
        choice = choose(policy, states, Noise(seed, step, everyone))
        if step == 0:
            believed = float(choice.q[everyone, choice.chosen].mean())
        states, rewards, ended, success = envs.step(choice.actions[everyone, choice.chosen])
        earned += alive * gamma**step * rewards
        empty += int((alive & ~(choice.log_prob >= line).any(-1)).sum())
        steps += alive
        last = np.where(alive, rewards, last)
        arrived |= alive & success
        passed.append(np.where(alive[:, None], states, passed[-1]))
        alive &= ~ended
        if not alive.any():
            passed += passed[-1:] * (world.steps - step - 1)
            break
    return Walked(
        np.stack(passed), steps, arrived, ~alive, last, empty, believed, float(earned.mean())
    )


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
