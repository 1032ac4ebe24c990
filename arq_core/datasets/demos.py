"""Human demonstrations as hand_dapg publishes them: a pickled list of dicts of arrays, read without running any code.

Source of the format: github.com/aravindr93/hand_dapg, dapg/demonstrations (Rajeswaran et al. 2018).
"""
from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy._core.multiarray import _reconstruct

from arq_core.types import DataError

# What an array needs to be unpickled, under its names in numpy 1 (which wrote the published files) and numpy 2.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class RestrictedUnpickler(pickle.Unpickler):
    """Builds lists, dicts, numbers, text and numpy arrays; refuses every other name before it is looked up."""

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise DataError(f"the pickle asks for {module}.{name}, expected nothing but numpy arrays in lists and dicts; "
                            "do not use this file, get it from its publisher.")
        return ALLOWED[module, name]


@dataclass(frozen=True)
class Demo:
    """One demonstration, as recorded: observation t was seen before action t; actions may lie outside the box."""

    observations: Float[np.ndarray, "T S"]
    actions: Float[np.ndarray, "T A"]
    rewards: Float[np.ndarray, "T"]
    init_state: dict[str, np.ndarray]     # the simulator's state at the start, to be set before replaying


def read_demos(path: Path, state_dim: int, action_dim: int, init_shapes: Mapping[str, tuple[int, ...]]) -> list[Demo]:
    """All demonstrations of the file, checked: fields, shapes, equal lengths, finite numbers."""
    try:
        with open(path, "rb") as file:
            items = RestrictedUnpickler(file).load()
    except FileNotFoundError as error:
        raise DataError(f"{path}: saw no such file, expected pickled demonstrations; give the path of one.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:            # a damaged pickle can raise anything
        raise DataError(f"{path}: saw {Path(path).stat().st_size:,} bytes that cannot be unpickled ({type(error).__name__}: "
                        f"{error}), expected a complete pickle; get the file again.") from error
    if not isinstance(items, list) or not items:
        raise DataError(f"{path}: saw {_kind(items)}, expected a list of at least one demonstration; get the file again.")
    return [_demo(item, f"{path}: demo {i}", state_dim, action_dim, init_shapes) for i, item in enumerate(items)]


def _demo(item, where, state_dim, action_dim, init_shapes) -> Demo:
    actions = _array(item, "actions", where, (None, action_dim))
    steps = len(actions)
    observations = _array(item, "observations", where, (steps, state_dim))
    rewards = _array(item, "rewards", where, (steps,))
    init = _field(item, "init_state_dict", where)
    return Demo(observations, actions, rewards,
                {k: _array(init, k, f"{where}, init_state_dict", shape) for k, shape in init_shapes.items()})


def _field(item, name, where):
    if not isinstance(item, dict) or name not in item:
        present = f"the fields {', '.join(map(str, item))}" if isinstance(item, dict) else _kind(item)
        raise DataError(f"{where}: saw {present}, expected a field {name!r}; get the file again.")
    return item[name]


def _array(item, name, where, shape) -> np.ndarray:
    """The field as float64 of this shape (None: any length but 0; other axes follow `actions`)."""
    x = _field(item, name, where)
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
        raise DataError(f"{where}, field {name!r}: saw {_kind(x)}, expected an array of numbers; get the file again.")
    if x.ndim != len(shape) or x.size == 0 or any(want not in (None, got) for got, want in zip(x.shape, shape, strict=True)):
        want = tuple("any" if s is None else s for s in shape)
        raise DataError(f"{where}, field {name!r}: saw shape {x.shape}, expected {want} (one row per action); "
                        "repair or leave out this demonstration.")
    if not np.isfinite(x).all():
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise DataError(f"{where}, field {name!r}: saw {x[bad]} at index {bad}, expected finite numbers; "
                        "repair or leave out this demonstration.")
    return x.astype(np.float64)


def _kind(x) -> str:
    return f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"an object of type {type(x).__name__}"
