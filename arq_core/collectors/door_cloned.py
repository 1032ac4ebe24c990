"""door-cloned by D4RL's recipe: half the human demonstrations over and over, half rollouts of a
policy that was cloned from them.

D4RL (Fu et al. 2020; scripts/hand_dapg_combined.py for v0): 500,000 steps of the replayed
demonstrations, cut in the middle of one, then 500,000 steps of the cloned policy, 200 to an
episode. Ours is another policy: a Gaussian with a mean network and one standard deviation an
action, fitted by maximum likelihood to the recorded actions, as in hand_dapg; its actions are
clipped to the box.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from arq_core.algorithm.nets import MLP
from arq_core.algorithm.types import DataError
from arq_core.collectors.recording import Episode, Recipe, record
from arq_core.config.paths import cache_folder
from arq_core.datasets.dataset import Dataset, clip_actions
from arq_core.datasets.door import DEMOS, load_demos, replay
from arq_core.datasets.readers.d4rl import read_d4rl
from arq_core.datasets.readers.demos import Demo
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import fingerprint
from arq_core.engine.streams import Streams, derive_seed
from arq_core.engine.train import train
from arq_core.engine.updates import Update, cosine
from arq_core.envs.adroit import DoorEnvs, simulator_versions
from arq_core.envs.door import ACTION_DIM, HORIZON, STATE_DIM, make_door

NAME = "door-cloned-recollected"
RECIPE = 1  # raise it when other episodes would be collected
SEED = 0
HUMAN_STEPS, CLONE_EPISODES = 500_000, 2_500
PART = 100  # episodes in a part: about 8 s of simulation
STEPS, BATCH, RATE = 5_000, 256, 1e-3  # of the cloning; ours: its time is under half a minute
# of a state's entry when it is standardised: some hardly move in the demonstrations
LEAST_STD = 0.05


class Clone(nn.Module):
    """A Gaussian over actions: mean from a network, standard deviations that do not depend on the
    state.
    """

    def __init__(self, demos: list[Demo], rng: Streams):
        super().__init__()
        states = np.concatenate([d.observations for d in demos])
        self.register_buffer("center", torch.tensor(states.mean(0), dtype=torch.float32))
        self.register_buffer(
            "scale", torch.tensor(states.std(0).clip(LEAST_STD), dtype=torch.float32)
        )
        self.mean = MLP(STATE_DIM, ACTION_DIM, rng)
        self.log_std = nn.Parameter(torch.zeros(1, 1, ACTION_DIM))

    def forward(self, states: Tensor) -> Tensor:
        """Mean actions [1, B, A] of raw states [B, S]."""
        return self.mean((states[None] - self.center) / self.scale)

    def loss(self, states: Tensor, actions: Tensor) -> Tensor:
        """Minus the log-likelihood in nats, without its constant, [1]."""
        z = (actions[None] - self(states)) / self.log_std.exp()
        return (0.5 * z.square() + self.log_std).sum(-1).mean(-1)


def recorded(demos: list[Demo]) -> tuple[Tensor, Tensor]:
    """States [M, S] and actions [M, A] of all demonstrations, as they were recorded."""
    states, actions = (
        np.concatenate([getattr(d, name) for d in demos]) for name in ("observations", "actions")
    )
    return torch.tensor(states, dtype=torch.float32), torch.tensor(actions, dtype=torch.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """The same sums in the same order, however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def clone(demos: list[Demo]) -> Clone:
    """The policy cloned from the recorded states and actions; trained once, then read from the
    cache.
    """
    rng = Streams([SEED]).fork(NAME)
    policy = Clone(demos, rng)
    states, actions = recorded(demos)

    def loss() -> Tensor:
        row = rng.randint(len(states), BATCH)[0]
        return policy.loss(states[row], actions[row])

    key = dict(
        demos=DEMOS["sha256"],
        recipe=RECIPE,
        seed=SEED,
        steps=STEPS,
        batch=BATCH,
        rate=RATE,
        torch=torch.__version__,
    )
    with one_thread():
        train(
            "door-clone",
            key,
            dict(policy=policy),
            [Update("policy", loss, RATE, cosine)],
            steps=STEPS,
            rng=rng,
            store=FileStore(cache_folder() / "collected" / "policies"),
        )
    return policy


def human_lengths(lengths: list[int], steps: int) -> list[int]:
    """Lengths of the episodes when demonstrations of `lengths` steps follow each other, again and
    again, until `steps` are full.
    """
    rounds, rest = divmod(steps, sum(lengths))
    last = np.clip(rest - np.cumsum([0, *lengths[:-1]]), 0, lengths)
    return [*lengths * rounds, *last[last > 0].tolist()]


def human_part(human: list[tuple[np.ndarray, ...]], lengths: list[int], i: int) -> list[Episode]:
    """Episodes i·PART to (i + 1)·PART of the human half; demonstration j is (states [T+1 S],
    actions [T A], rewards [T]).
    """
    episodes = []
    for j in range(i * PART, min((i + 1) * PART, len(lengths))):
        states, actions, rewards = human[j % len(human)]
        t = lengths[j]
        episodes.append(
            dict(
                observations=states[: t + 1],
                actions=actions[:t],
                rewards=rewards[:t],
                terminal=False,
            )
        )
    return episodes


def replayed(demos: list[Demo]) -> list[tuple[np.ndarray, ...]]:
    """States [T+1 S], clipped actions [T A] and D4RL's rewards [T] of each demonstration, as the
    simulator returns them.
    """
    sim, out = make_door(), []
    for demo in demos:
        states, rewards = replay(sim, demo)
        out.append(
            (np.concatenate([states, sim._get_obs()[None]]), clip_actions(demo.actions)[0], rewards)
        )
    return out


@torch.no_grad()
def clone_part(policy: Clone, i: int) -> list[Episode]:
    """Episodes i·PART to (i + 1)·PART of the cloned half, all stepped together; episode e starts
    and draws from seeds of its own.
    """
    numbers = range(i * PART, min((i + 1) * PART, CLONE_EPISODES))
    noise = np.stack(
        [
            np.random.default_rng(derive_seed(SEED, NAME, "noise", e)).standard_normal(
                (HORIZON, ACTION_DIM)
            )
            for e in numbers
        ]
    )
    noise *= policy.log_std[0, 0].exp().numpy()
    envs = DoorEnvs(len(numbers))
    states = [envs.reset([derive_seed(SEED, NAME, "start", e) % 2**31 for e in numbers])]
    actions, rewards = [], []
    with one_thread():
        for t in range(HORIZON):
            mean = policy(torch.from_numpy(states[-1]))[0].numpy()
            actions.append(clip_actions(mean + noise[:, t])[0].astype(np.float32))
            state, reward, _, _ = envs.step(actions[-1])
            states.append(state)
            rewards.append(reward)
    s, a, r = (np.stack(x, 1) for x in (states, actions, rewards))
    return [
        dict(observations=s[e], actions=a[e], rewards=r[e], terminal=False)
        for e in range(len(numbers))
    ]


class _Parts:
    """The human half first, as in D4RL's v0 file; demonstrations are replayed when the first part
    asks for them.
    """

    def __init__(self, demos: list[Demo], policy: Clone):
        self.demos, self.policy = demos, policy
        self.lengths = human_lengths([len(d.actions) for d in demos], HUMAN_STEPS)
        self.human_parts = -(-len(self.lengths) // PART)
        self.count = self.human_parts - (-CLONE_EPISODES // PART)

    @cached_property
    def human(self) -> list[tuple[np.ndarray, ...]]:
        return replayed(self.demos)

    def __call__(self, i: int) -> list[Episode]:
        return (
            human_part(self.human, self.lengths, i)
            if i < self.human_parts
            else clone_part(self.policy, i - self.human_parts)
        )


CARD = dict(
    how=f"{HUMAN_STEPS:,} steps of the 25 human demonstrations of hand_dapg, "
    f"replayed open loop, again and again, then {CLONE_EPISODES:,} episodes of "
    f"{HORIZON} steps of a policy cloned from them.",
    behaviour="A Gaussian policy, two layers of 256 ReLU units and one standard "
    "deviation an action, fitted to the recorded actions by maximum "
    "likelihood; its actions are sampled and clipped to the box.",
    licence="Demonstrations: Apache-2.0 (hand_dapg). Rollouts: MIT.",
    differences="The second half is another policy's: ours, cloned from the same "
    "demonstrations. The order (human, then cloned) and the sizes are those of "
    "door-cloned-v0; v1 has the cloned half first, with one episode more. "
    "Time-outs mark the end of every episode. Simulator: gymnasium-robotics "
    "with D4RL's reward.",
)


def recipe(task_name: str = NAME) -> Recipe:
    """Trains the clone, or reads it, and says how the file is made."""
    if task_name != NAME:
        raise DataError(
            f"task: saw {task_name!r}, expected {NAME!r}, the only dataset of this collector."
        )
    demos = load_demos()
    policy = clone(demos)
    parts = _Parts(demos, policy)
    key = dict(
        recipe=RECIPE,
        seed=SEED,
        demos=DEMOS["sha256"],
        policy=fingerprint(policy.state_dict()),
        human_steps=HUMAN_STEPS,
        clone_episodes=CLONE_EPISODES,
        part=PART,
        **simulator_versions(),
    )
    return Recipe(NAME, "d4rl", parts.count, key, parts, CARD)


def load(task_name: str = NAME) -> Dataset:
    """The recorded file through our reader; the first call collects it."""
    return read_d4rl(record(recipe(task_name)), STATE_DIM, ACTION_DIM, fidelity="recollected")
