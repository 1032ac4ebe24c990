"""Human demonstrations as hand_dapg publishes them: a pickled list of dicts of arrays, read without
running any code.

Source of the format: github.com/aravindr93/hand_dapg, dapg/demonstrations (Rajeswaran et al. 2018).
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from arq_core.algorithm.types import DataError

# bytes in memory for each byte of the file (published: 1), and bytes that any file may take
MOST_INFLATED, SMALL = 16, 2**20


class StoredType:
    """A dtype as pickled: its code ("f8", "U1", ...) and byte order, which are only looked at when
    numbers are made of them.
    """

    def __init__(self, code, align=False, copy=False):
        self.name = code if isinstance(code, str) else "unknown type"

    def __setstate__(self, state):
        if isinstance(state[1], str) and state[1] in "<>":
            self.name = state[1] + self.name


class StoredArray:
    """An array as pickled. `values` is a view of its bytes, or None if they are no numbers: numpy's
    own unpickling trusts the file.
    """

    def __init__(self, kind, shape, code):
        self.type, self.values = StoredType("unknown type"), None

    def __setstate__(self, state):
        _, shape, self.type, fortran, data = state
        if re.fullmatch("[<>]?[fiu][1248]", self.type.name):
            flat = np.frombuffer(data, self.type.name)
            if (
                not isinstance(shape, tuple)
                or len(shape) > 4
                or not all(type(n) is int for n in shape)
                or math.prod(shape) != len(flat)
            ):
                raise ValueError(f"an array of {len(flat):,} numbers with another shape")
            self.values = flat.reshape(shape, order="F" if fortran else "C")


# What an array needs to be unpickled, under its names in numpy 1 (which wrote the published files)
# and numpy 2. `ndarray` itself is only named, never called.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): StoredArray,
    ("numpy._core.multiarray", "_reconstruct"): StoredArray,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): StoredType,
}


def _set_items(unpickler):
    """Instead of pickle's: a dict's keys are text, since tuples of tuples can take for ever to
    hash.
    """
    items = unpickler.pop_mark()
    target = unpickler.stack[-1]
    if not isinstance(target, dict) or not all(isinstance(k, str) for k in items[::2]):
        raise DataError(
            "the pickle fills something other than a dict with text as keys, expected "
            "the fields of demonstrations; get the file from its publisher."
        )
    target.update(zip(items[::2], items[1::2], strict=True))


def _set_item(unpickler):
    unpickler.metastack.append(unpickler.stack[:-2])
    unpickler.stack = unpickler.stack[-2:]
    _set_items(unpickler)


class RestrictedUnpickler(pickle._Unpickler):
    """Builds lists, dicts, numbers, text and arrays; refuses every other name before it is looked
    up, and every other operation.

    The interpreter's unpickler in Python: the one in C reserves as much memory for its memo as a
    file of ten bytes asks for.
    """

    dispatch = {
        code[0]: pickle._Unpickler.dispatch[code[0]]
        for code in (
            pickle.PROTO,
            pickle.FRAME,
            pickle.STOP,
            pickle.MARK,
            pickle.GLOBAL,
            pickle.STACK_GLOBAL,
            pickle.REDUCE,
            pickle.BUILD,
            pickle.EMPTY_LIST,
            pickle.APPEND,
            pickle.APPENDS,
            pickle.EMPTY_DICT,
            pickle.EMPTY_TUPLE,
            pickle.TUPLE,
            pickle.TUPLE1,
            pickle.TUPLE2,
            pickle.TUPLE3,
            pickle.NONE,
            pickle.NEWTRUE,
            pickle.NEWFALSE,
            pickle.BININT,
            pickle.BININT1,
            pickle.BININT2,
            pickle.LONG1,
            pickle.BINFLOAT,
            pickle.BINBYTES,
            pickle.SHORT_BINBYTES,
            pickle.BINSTRING,
            pickle.SHORT_BINSTRING,
            pickle.BINUNICODE,
            pickle.SHORT_BINUNICODE,
            pickle.BINPUT,
            pickle.LONG_BINPUT,
            pickle.MEMOIZE,
            pickle.BINGET,
            pickle.LONG_BINGET,
        )
    }
    dispatch |= {pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items}

    def find_class(self, module, name):
        """What stands for `module.name` in ALLOWED; DataError for any other name, which is not
        looked up.
        """
        if (module, name) not in ALLOWED:
            raise DataError(
                f"the pickle asks for {module}.{name}, expected nothing but numpy arrays in "
                "lists and dicts; do not use this file, get it from its publisher."
            )
        return ALLOWED[module, name]


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
