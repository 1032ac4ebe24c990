"""What readers of HDF5 files with a group per episode share: the file opened, its fields checked
before they are read, one error.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.guards import (
    READING,
    SMALL,
    Reading,
    check_contents,
    check_field,
)
from arq_core.datasets.readers.narrow import Rounding

# in front of a field's name: its part of the file
EPISODE = re.compile(r"^/(?:data/)?[^/]*_\d+/")


@contextlib.contextmanager
def opened(path: Path, layout: str) -> Iterator[h5py.File]:
    """The file, open for reading.

    Whatever h5py raises inside the block, as it does for damaged files, becomes a DataError. The
    fields that are read inside it must fit into memory together.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: saw no such file, expected an HDF5 file in {layout}; give the path of one."
        )
    token = READING.set(Reading(path))
    try:
        with h5py.File(path, "r") as file:
            check_contents(file, path)
            yield file
    except DataError:
        raise
    except (
        OSError,
        KeyError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise DataError(
            f"{path}: saw {path.stat().st_size:,} bytes that cannot be read as HDF5 "
            f"({type(error).__name__}: {error}), expected a complete file in {layout}; "
            "copy or download it again."
        ) from error
    finally:
        READING.reset(token)


def group(parent: h5py.Group, name: str, where: str) -> h5py.Group:
    """The group of that name; where names the parent for the error."""
    if name not in parent or not isinstance(parent[name], h5py.Group):
        raise DataError(
            f"{where}: saw no group {name!r} among {listed(parent)}, expected one; give "
            "a file in the layout that the reader's documentation shows."
        )
    return parent[name]


def numbers(
    parent: h5py.Group,
    name: str,
    where: str,
    rows: int | None = None,
    width: int | None = None,
    check: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Field `name` as finite float32 [rows, width]; axes after the first are joined.

    `rows` and `width`, if given, must be the file's; `check` is called with the rows before any is
    read. What float32 loses is counted in READING.
    """
    shape = _checked(parent, name, where, rows)
    if check:
        check(shape[0])
    if width not in (None, math.prod(shape[1:])):
        raise DataError(
            f"{where}: field {name!r}: saw {math.prod(shape[1:])} numbers a row, expected "
            f"{width}; make all episodes alike."
        )
    wide = parent[name][()].reshape(shape[0], -1)
    # what float32 cannot hold becomes infinite and is refused below
    with np.errstate(over="ignore", invalid="ignore"):
        x = wide.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        at = tuple(int(i) for i in np.unravel_index(bad[0], x.shape))
        raise DataError(
            f"{where}: field {name!r}: saw {x[at]} at index {at} ({len(bad):,} such "
            "entries), expected finite float32 numbers; drop or repair these rows."
        )
    reading = READING.get()
    field = EPISODE.sub("", str(parent[name].name))
    reading.rounding.setdefault(field, Rounding(f"{reading.path}: field {field!r}")).add(wide, x)
    return x


def flags(parent: h5py.Group, name: str, where: str, rows: int) -> np.ndarray:
    """Field `name` as bool [rows]; any type of number will do, if it is 0 or 1."""
    shape = _checked(parent, name, where, rows)
    x = parent[name][()].reshape(-1) if math.prod(shape) == rows else np.zeros(0)
    bad = np.flatnonzero((x != 0) & (x != 1))
    if len(bad) or len(x) != rows:
        raise DataError(
            f"{where}: field {name!r}: saw "
            f"{f'{x[bad[0]]} at index {bad[0]}' if len(bad) else f'{math.prod(shape)} entries'}, "
            f"expected {rows} flags, each 0 or 1; write flags."
        )
    return x.astype(bool)


def _checked(parent: h5py.Group, name: str, where: str, rows: int | None) -> tuple[int, ...]:
    """The field's shape, after a look at its kind, rows and size: nothing is read yet."""
    if name not in parent:
        raise DataError(
            f"{where}: saw the fields {listed(parent)}, expected also {name!r}; add it, "
            "one row per step."
        )
    field = parent[name]
    shape = getattr(field, "shape", None) or ()
    if (
        not isinstance(field, h5py.Dataset)
        or field.dtype.kind not in "fiub"
        or not shape
        or 0 in shape
    ):
        raise DataError(
            f"{where}: field {name!r}: saw {getattr(field, 'dtype', 'a group')} of "
            f"shape {shape}, expected numbers, one row per step and at least one step; "
            "convert it."
        )
    if rows not in (None, shape[0]):
        raise DataError(
            f"{where}: field {name!r}: saw {shape[0]:,} rows, expected {rows:,}; make "
            "an episode's fields fit its actions."
        )
    check_field(field, f"{where}: field {name!r}")
    return shape


def text(value) -> str | None:
    """A text as h5py returns it from an attribute or a field, of whatever kind it was stored: of
    any or a fixed length, padded, as bytes, alone in an array. None for what is no text.

    What is no UTF-8 is replaced, so that it can be written down again.
    """
    value = value.ravel()[0] if isinstance(value, np.ndarray) and value.size == 1 else value
    if isinstance(value, str):
        # h5py stands surrogates for bytes that are no UTF-8
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace").rstrip("\0 ") if isinstance(value, bytes) else None


def by_argument(said: str) -> str:
    """How a choice is made by whoever reads a message, whichever way the data were asked for."""
    return f"arq.read_own(..., {said}) reads it so, and arq.prepare takes what that returns"


def printable(said: str | bytes) -> str:
    """The text with \\udc80 and the like for what no file of text can hold."""
    if isinstance(said, bytes):
        return said.decode("utf-8", "backslashreplace")
    return said.encode("utf-8", "backslashreplace").decode()


def texts(field, where: str, most: int) -> list[str]:
    """The texts of a field of any shape, each of at most `most` characters."""
    if not isinstance(field, h5py.Dataset) or h5py.check_string_dtype(field.dtype) is None:
        raise DataError(
            f"{where}: saw {getattr(field, 'dtype', 'a group')}, expected texts; write them as "
            "texts."
        )
    check_field(field, where)
    # rows at once: each text may be as long as the file, whatever the field's size is
    step = max(1, SMALL // READING.get().path.stat().st_size)
    batches = (
        (field[i : i + step] for i in range(0, len(field), step)) if field.ndim else [field[()]]
    )
    out = []
    for batch in batches:
        out += [text(x) or "" for x in np.ravel(np.asarray(batch, object))]
        if long := next((x for x in out if len(x) > most), None):
            raise DataError(
                f"{where}: saw a text of {len(long):,} characters, expected at most {most:,}; "
                "copy or download the file again."
            )
    return out


def listed(names: Mapping | Sequence[str], most: int = 12) -> str:
    """The first names, for an error."""
    names = [printable(n) for n in names]
    return (
        ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
    ) or "none"


def joined(episodes: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of all episodes, one after the other, under their names."""
    return {name: np.concatenate([e[name] for e in episodes]) for name in episodes[0]}
