"""Arrays in numpy's own format (npy), in files and in archives (npz). Pickled objects are never
read, and whatever is wrong with a file is one DataError before its numbers take any memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Shaped

from arq_core.algorithm.types import DataError
from arq_core.config.paths import given

# what files that are mistaken for such arrays begin with
BEGINNINGS = {
    b"PK": "an archive of several arrays (npz) or other files",
    b"\x80": "a pickle, which is not read: it may run anything",
    b"\x89HDF": "an HDF5 file",
}
MAGIC = b"\x93NUMPY"
NUMBERS = "fiu"  # kinds of dtypes


@dataclass(frozen=True)
class Header:
    """What stands in front of an array's numbers: `begin` bytes."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype
    begin: int

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], where: str, wanted: str = "expected numpy's") -> Header:
    """The header of an array, the file's place behind it; DataError, which begins with `where` and
    says what was `wanted`, for one that numpy cannot read.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise DataError(
                f"{where}: saw version {version} of numpy's format, expected 1.0 or 2.0; "
                "write it with numpy.save or numpy.savez_compressed."
            )
        shape, by_columns, dtype = read(file)
    except (DataError, BadZipFile):  # of an archive whoever opened it speaks
        raise
    # numpy hands the text to Python's own parser, which raises what it likes
    except Exception as error:
        raise DataError(
            f"{where}: saw a header that cannot be read ({type(error).__name__}: {error}), "
            f"{wanted}; copy or download the file again."
        ) from error
    if any(n < 0 for n in shape):
        raise DataError(
            f"{where}: saw the shape {shape} in its header, expected counts; copy or download the "
            "file again."
        )
    return Header(shape, by_columns, dtype, file.tell())


def read_saved(path: str | Path, expected: str) -> Shaped[np.ndarray, "*axes"]:
    """The array of numbers in a file that numpy.save wrote. DataError for anything else; `expected`
    says there what the array should be, as "states [N, S]".
    """
    path = given(path)
    wanted = f"expected {expected} in a file that numpy.save wrote"
    if not path.is_file():
        seen = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: saw {seen}, {wanted}; give the path of one.")
    try:
        with open(path, "rb") as file:
            begins, size = file.read(len(MAGIC)), path.stat().st_size
            if begins != MAGIC:
                names = (name for sign, name in BEGINNINGS.items() if begins.startswith(sign))
                seen = next(names, f"a file that begins with {begins!r}" if begins else "no bytes")
                raise DataError(f"{path}: saw {seen}, {wanted}; write it with numpy.save.")
            file.seek(0)
            header = read_header(file, str(path), wanted)
            if header.dtype.kind not in NUMBERS:
                objects = ", which are pickled and not read" if header.dtype.hasobject else ""
                raise DataError(
                    f"{path}: saw an array of {header.dtype}{objects}, {wanted}; convert it to "
                    "float32."
                )
            held = size - header.begin
            if held != header.size:
                raise DataError(
                    f"{path}: saw {held:,} bytes of numbers, expected {header.size:,}, as its "
                    f"shape {header.shape} of {header.dtype} says; copy it again, or write it anew."
                )
            file.seek(0)
            return np.load(file, allow_pickle=False)
    except (OSError, ValueError, MemoryError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: saw {error}, {wanted}; copy it again.") from error


def is_saved(path: Path) -> bool:
    """Whether a file begins as one of numpy.save does."""
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def as_float32(x: np.ndarray) -> Shaped[np.ndarray, "*axes"]:
    """Numbers of any width and order of bytes as float32, row by row; infinite where it cannot hold
    them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(x, np.float32)
