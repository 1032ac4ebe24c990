"""Pickles read without running any code: lists, dicts, numbers, text, arrays, and the few classes
that a reader names.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import Any, ClassVar

import numpy as np

from arq_core.algorithm.types import DataError


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
ARRAYS = {
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
            "saw a pickle that fills something other than a dict with text as keys, expected "
            "named fields; get the file from its publisher."
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

    allowed: ClassVar[dict[tuple[str, str], Any]] = ARRAYS
    expected: ClassVar[str] = "nothing but numpy arrays in lists and dicts"
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
        """What stands for `module.name` in `allowed`; DataError for any other name, which is not
        looked up.
        """
        if (module, name) not in self.allowed:
            raise DataError(
                f"saw a pickle that asks for {module}.{name}, expected {self.expected}; do not "
                "use this file, get it from its publisher."
            )
        return self.allowed[module, name]
