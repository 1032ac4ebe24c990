"""One file by its address and SHA-256: from the cache, from a local copy, or by download. Nothing unverified gets a final name."""
from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pooch

import arq_core
from arq_core.types import DataError

TIMEOUT = (5, 15)   # seconds to connect, and between two pieces of the answer; ours: a missing network shows at once


class FetchError(DataError):
    """A file that could not be had. The message names it, what was seen at each place, what was expected, and what to do."""


def project_root() -> Path:
    """The folder that holds `arq_core` and `data`."""
    return Path(arq_core.__file__).resolve().parent.parent


def cache_folder() -> Path:
    """$ARQ_CACHE, or `data/cache` of the project. Downloads lie in its folder `downloads`."""
    return Path(os.environ.get("ARQ_CACHE") or project_root() / "data" / "cache")


def local_folder() -> Path:
    """$ARQ_LOCAL_DATA, or `shared/data` next to the checkout: where copies of public files may lie already."""
    return Path(os.environ.get("ARQ_LOCAL_DATA") or project_root().parent / "shared" / "data")


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """A path in the same folder to write to; it takes the name `final` only when the block ends without an error."""
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)


class _Unfit(Exception):
    """A place that does not give the file; the text says what it gives instead."""


def _check(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise _Unfit("no such file")
    seen = sha256_of(path)
    if seen != sha256:
        raise _Unfit(f"{path.stat().st_size:,} bytes with SHA-256 {seen}")


def _copy(source: Path, sha256: str, final: Path) -> None:
    _check(source, sha256)
    with replacing(final) as part:
        shutil.copyfile(source, part)


def _download(url: str, sha256: str, final: Path) -> None:
    with replacing(final) as part:
        try:
            pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)(url, str(part), None)
        except OSError as error:          # every error of the HTTP client is one
            raise _Unfit(f"{type(error).__name__}: {error}") from error
        _check(part, sha256)


def fetch(url: str, sha256: str, name: str) -> Path:
    """Path of the verified file `name` in the cache. Tried in order: the cache, the local folder, the address."""
    final, local = cache_folder() / "downloads" / name, local_folder() / name
    places = ((final, lambda: _check(final, sha256)),
              (local, lambda: _copy(local, sha256, final)),
              (url, lambda: _download(url, sha256, final)))
    seen = []
    for place, attempt in places:
        try:
            attempt()
            return final
        except _Unfit as fault:
            seen.append(f"  {place}: {fault}")
        except OSError as error:
            raise FetchError(f"{name}: could not be read from {place} or written to {final.parent} ({error}); set ARQ_CACHE to a "
                             "folder with room that you may write to.") from error
    raise FetchError(f"{name} could not be had. Seen:\n" + "\n".join(seen) + f"\nExpected: SHA-256 {sha256}.\n"
                     f"Get the file from {url} by other means and put it at {final}, or set ARQ_LOCAL_DATA to the folder that "
                     "holds it.")
