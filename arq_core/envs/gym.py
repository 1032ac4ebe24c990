"""Any Gymnasium environment with real-valued observations and a box of actions, as a vector of
episodes: for data of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from arq_core.envs.vector import EnvError

PREFIX = "gymnasium:"  # in front of an environment's id where a task's name could stand


class GymEnvs:
    """n episodes, each in an environment of its own from `make()`. Policies act in [-1, 1]^A: the
    box is stretched to the environment's.

    Observations are flattened to one vector (a dict in Gymnasium's order of keys). An episode that
    ended or was cut is not stepped again. `horizon` in steps is the environment's own where it is
    not given. Success is `info["success"]` or `info["is_success"]`, false where the environment
    says neither.
    """

    def __init__(self, make: Callable, n: int, horizon: int = 0):
        try:
            from gymnasium.spaces import Box, flatdim, flatten
        except ImportError as error:
            raise EnvError(
                f"gymnasium cannot be loaded ({error}); install it: pip install '.[sim]' -c "
                "constraints.txt"
            ) from error
        self.envs = [make() for _ in range(n)]
        space, box = self.envs[0].observation_space, self.envs[0].action_space
        if (
            not isinstance(box, Box)
            or box.dtype.kind != "f"
            or not np.isfinite([box.low, box.high]).all()
        ):
            raise EnvError(
                f"environment: saw actions in {box}, expected a box of finite real numbers; "
                "ARQ chooses among real-valued actions."
            )
        self.flatten = lambda observation: np.asarray(flatten(space, observation), np.float32)
        self.middle, self.half = (
            (box.high + box.low).reshape(-1) / 2,
            (box.high - box.low).reshape(-1) / 2,
        )
        self.shape = box.shape
        self.state_dim, self.action_dim = flatdim(space), int(np.prod(box.shape))
        spec = self.envs[0].spec
        self.horizon = horizon or (spec and spec.max_episode_steps) or 0
        if not self.horizon:
            raise EnvError(
                f"environment {spec.id if spec else self.envs[0]}: saw no time limit, "
                "expected one, so that every episode ends; give `horizon`, or register it "
                "with max_episode_steps."
            )

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """States [n, S] of one episode per seed."""
        if len(seeds) > len(self.envs):
            raise EnvError(
                f"GymEnvs.reset: saw {len(seeds)} seeds, expected at most {len(self.envs)}; "
                "make more environments."
            )
        self.states = np.stack(
            [
                self.flatten(env.reset(seed=int(seed))[0])
                for env, seed in zip(self.envs, seeds, strict=False)
            ]
        )
        self.over = np.zeros(len(seeds), bool)
        return self.states.copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """States [n, S], rewards [n], over [n] (ended or cut), success [n]."""
        rewards, success = np.zeros(len(self.over)), np.zeros(len(self.over), bool)
        stretched = (np.clip(actions, -1, 1) * self.half + self.middle).reshape(-1, *self.shape)
        for i in np.flatnonzero(~self.over):
            action = stretched[i].astype(self.envs[i].action_space.dtype)
            observation, rewards[i], terminated, truncated, info = self.envs[i].step(action)
            self.states[i], self.over[i] = self.flatten(observation), terminated or truncated
            success[i] = bool(info.get("success", info.get("is_success", False)))
        return self.states.copy(), rewards, self.over.copy(), success

    def close(self) -> None:
        """Close all environments, those without an episode too."""
        for env in self.envs:
            env.close()


def by_id(name: str) -> Callable[[int], GymEnvs]:
    """For "gymnasium:Hopper-v4": the function n -> GymEnvs."""

    def envs(n: int) -> GymEnvs:
        try:
            import gymnasium

            return GymEnvs(lambda: gymnasium.make(name.removeprefix(PREFIX)), n)
        except ImportError as error:
            raise EnvError(
                f"{name}: cannot be made ({error}); install the simulators: pip install "
                "'.[sim]' -c constraints.txt"
            ) from error
        except gymnasium.error.Error as error:
            raise EnvError(
                f"environment: saw {name!r}, which Gymnasium does not make ({error}); "
                "expected an id that `gymnasium.make` knows."
            ) from error

    return envs
