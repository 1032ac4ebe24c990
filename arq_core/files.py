"""Files that are the old one or the new one, never a part."""
from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")
ABANDONED = 24 * 3600          # seconds without a byte written, after which a temporary file has no writer: any write takes minutes


@contextmanager
def replacing(path: Path):
    """A file to write that takes the place of `path` when the block ends well: the old one or the new one is there, never a part.

    Temporary file beside it, fsync, rename; the name is unique on any machine, and nothing stays after an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """The file under `path` is the old one or the new one, never a part."""
    with replacing(path) as f:
        f.write(data)


def sweep(folder: Path) -> list[Path]:
    """Remove what `replacing` left below `folder` when its process was killed: temporary files that nobody has written to for a day. Which they were."""
    left = []
    for place, _, names in os.walk(folder):                   # it passes over folders that vanish meanwhile or that are not ours to read
        for path in (Path(place, name) for name in names if TEMPORARY.search(name)):
            with suppress(OSError):                           # its writer has just finished, or it is somebody else's
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
                    left.append(path)
    return left
