"""The only atomic write and the only hash of a file: a name holds the old content or the new one,
never a part. And how our text files are read, and folders listed, where others have been too.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")
# seconds without a byte, after which no writer is left: a write takes minutes
ABANDONED = 24 * 3600
# what editors, disks and file managers leave beside the files of a folder
LEFT_OVER = re.compile(
    r"\..*|~\$.*|#.*#"  # ._x, .DS_Store and .x.swp; ~$x; #x#
    r"|.*(~|\.bak|\.orig|\.rej|\.swp|\.tmp)"
    r"|Thumbs\.db|desktop\.ini|Icon\r"
    # "x (copy)", "x (another copy)", "x (3rd copy)", "x (2)", "x copy 2", "x - Copy (2)"
    r"|.* (\(([\w ]+ )?copy\)|\(\d+\)|(- )?copy( \(?\d+\)?)?)(\..*)?",
    re.IGNORECASE,
)


# what this process has written (`replacing`): a checkout differs from its commit there by its doing
WRITTEN: set[Path] = set()


class TextError(ValueError):
    """A text file that cannot be read. The message names it, what was seen and what to do."""


@contextmanager
def replacing(path: Path, before: Callable[[], object] | None = None) -> Iterator[Path]:
    """A path in the same folder to write to; what lies there takes the name `path` when the block
    ends well.

    fsync, then rename; the name is unique on any machine, and nothing stays after an error.
    `before` is called just before the rename. A name that a folder has, or that lies in a file, is
    refused before the block: IsADirectoryError, NotADirectoryError.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for above in filter(Path.is_file, path.parents):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        if before:
            before()
        os.replace(temporary, path)
        WRITTEN.add(path.absolute())
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


def is_left_over(path: str | Path) -> bool:
    """Whether a name is one that editors, disks and file managers give to what they leave behind
    (LEFT_OVER); of a path its last part alone counts.
    """
    return LEFT_OVER.fullmatch(Path(path).name) is not None


def files_in(folder: Path, pattern: str = "*", deep: bool = False) -> list[Path]:
    """The files of a folder whose names fit the pattern, sorted, without what others left there;
    none where the folder does not exist. `deep`: those of the folders in it too.
    """
    found = folder.rglob(pattern) if deep else folder.glob(pattern)
    ours = lambda path: not any(map(is_left_over, path.relative_to(folder).parts))
    return sorted(path for path in found if ours(path) and path.is_file())


def read_text(path: str | Path) -> str:
    """A text file in UTF-8, with or without a byte order mark; its lines end in \\n, whatever they
    ended in. TextError where it is written otherwise.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path}: saw the byte {error.object[error.start]:#04x} at {error.start}, expected a "
            "text in UTF-8; open it in an editor and save it as UTF-8, or restore the file."
        ) from None


def read_toml(path: str | Path) -> dict:
    """A TOML file; an error of its syntax names the file."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise tomllib.TOMLDecodeError(f"{path}: {error}; repair that line.") from None


def read_settings(path: str | Path) -> Mapping[str, Any]:
    """What read_toml reads, but nobody can change it: a file that did not change is parsed once,
    however often it is asked for (a table of all rows asks thousands of times).
    """
    return _settings(Path(path), read_text(path))


@lru_cache(maxsize=64)
def _settings(path: Path, text: str) -> Mapping[str, Any]:
    return _read_only(read_toml(path))


def _read_only(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({name: _read_only(x) for name, x in value.items()})
    return tuple(map(_read_only, value)) if isinstance(value, list) else value


def read_csv(path: str | Path, *columns: str) -> list[dict[str, str]]:
    """The lines of a table with commas, by the names in its first line; `columns` must be among
    these. Empty lines are left out.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    heads = reader.fieldnames or []
    if missing := [name for name in columns if name not in heads]:
        raise TextError(
            f"{path}: saw the columns {', '.join(heads)[:80] or '(none)'}, expected also "
            f"{', '.join(missing)}, with commas between them; restore the file, or save it with "
            "commas."
        )
    rows = list(reader)
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise TextError(
                f"{path}: line {line} ({next(iter(row.values()))}): saw another number of cells, "
                f"expected {len(heads)}, one a column; repair that line."
            )
    return rows
