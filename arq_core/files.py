"""Files that are the old one or the new one, never a part."""
from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


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
