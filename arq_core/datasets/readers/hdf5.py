"""What readers of HDF5 files with a group per episode share: the file opened, its fields checked
before they are read, one error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.guards import check_contents, check_field


@contextlib.contextmanager
def opened(path: Path, layout: str) -> Iterator[h5py.File]:
    """The file, open for reading.

    Whatever h5py raises inside the block, as it does for damaged files, becomes a DataError.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: saw no such file, expected an HDF5 file in {layout}; give the path of one."
        )
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


def group(parent: h5py.Group, name: str, where: str) -> h5py.Group:
    """The group of that name; where names the parent for the error."""
    if name not in parent or not isinstance(parent[name], h5py.Group):
        raise DataError(
            f"{where}: saw no group {name!r} among {listed(parent)}, expected one; give "
            "a file in the layout that the reader's documentation shows."
        )
    return parent[name]


def numbers(
    parent: h5py.Group, name: str, where: str, rows: int | None = None, width: int | None = None
) -> np.ndarray:
    """Field `name` as finite float32 [rows, width]; axes after the first are joined.

    `rows` and `width`, if given, must be the file's.
    """
    x = np.empty(_checked(parent, name, where, rows), np.float32)
    # what float32 cannot hold becomes infinite and is refused below
    with np.errstate(over="ignore", invalid="ignore"):
        x[...] = parent[name][()]
    x = x.reshape(len(x), -1)
    if width is not None and x.shape[1] != width:
        raise DataError(
            f"{where}: field {name!r}: saw {x.shape[1]} numbers a row, expected "
            f"{width}; make all episodes alike."
        )
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        at = tuple(int(i) for i in np.unravel_index(bad[0], x.shape))
        raise DataError(
            f"{where}: field {name!r}: saw {x[at]} at index {at} ({len(bad):,} such "
            "entries), expected finite float32 numbers; drop or repair these rows."
        )
    return x


def flags(parent: h5py.Group, name: str, where: str, rows: int) -> np.ndarray:
    """Field `name` as bool [rows]; any type of number will do, if it is 0 or 1."""
    _checked(parent, name, where, rows)
    x = parent[name][()].reshape(-1)
    bad = np.flatnonzero((x != 0) & (x != 1))
    if len(bad) or len(x) != rows:
        raise DataError(
            f"{where}: field {name!r}: saw "
            f"{f'{x[bad[0]]} at index {bad[0]}' if len(bad) else f'{len(x)} entries'}, "
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


def listed(names: Mapping | Sequence[str], most: int = 12) -> str:
    """The first names, for an error."""
    names = list(names)
    return (
        ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
    ) or "none"


def joined(episodes: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of all episodes, one after the other, under their names."""
    return {name: np.concatenate([e[name] for e in episodes]) for name in episodes[0]}
