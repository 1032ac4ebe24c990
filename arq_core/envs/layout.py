"""How an observation of several parts becomes one state: the one place that flattens, for
simulators and for readers of recorded observations.

A layout names the parts and their widths in order: (("achieved_goal", 2), ("observation", 4)). A
part of a part is "outer/inner". () is a state whose parts have no names: one vector, or arrays of
which nobody said how they were put together. These are joined in Gymnasium's order of the space.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from arq_core.envs.vector import EnvError

Layout = tuple[tuple[str, int], ...]


def width(layout: Layout) -> int:
    """S, how many numbers a state of this layout has."""
    return sum(n for _, n in layout)


def text(layout: Layout) -> str:
    """A layout for messages and notes."""
    return ", ".join(f"{name} ({n})" for name, n in layout) or "one vector without names"


def said_by(envs) -> Layout:
    """The layout of a VectorEnv's states; () where it says none. What else a simulator calls its
    layout, such as the plan of a maze, is none.
    """
    said = getattr(envs, "layout", ())
    try:
        parts = tuple((name, n) for name, n in said)
        fits = all(isinstance(name, str) for name, _ in parts) and width(parts) == envs.state_dim
    except (TypeError, ValueError):
        return ()
    return parts if fits else ()


def joined(parts: Mapping[str, np.ndarray], layout: Layout) -> np.ndarray:
    """States [T S] from the parts [T width] by name, in the layout's order."""
    return np.concatenate([parts[name] for name, _ in layout], axis=1)


def of_space(space) -> Layout:
    """The layout in which Gymnasium flattens an observation space; () for a single vector.

    EnvError for a space that has no fixed number of entries.
    """
    from gymnasium.spaces import Dict, Tuple, flatdim

    def leaves(space, name: str) -> Layout:
        if isinstance(space, Dict | Tuple):
            items = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
            return tuple(
                leaf
                for key, part in items
                for leaf in leaves(part, f"{name}/{key}" if name else str(key))
            )
        return ((name, flatdim(space)),)

    try:
        flatdim(space)
    except (ValueError, NotImplementedError) as error:
        raise EnvError(
            f"environment: saw observations in {str(space)[:200]}, expected a space of a fixed "
            "number of entries, as boxes and dicts of them have; wrap the environment."
        ) from error
    return leaves(space, "") if isinstance(space, Dict | Tuple) else ()


def of_environment(env) -> Layout:
    """The layout of a Gymnasium environment's flattened observations, also where its wrapper
    FlattenObservation has joined them already and others have changed them one by one since.
    """
    from gymnasium.wrappers import (
        DtypeObservation,
        FlattenObservation,
        NormalizeObservation,
        RescaleObservation,
    )

    inner, outer = wrapper(env, FlattenObservation), env
    while outer is not inner and isinstance(
        outer, DtypeObservation | NormalizeObservation | RescaleObservation
    ):
        outer = outer.env
    if inner is not None and inner.observation_space == outer.observation_space:
        return of_space(inner.env.observation_space)
    return of_space(env.observation_space)


def of_vector(vector) -> Layout:
    """As `of_environment`, of one episode of a vector; a FlattenObservation inside of worker
    processes cannot be seen.
    """
    from gymnasium.wrappers.vector import FlattenObservation

    space = vector.single_observation_space
    inner = wrapper(vector, FlattenObservation)
    if inner is not None and inner.single_observation_space == space:
        return of_space(inner.env.single_observation_space)
    inside = getattr(vector.unwrapped, "envs", None)
    if inside and inside[0].observation_space == space:
        return of_environment(inside[0])
    return of_space(space)


def wrapper(env, kind: type):
    """The outermost wrapper of a kind; None where there is none."""
    while env is not None and not isinstance(env, kind):
        env = getattr(env, "env", None)
    return env


def selection(own: Layout, wanted: Layout) -> np.ndarray | None:
    """Columns [S] of a state in layout `own` that make one in layout `wanted`; None where `own`
    lacks a part, or has it in another width.
    """
    stops = np.cumsum([n for _, n in own], dtype=np.int64)
    columns = {
        (name, n): np.arange(stop - n, stop)
        for (name, n), stop in zip(own, stops.tolist(), strict=True)
    }
    if any(part not in columns for part in wanted):
        return None
    return np.concatenate([columns[part] for part in wanted])
