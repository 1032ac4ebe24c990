"""A simulator as its user has it, as a vector of episodes: a function, a partial, a callable object
or a class that makes one of ours, an environment of Gymnasium's or a vector of them; or such a
vector itself.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from arq_core.envs.gym import PREFIX, GymEnvs, GymVectors, by_id
from arq_core.envs.vector import EnvError, VectorEnv

ASKED = ("state_dim", "action_dim", "horizon", "reset", "step")


class _Kept:
    """A vector that its user made and goes on using: `close` leaves it open."""

    def __init__(self, envs: VectorEnv):
        self._envs = envs

    def __getattr__(self, name: str):
        return getattr(self._envs, name)

    def close(self) -> None:
        """Nothing: whoever made the vector closes it."""


def vectors(simulator) -> Callable[[int], VectorEnv]:
    """The function n -> VectorEnv of a user's simulator; EnvError where it is none."""
    if isinstance(simulator, str):
        return by_id(simulator)
    if _is(simulator, "vector", "VectorEnv"):
        return lambda n: _Kept(GymVectors(simulator, n))
    if _is(simulator, "Env"):
        raise EnvError(
            f"environment: saw one {type(simulator).__name__}, expected a function that makes "
            "them, since every episode needs one of its own: lambda n: gymnasium.make(ID)."
        )
    if not callable(simulator):
        raise EnvError(
            f"environment: saw an object of type {type(simulator).__name__}, expected a task's "
            f"name, '{PREFIX}ID', or a function of the number of episodes; give one."
        )
    make = _of_number(simulator)
    return lambda n: _vector(make(n), n, make)


def label(simulator) -> str:
    """What records call a simulator of one's own: never an address in memory."""
    if isinstance(simulator, str):
        return simulator
    if isinstance(simulator, partial):
        given = [*simulator.args, *(f"{k}={v}" for k, v in simulator.keywords.items())]
        plain = [str(x) for x in given if isinstance(x, str | int | float)]
        return f"{label(simulator.func)}({', '.join(plain)})"
    named = simulator if hasattr(simulator, "__qualname__") else type(simulator)
    said = f"{named.__module__}:{named.__qualname__}"
    return said if getattr(named, "__name__", "") != "<lambda>" else f"{said}-{_written(named)}"


def _written(nameless: Callable) -> str:
    """Eight digits of what a lambda does: two of one place are two simulators."""
    code, held = nameless.__code__, inspect.getclosurevars(nameless).nonlocals.values()
    given = (*code.co_consts, *held, *(nameless.__defaults__ or ()))
    plain = [x for x in given if isinstance(x, str | int | float)]  # no address in memory
    parts = (code.co_code, code.co_names, code.co_freevars, plain)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def _is(x, *path: str) -> bool:
    """Whether x is an instance of that class of Gymnasium's, where it is installed."""
    try:
        import gymnasium
    except ImportError:
        return False
    kind: Any = gymnasium
    for name in path:
        kind = getattr(kind, name)
    return isinstance(x, kind)


def _of_number(make: Callable) -> Callable[[int], Any]:
    """A maker as a function of the number of episodes, by what it can be called with: `num_envs` or
    `n`, that number, or nothing (one environment at each call).
    """
    alone = lambda n: make()
    inner = make
    while isinstance(inner, partial):
        inner = inner.func
    try:
        import gymnasium
    except ImportError:
        pass
    else:
        # its second parameter is a time limit
        single = (
            inner is gymnasium.make or isinstance(inner, type) and issubclass(inner, gymnasium.Env)
        )
        if single:
            return alone
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # written in C
        return make
    given = getattr(make, "keywords", {})
    for name in ("num_envs", "n"):
        if name in signature.parameters and name not in given and _takes(signature, **{name: 1}):
            return lambda n: make(**{name: n})
    counts, without = _takes(signature, 1), _takes(signature)
    if counts or without:
        return _either(make) if counts and without else make if counts else alone
    raise EnvError(
        f"environment: saw {label(make)}{signature}, expected a function of one argument, the "
        "number of episodes; wrap it: lambda n: ..."
    )


def _either(make: Callable) -> Callable[[int], Any]:
    """A maker that takes an argument and needs none: where a number of episodes does not suit it,
    or makes one environment, that argument is another thing, such as an id, a seed or a time limit.
    """

    def made(n: int):
        try:
            found = make(n)
        except Exception:  # of whatever a user's function makes of a number
            return make()
        if not _is(found, "Env"):
            return found
        found.close()
        return make()

    return made


def _takes(signature: inspect.Signature, *arguments, **named) -> bool:
    try:
        signature.bind(*arguments, **named)
    except TypeError:
        return False
    return True


def _vector(made, n: int, make: Callable[[int], Any]) -> VectorEnv:
    """What a maker returned for n episodes, as a VectorEnv."""
    if _is(made, "vector", "VectorEnv"):
        return GymVectors(made, n)
    if _is(made, "Env"):
        first = [made]
        return GymEnvs(lambda: first.pop() if first else make(n), n)
    missing = [name for name in ASKED if not hasattr(made, name)]
    if missing:
        raise EnvError(
            f"environment: saw an object of type {type(made).__name__} without "
            f"{', '.join(missing)}, expected a VectorEnv (arq_core.envs.vector), an environment of "
            "Gymnasium's or a vector of them; let the function return one."
        )
    return made
