"""Human demonstrations as hand_dapg publishes them: a pickled list of dicts of arrays, read without
running any code.

Source of the format: github.com/aravindr93/hand_dapg, dapg/demonstrations (Rajeswaran et al. 2018).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.pickles import RestrictedUnpickler, StoredArray

# bytes in memory for each byte of the file (published: 1), and bytes that any file may take
MOST_INFLATED, SMALL = 16, 2**20


@dataclass(frozen=True)
class Demo:
    """One demonstration, as recorded: observation t was seen before action t; actions may lie
    outside the box.
    """

    observations: Float[np.ndarray, "T S"]
    actions: Float[np.ndarray, "T A"]
    rewards: Float[np.ndarray, " T"]
    # the simulator's state at the start, to be set before replaying
    init_state: dict[str, np.ndarray]


def read_demos(
    path: Path, state_dim: int, action_dim: int, init_shapes: Mapping[str, tuple[int, ...]]
) -> list[Demo]:
    """All demonstrations of the file, checked: fields, shapes, equal lengths, finite numbers."""
    try:
        # in memory, a length that lies reserves nothing
        items = RestrictedUnpickler(io.BytesIO(Path(path).read_bytes())).load()
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: saw no such file, expected pickled demonstrations; give the path of one."
        ) from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(
            f"{path}: saw {Path(path).stat().st_size:,} bytes that cannot be unpickled "
            f"({type(error).__name__}: {error}), expected a complete pickle; get the "
            "file again."
        ) from error
    if not isinstance(items, list) or not items:
        raise DataError(
            f"{path}: saw {_kind(items)}, expected a list of at least one "
            "demonstration; get the file again."
        )
    demos, held, most = [], 0, MOST_INFLATED * Path(path).stat().st_size + SMALL
    for i, item in enumerate(items):
        demos.append(_demo(item, f"{path}: demo {i}", state_dim, action_dim, init_shapes))
        held += sum(
            x.nbytes
            for x in (demos[-1].observations, demos[-1].actions, *demos[-1].init_state.values())
        )
        if held > most:
            raise DataError(
                f"{path}: saw demonstrations of {held:,} bytes and more, expected at most "
                f"{most:,} in this file: it holds the same arrays many times; get it from "
                "its publisher."
            )
    return demos


def _demo(item, where, state_dim, action_dim, init_shapes) -> Demo:
    actions = _array(item, "actions", where, (None, action_dim))
    steps = len(actions)
    observations = _array(item, "observations", where, (steps, state_dim))
    rewards = _array(item, "rewards", where, (steps,))
    init = _field(item, "init_state_dict", where)
    return Demo(
        observations,
        actions,
        rewards,
        {
            k: _array(init, k, f"{where}, init_state_dict", shape)
            for k, shape in init_shapes.items()
        },
    )


def _field(item, name, where):
    if not isinstance(item, dict) or name not in item:
        present = (
            f"the fields {', '.join(map(str, item))}" if isinstance(item, dict) else _kind(item)
        )
        raise DataError(f"{where}: saw {present}, expected a field {name!r}; get the file again.")
    return item[name]


def _array(item, name, where, shape) -> np.ndarray:
    """The field as float64 of this shape (None: any length but 0; other axes follow `actions`)."""
    stored = _field(item, name, where)
    x = getattr(stored, "values", None)
    if not isinstance(stored, StoredArray) or x is None:
        raise DataError(
            f"{where}, field {name!r}: saw {_kind(stored)}, expected an array of "
            "numbers; get the file again."
        )
    if (
        x.ndim != len(shape)
        or x.size == 0
        or any(want not in (None, got) for got, want in zip(x.shape, shape, strict=True))
    ):
        want = tuple("any" if s is None else s for s in shape)
        raise DataError(
            f"{where}, field {name!r}: saw shape {x.shape}, expected {want} (one row "
            "per action); repair or leave out this demonstration."
        )
    if not np.isfinite(x).all():
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise DataError(
            f"{where}, field {name!r}: saw {x[bad]} at index {bad}, expected finite "
            "numbers; repair or leave out this demonstration."
        )
    return x.astype(np.float64)


def _kind(x) -> str:
    return (
        f"an array of {x.type.name[:20]}"
        if isinstance(x, StoredArray)
        else f"an object of type {type(x).__name__}"
    )
