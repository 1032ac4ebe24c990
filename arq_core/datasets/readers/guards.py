"""What an HDF5 file may not do to its reader: point to other files, claim more than it can hold, or
crash the library below h5py.

Checked before a field is read. libhdf5 2.0 takes the sizes of chunks on trust: it reads beyond its
memory, and often crashes, when the bytes of a chunk are fewer, as stored or once inflated, than the
field's description says.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import h5py
from h5py import h5d, h5l, h5o, h5z

from arq_core.algorithm.types import DataError

# Ours. Observations shrink two- or threefold under compression; only rewards and flags that are all
# alike shrink a thousandfold.
# bytes in memory for each byte of the file, and bytes that any file may take
MOST_INFLATED, SMALL = 64, 2**26
# links; Minari's largest datasets have about a hundred thousand
MOST_NAMES = 10_000_000


def check_contents(file: h5py.File, path: str | Path) -> None:
    """Refuses links and fields that lead to other files (which may be devices or pipes), and fields
    too large for the file together.

    Every field of the file counts, read or not. The groups are walked along their hard links, each
    once; no field is read.
    """
    size = Path(path).stat().st_size
    most = MOST_INFLATED * size + SMALL
    claimed = names = 0
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
        if kind == h5l.TYPE_HARD:
            claimed += _claim(file, name, path)
        names += 1
        if claimed > most or names > MOST_NAMES:
            raise DataError(
                f"{path}: saw fields that claim {claimed:,} bytes and more, which the "
                f"file's {size:,} bytes cannot hold, expected at most {most:,}; copy or "
                "download it again."
            )


def _claim(file, name, path) -> int:
    """Bytes that the field takes in memory, as it is or as float32, or that one of its chunks
    takes; 0 for a group.
    """
    item = h5o.open(file.id, name)
    if not isinstance(item, h5d.DatasetID):
        return 0
    how = item.get_create_plist()
    layout = how.get_layout()
    if layout == h5d.VIRTUAL or layout == h5d.CONTIGUOUS and how.get_external_count():
        raise DataError(
            f"{path}: {_text(name)}: saw a field whose data lie in other files, "
            "expected all data in this one; copy them into one file."
        )
    numbers = max(
        math.prod(item.shape or ()), math.prod(how.get_chunk()) if layout == h5d.CHUNKED else 0
    )
    return numbers * max(4, item.get_type().get_size())


def check_field(field: h5py.Dataset, where: str) -> None:
    """Refuses a field whose stored bytes are not as many as its description says: all of it is
    inflated once, chunk by chunk.
    """
    size, item = Path(field.file.filename).stat().st_size, field.id
    if field.chunks is None:
        stored, expected = item.get_storage_size(), field.nbytes
        if stored != expected and (stored or item.get_create_plist().get_layout() == h5d.COMPACT):
            raise DataError(
                f"{where}: saw {stored:,} bytes stored, expected {expected:,}; copy or "
                "download the file again."
            )
        return
    filters = _filters(item.get_create_plist(), where)
    expected = math.prod(field.chunks) * item.get_type().get_size()
    chunks: list[h5d.StoreInfo] = []
    most = math.prod(-(-n // c) for n, c in zip(field.shape, field.chunks, strict=True))
    item.chunk_iter(lambda chunk: chunks.append(chunk) or (True if len(chunks) > most else None))
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
