"""Any Gymnasium environment with real-valued observations and a box of actions, as a vector of
episodes: for data of your own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from typing import Any

import numpy as np

from arq_core.envs import layout as layouts
from arq_core.envs.layout import Layout
from arq_core.envs.vector import EnvError, check_count, check_step

PREFIX = "gymnasium:"  # in front of an environment's id where a task's name could stand
# of the two names under which environments tell a success
SUCCESS = ("success", "is_success")
# to look for the package that registers an id: one import of each that builds on Gymnasium
SEARCH_SECONDS = 60


def one_number(x, what: str) -> float:
    """A number from a scalar or an array of one entry; EnvError for anything else, and for what is
    not finite.
    """
    try:
        array = np.array(None) if np.ma.is_masked(x) else np.asarray(x)
    except (TypeError, ValueError, RuntimeError):  # a ragged list, a tensor that needs grad
        array = np.array(None)
    if array.size != 1 or array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        shape = f" of shape {array.shape}" if array.ndim else ""
        raise EnvError(
            f"environment: saw {what} {str(x)[:60]} ({type(x).__name__}{shape}), expected one "
            "finite number; mend the environment or wrap it."
        )
    return float(array.reshape(-1)[0])


def success_of(info: Mapping[str, Any]) -> bool:
    """Whether a step's info tells of success, under either of the names; false where under none.

    EnvError where the two disagree.
    """
    said = {
        name: bool(one_number(info[name], f"info[{name!r}]"))
        for name in SUCCESS
        if info.get(name) is not None
    }
    if len(set(said.values())) > 1:
        raise EnvError(
            f"environment: saw info with {' and '.join(f'{k} = {v}' for k, v in said.items())} at "
            "one step, expected both to say the same, or one of them; remove the wrong one in a "
            "wrapper."
        )
    return any(said.values())


class _Spaces:
    """What a single environment and a vector of them share: the box to which actions of [-1, 1]
    are stretched, and how observations become states.
    """

    def __init__(self, space, box, layout: Layout, horizon: int, named: str):
        from gymnasium.spaces import Box, flatdim, flatten

        if (
            not isinstance(box, Box)
            or box.dtype.kind != "f"
            or not np.isfinite([box.low, box.high]).all()
        ):
            raise EnvError(
                f"environment: saw actions in {box}, expected a box of finite real numbers; "
                "ARQ chooses among real-valued actions."
            )
        self._flatten = lambda observation: flatten(space, observation)
        self.action_box = low, high = box.low.reshape(-1), box.high.reshape(-1)
        self.middle, self.half = (high + low) / 2, (high - low) / 2
        self.shape, self.dtype = box.shape, box.dtype
        self.layout = self._own_layout = layout
        self._own_width = self.state_dim = flatdim(space)
        self.action_dim = int(np.prod(box.shape))
        self._columns: np.ndarray | None = None
        self.horizon = horizon
        if not self.horizon:
            raise EnvError(
                f"environment {named}: saw no time limit, expected one, so that every episode "
                "ends; register or make it with max_episode_steps, or wrap it in "
                "gymnasium.wrappers.TimeLimit."
            )

    def arrange(self, layout: Layout) -> None:
        """States are from now on put together in this layout, that of recorded data."""
        columns = layouts.selection(self._own_layout, layout)
        if columns is None:
            raise EnvError(
                f"environment: saw states of {layouts.text(self._own_layout)}, expected those of "
                f"the data, {layouts.text(layout)}, in any order; evaluate in the environment "
                "that the data came from."
            )
        self.layout, self.state_dim = layout, len(columns)
        self._columns = None if layout == self._own_layout else columns

    def flatten(self, observation) -> np.ndarray:
        """One observation as a state [S]: finite, float32."""
        try:
            x = np.asarray(self._flatten(observation)).reshape(-1)
            with np.errstate(over="ignore"):
                state = x.astype(np.float32)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise EnvError(
                f"environment: saw the observation {str(observation)[:120]} "
                f"({type(error).__name__}: {error}), expected one of its observation_space; mend "
                "the environment."
            ) from error
        if len(state) != self._own_width or not np.isfinite(state).all():
            raise EnvError(
                f"environment: saw an observation of {len(state)} numbers, "
                f"{int((~np.isfinite(state)).sum())} not finite (as float32), expected "
                f"{self._own_width} finite numbers, those of its observation_space; mend the "
                "environment."
            )
        return state if self._columns is None else state[self._columns]

    def stretched(self, actions: np.ndarray) -> np.ndarray:
        """Actions [n, *shape] of the environment's box for actions [n, A] of [-1, 1]."""
        low, high = self.action_box
        inside = (np.clip(actions, -1, 1) * self.half + self.middle).clip(low, high)
        return inside.reshape(-1, *self.shape).astype(self.dtype)


def _unavailable(error: Exception) -> EnvError:
    return EnvError(
        f"gymnasium cannot be loaded ({error}); install it: pip install '.[sim]' -c constraints.txt"
    )


class GymEnvs(_Spaces):
    """n episodes, each in an environment of its own from `make()`. Policies act in [-1, 1]^A: the
    box is stretched to the environment's.

    Observations are flattened to one vector (a dict in Gymnasium's order of keys, or as `arrange`
    says). An episode that ended or was cut is not stepped again. `horizon` in steps is the
    environment's own where it is not given. Success is `info["success"]` or `info["is_success"]`,
    false where the environment says neither.
    """

    def __init__(self, make: Callable, n: int, horizon: int = 0):
        try:
            import gymnasium  # noqa: F401  what follows needs it
        except ImportError as error:
            raise _unavailable(error) from error
        self.envs = [make() for _ in range(n)]
        if len({id(env) for env in self.envs}) < n:
            raise EnvError(
                f"environment: saw the same {type(self.envs[0]).__name__} for several of {n} "
                "episodes, expected a new environment from each call; give a function that makes "
                "one each time."
            )
        first = self.envs[0]
        spec = first.spec
        super().__init__(
            first.observation_space,
            first.action_space,
            layouts.of_environment(first),
            horizon or _limit(first),
            str(spec.id if spec else first),
        )

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """States [n, S] of one episode per seed."""
        check_count("GymEnvs.reset", len(seeds), len(self.envs))
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
        check_step("GymEnvs.step", actions, (len(self.over), self.action_dim), ~self.over)
        rewards, success = np.zeros(len(self.over)), np.zeros(len(self.over), bool)
        inside = self.stretched(actions)
        for i in np.flatnonzero(~self.over):
            observation, reward, terminated, truncated, info = self.envs[i].step(inside[i])
            rewards[i] = one_number(reward, "the reward")
            self.states[i] = self.flatten(observation)
            self.over[i] = one_number(terminated, "terminated") or one_number(
                truncated, "truncated"
            )
            success[i] = success_of(info)
        return self.states.copy(), rewards, self.over.copy(), success

    def close(self) -> None:
        """Close all environments, those without an episode too."""
        for env in self.envs:
            env.close()


class GymVectors(_Spaces):
    """n episodes in a vector environment of Gymnasium's, one sub-environment each.

    What a sub-environment does after its episode, such as beginning another one by itself, is not
    counted: its state stays, its reward is 0. Success and action box as for `GymEnvs`.
    """

    def __init__(self, vector, n: int, horizon: int = 0):
        from gymnasium.vector import AutoresetMode

        if vector.num_envs < n:
            raise EnvError(
                f"environment: saw a vector of {vector.num_envs} environments for {n} episodes, "
                "expected one for each, since all seeds' episodes run side by side; give a "
                "function of their number: lambda n: gymnasium.make_vec(ID, num_envs=n)."
            )
        self.vector, self.most = vector, n
        mode = vector.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = AutoresetMode(mode)
        layout = layouts.of_vector(vector)
        super().__init__(
            vector.single_observation_space,
            vector.single_action_space,
            layout,
            horizon or _vector_limit(vector),
            str(vector.spec.id if vector.spec else vector),
        )

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """States [n, S] of one episode per seed."""
        check_count("GymVectors.reset", len(seeds), self.most)
        every = [int(seed) for seed in seeds] + list(range(self.vector.num_envs - len(seeds)))
        observations, _ = self.vector.reset(seed=every)
        self.over = np.zeros(len(seeds), bool)
        self.ended = np.zeros(self.vector.num_envs, bool)
        self.states = np.stack([self.flatten(o) for o in self._each(observations)[: len(seeds)]])
        return self.states.copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """States [n, S], rewards [n], over [n] (ended or cut), success [n]."""
        from gymnasium.vector import AutoresetMode

        n, every = len(self.over), self.vector.num_envs
        check_step("GymVectors.step", actions, (n, self.action_dim), ~self.over)
        if self.mode == AutoresetMode.DISABLED and self.ended.any():
            self.vector.reset(options=dict(reset_mask=self.ended))
        inside = np.zeros((every, self.action_dim), np.float32)
        inside[:n] = np.where(self.over[:, None], 0, actions)
        observations, rewards, terminated, truncated, info = self.vector.step(
            self.stretched(inside)
        )
        self.ended = self._column(terminated, "terminated") != 0
        self.ended |= self._column(truncated, "truncated") != 0
        rewards, each = self._column(rewards, "rewards"), self._each(observations)
        paid, success, rows = np.zeros(n), np.zeros(n, bool), np.flatnonzero(~self.over)
        for i in rows:
            paid[i] = one_number(rewards[i], "the reward")
            self.states[i] = self.flatten(each[i])
            final = info.get("final_info") if self.ended[i] else None
            success[i] = success_of(_row(final or info, i))
        self.over[rows] |= self.ended[rows]
        return self.states.copy(), paid, self.over.copy(), success

    def close(self) -> None:
        """Close the vector."""
        self.vector.close()

    def _each(self, observations) -> list:
        from gymnasium.vector.utils import iterate

        try:
            each = list(iterate(self.vector.observation_space, observations))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise EnvError(
                f"environment: saw observations of type {type(observations).__name__} "
                f"({type(error).__name__}: {error}), expected a batch of its observation_space."
            ) from error
        if len(each) != self.vector.num_envs:
            raise EnvError(
                f"environment: saw observations of {len(each)} episodes, expected "
                f"{self.vector.num_envs}; mend the vector."
            )
        return each

    def _column(self, x, what: str) -> np.ndarray:
        """One entry per sub-environment."""
        column = np.asarray(x)
        if column.size != self.vector.num_envs or column.dtype.kind not in "fiub":
            raise EnvError(
                f"environment: saw {what} of shape {column.shape} ({column.dtype}), expected "
                f"{self.vector.num_envs} numbers, one an episode; mend the vector."
            )
        return column.reshape(-1)


def _limit(env) -> int:
    """Steps after which an environment's episodes are cut, by its spec or its wrapper; 0 where
    neither says it.
    """
    from gymnasium.wrappers import TimeLimit

    cut = layouts.wrapper(env, TimeLimit)
    return (env.spec and env.spec.max_episode_steps) or (cut and cut._max_episode_steps) or 0


def _vector_limit(vector) -> int:
    """As `_limit`, of the episodes of a vector."""
    specs, get = [vector.spec], getattr(vector.unwrapped, "get_attr", None)
    if get is not None:
        try:
            specs += list(get("spec"))
        except Exception:  # of whatever the sub-environments or their processes raise
            specs += []
    inside = getattr(vector.unwrapped, "envs", None)
    said = next((s.max_episode_steps for s in specs if s and s.max_episode_steps), 0)
    return said or (_limit(inside[0]) if inside else 0)


def _row(info: Mapping[str, Any], i: int) -> dict[str, Any]:
    """What a vector's info says of episode i: under each name an array, and with _ in front of the
    name which entries count.
    """
    said = {}
    for name in SUCCESS:
        told = info.get(name)
        if told is not None and (f"_{name}" not in info or info[f"_{name}"][i]):
            said[name] = told[i]
    return said


def by_id(name: str) -> Callable[[int], GymEnvs]:
    """For "gymnasium:Hopper-v4" or "gymnasium:PACKAGE:ID": the function n -> GymEnvs."""
    asked = name.removeprefix(PREFIX)

    def envs(n: int) -> GymEnvs:
        try:
            import gymnasium
        except ImportError as error:
            raise _unavailable(error) from error
        try:
            return GymEnvs(lambda: gymnasium.make(asked), n)
        except ImportError as error:
            package, found, _ = asked.partition(":")
            do = (
                f"install the package {package}, or mend its name"
                if found and f"'{package}'" in str(error)
                else "install the simulators: pip install '.[sim]' -c constraints.txt"
            )
            raise EnvError(f"{name}: cannot be made ({error}); {do}") from error
        except (gymnasium.error.NameNotFound, gymnasium.error.NamespaceNotFound) as error:
            raise EnvError(
                f"environment: saw {name!r}, which Gymnasium does not make ({error}); "
                f"{_where_registered(asked)}"
            ) from error
        except gymnasium.error.Error as error:
            raise EnvError(
                f"environment: saw {name!r}, which Gymnasium does not make ({error}); "
                "expected an id that `gymnasium.make` knows."
            ) from error

    return envs


def _where_registered(asked: str) -> str:
    """What to write for an id that Gymnasium does not know yet: the installed package that
    registers it, where there is one.
    """
    packages = [] if ":" in asked else _registering(asked)
    if packages:
        return (
            f"the package {packages[0]} registers it and must be imported first: write "
            f"'{PREFIX}{packages[0]}:{asked}'."
        )
    return (
        "expected an id that `gymnasium.make` knows. One that another package registers has that "
        f"package in front, which is then imported: '{PREFIX}PACKAGE:ID', such as "
        f"'{PREFIX}gymnasium_robotics:AdroitHandDoor-v1'."
    )


def _registering(asked: str) -> list[str]:
    """Installed packages that register an id when they are imported, found in a process of its
    own: an import cannot be undone.
    """

    def builds_on_gymnasium(distribution: str) -> bool:
        try:
            return any(r.lower().startswith("gymnasium") for r in requires(distribution) or ())
        except PackageNotFoundError:
            return False

    packages = sorted(
        module
        for module, distributions in packages_distributions().items()
        if module.isidentifier()
        and module not in ("arq_core", "gymnasium")
        and any(map(builds_on_gymnasium, distributions))
    )
    look = (
        "import contextlib, importlib, io, sys, gymnasium\n"
        "for name in sys.argv[2:]:\n"
        "    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):\n"
        "        module = importlib.import_module(name)\n"
        "    if sys.argv[1] in gymnasium.registry: break\n"
        "else: name = ''\n"
        "print(name)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", look, asked, *packages],
            capture_output=True,
            encoding="utf-8",
            timeout=SEARCH_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split()[-1:] if done.returncode == 0 else []
