"""What an HDF5 file may not do to its reader: point to other files, claim more than it or the
machine can hold, or crash the library below h5py.

Checked before a field is read. libhdf5 2.0 takes the sizes of chunks on trust: it reads beyond its
memory, and often crashes, when the bytes of a chunk are fewer, as stored or once inflated, than the
field's description says.
"""

from __future__ import annotations

import math
import zlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import h5py
from h5py import h5d, h5l, h5t, h5z

from arq_core.algorithm.types import DataError
from arq_core.config.processes import memory
from arq_core.datasets.readers.narrow import Rounding

# Ours, for what was never written: bytes in memory for each byte of the file, and bytes that any
# file may take. What was written is asked only whether the machine can hold it: one-hot states
# shrink a thousandfold.
MOST_INFLATED, SMALL = 64, 2**26
# bytes that a chunk larger than its field may take, since a reader inflates it whole
MOST_CHUNK = 2**30
# times that float32 arrays of a dataset are held while it is read, at most
HELD = 2
# links; Minari's largest datasets have about a hundred thousand
MOST_NAMES = 10_000_000


@dataclass
class Reading:
    """What a file has asked for so far, and what was lost of it: one for each file that is open."""

    path: Path
    written: int = 0  # bytes, as float32, of the fields that were asked for
    unwritten: int = 0  # and of those parts of them for which the file holds nothing
    rounding: dict[str, Rounding] = field(default_factory=dict)  # by the field's name

    def allow(self, declared: int, written: int, where: str) -> None:
        """Counts a field of so many bytes; refuses it where the sum cannot be held."""
        self.written, self.unwritten = self.written + written, self.unwritten + declared - written
        size = self.path.stat().st_size
        most = MOST_INFLATED * size + SMALL
        if self.unwritten > most:
            raise DataError(
                f"{where}: saw fields that claim {self.unwritten:,} bytes and more which were "
                f"never written, which the file's {size:,} bytes cannot hold, expected at most "
                f"{most:,}; write all rows, or copy or download the file again."
            )
        if HELD * self.written > max(memory(), most):
            raise DataError(
                f"{where}: saw fields of {self.written:,} bytes as float32 and more, of which a "
                f"reader holds up to {HELD} copies, expected what fits into this machine's "
                f"{memory():,} bytes; write a file of fewer rows or columns, or use a machine "
                "with more memory."
            )

    def notes(self) -> list[str]:
        """What float32 lost of the fields read; DataError where it is what they tell."""
        return [note for rounding in self.rounding.values() for note in rounding.notes()]


# of the file that is open
READING: ContextVar[Reading] = ContextVar("READING")


def check_contents(file: h5py.File, path: str | Path) -> None:
    """Refuses links that lead to other files (which may be devices or pipes), used or not: a link
    inside the file may lead to them. No field is opened.
    """
    kinds: list[tuple[bytes, int]] = []

    def visit(name, info):
        kinds.append((name, info.type))
        return True if len(kinds) > MOST_NAMES else None

    file.id.links.visit(visit, info=True)
    for name, kind in kinds:
        if kind not in (h5l.TYPE_HARD, h5l.TYPE_SOFT):
            raise DataError(
                f"{path}: {_text(name)}: saw a link to another file, expected all data in "
                "this one; copy them into one file."
            )
    if len(kinds) > MOST_NAMES:
        raise DataError(
            f"{path}: saw more than {MOST_NAMES:,} names, expected fewer; copy or download it "
            "again, or write several files."
        )


def check_field(field: h5py.Dataset, where: str) -> None:
    """Refuses a field that lies in other files, that does not fit into memory (all that were
    checked since the file was opened count), or whose stored bytes are not as many as its
    description says: all of it is inflated once, chunk by chunk.
    """
    item, how = field.id, field.id.get_create_plist()
    layout, width = how.get_layout(), _width(field)
    reading = READING.get(None) or Reading(Path(field.file.filename))
    if layout == h5d.VIRTUAL or layout == h5d.CONTIGUOUS and how.get_external_count():
        raise DataError(
            f"{where}: saw a field whose data lie in other files, expected all data in this one; "
            "copy them into one file."
        )
    numbers = math.prod(field.shape or ())
    # numbers become float32, texts stay what they are
    each = 4 if field.dtype.kind in "fiub" else width
    if field.chunks is None:
        stored, expected = item.get_storage_size(), numbers * width
        if stored != expected and (stored or layout == h5d.COMPACT):
            raise DataError(
                f"{where}: saw {stored:,} bytes stored, expected {expected:,}; copy or "
                "download the file again."
            )
        reading.allow(each * numbers, each * numbers if stored else 0, where)
        return
    _check_chunks(field, where, reading, numbers, width, each)


def _width(field) -> int:
    """Bytes that an entry takes in the file: of a text of any length, what says where it is."""
    if isinstance(field.id.get_type(), h5t.TypeStringID) and field.id.get_type().is_variable_str():
        return field.file.id.get_create_plist().get_sizes()[0] + 8
    return field.id.get_type().get_size()


def _check_chunks(field, where, reading, numbers, width, each) -> None:
    size, item, inside = reading.path.stat().st_size, field.id, math.prod(field.chunks)
    filters = _filters(item.get_create_plist(), where)
    expected = inside * width
    if expected > max(numbers * width, MOST_CHUNK, MOST_INFLATED * size + SMALL):
        raise DataError(
            f"{where}: saw a chunk of {expected:,} bytes for a field of {numbers * width:,}, "
            f"expected at most {MOST_CHUNK:,} for so small a field; write it with smaller chunks."
        )
    chunks: list[h5d.StoreInfo] = []
    most = math.prod(-(-n // c) for n, c in zip(field.shape, field.chunks, strict=True))
    item.chunk_iter(lambda chunk: chunks.append(chunk) or (True if len(chunks) > most else None))
    reading.allow(each * numbers, each * min(numbers, len(chunks) * inside), where)
    for chunk in chunks:
        at = f"{where}: chunk at {chunk.chunk_offset}"
        if (
            len(chunks) > most
            or not 0 < chunk.size <= size
            or chunk.byte_offset + chunk.size > size
        ):
            raise DataError(
                f"{at}: saw {chunk.size:,} bytes at byte {chunk.byte_offset:,} of {size:,}, "
                f"expected at most {most:,} chunks, all inside the file; copy or download "
                "it again."
            )
        seen = _inflated(item, chunk, filters, expected, at)
        if seen != expected:
            raise DataError(
                f"{at}: saw {seen:,} bytes, expected {expected:,}; copy or download the file again."
            )


def _filters(how, where) -> list[int]:
    """The filters by number, in the order in which they were applied: of those that h5py offers,
    only the ones that can be checked here.
    """
    numbers = [how.get_filter(i)[0] for i in range(how.get_nfilters())]
    if numbers != [
        n for n in (h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE, h5z.FILTER_FLETCHER32) if n in numbers
    ]:
        raise DataError(
            f"{where}: saw the filters {numbers}, expected none but shuffle, gzip and "
            "fletcher32 in this order; write the field without compression or with "
            "gzip."
        )
    return numbers


def _inflated(item, chunk, filters, expected, where) -> int:
    """Bytes of the chunk after its filters are undone, or a few more than expected if there are too
    many.
    """
    used = [n for i, n in enumerate(filters) if not chunk.filter_mask >> i & 1]
    # its checksum stands at the end
    length = chunk.size - 4 * (h5z.FILTER_FLETCHER32 in used)
    if h5z.FILTER_DEFLATE not in used:
        return length
    _, stored = item.read_direct_chunk(chunk.chunk_offset)
    try:
        return len(zlib.decompressobj().decompress(stored[: max(0, length)], expected + 1))
    except zlib.error as error:
        raise DataError(
            f"{where}: saw bytes that cannot be inflated ({error}), expected what gzip "
            "wrote; copy or download the file again."
        ) from error


def _text(name) -> str:
    return repr(name.decode("utf-8", "replace") if isinstance(name, bytes) else name)[:100]
