"""The only atomic write and the only hash of a file: a name holds the old content or the new one,
never a part.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")
# seconds without a byte, after which no writer is left: a write takes minutes
ABANDONED = 24 * 3600


@contextmanager
def replacing(path: Path, before: Callable[[], object] | None = None) -> Iterator[Path]:
    """A path in the same folder to write to; what lies there takes the name `path` when the block
    ends well.

    fsync, then rename; the name is unique on any machine, and nothing stays after an error.
    `before` is called just before the rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        if before:
            before()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes | str, before: Callable[[], object] | None = None) -> None:
    """Write a whole file (a text as UTF-8); `before` is called just before it takes its name."""
    with replacing(path, before) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: Path) -> list[Path]:
    """Remove what `replacing` left below `folder` when its process was killed; which files they
    were.

    They are temporary files that nobody has written to for a day. Folders that vanish meanwhile, or
    that are not ours, are passed over.
    """
    left = []
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names if TEMPORARY.search(name)):
            # its writer has just finished, or it is somebody else's
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
                    left.append(path)
    return left
