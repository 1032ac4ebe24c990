"""One file by its addresses and SHA-256: from the cache, from a local copy, or by download.

Nothing unverified gets a final name.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from arq_core.algorithm.types import DataError
from arq_core.config.files import replacing, sha256_of
from arq_core.config.lock import in_turn
from arq_core.config.paths import cache_folder, local_folder
from arq_core.datasets.download import Unfit, Wanted, check, discard, download


class FetchError(DataError):
    """A file that could not be had.

    The message names it, what was seen at each place, what was expected, and what to do.
    """


def fetch(url: str, sha256: str, name: str, local: str = "") -> Path:
    """Path of the verified file `name` in the cache.

    Tried in order: the cache, the local folder, the address. `local` is where else the local folder
    may hold it, a path below that folder with slashes: for files whose publisher gives the same
    name to many.
    """
    return fetch_locked(name, [url], sha256, local=local)


def fetch_locked(
    name: str,
    addresses: Sequence[str],
    sha256: str = "",
    expected_bytes: int | None = None,
    local: str = "",
) -> Path:
    """As `fetch`, from several addresses, the first that gives the file. A hash that nobody
    published is recorded the first time.

    With an empty sha256 the first file that comes is taken if it has expected_bytes and is no web
    page; its hash is written to `datasets.lock.json` in the cache, and from then on no other file
    is accepted under this name.
    """
    if not _plain(name):
        raise FetchError(
            f"name: saw {name!r}, expected a plain file name of letters, digits and . _ "
            "+ = -; give one without folders."
        )
    if local and not all(map(_plain, local.split("/"))):
        raise FetchError(
            f"{name}: local: saw {local!r}, expected a path below the local folder, plain names "
            "with slashes between them; give one that leads nowhere else."
        )
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise FetchError(
            f"{name}: saw the SHA-256 {sha256!r}, expected 64 hexadecimal digits in "
            "lower case; repair it."
        )
    final = cache_folder() / "downloads" / name
    try:
        known = sha256 or _locked(name).get("sha256", "")
        # before any lock: also in a cache that cannot be written to
        if known and final.is_file() and sha256_of(final) == known:
            return final
        with _alone(final):
            return _obtain(final, addresses, sha256, expected_bytes, local)
    except OSError as error:
        raise FetchError(
            f"{name}: could not be read from {local_folder()} or written to "
            f"{final.parent} ({error}); set ARQ_CACHE to a folder with room that you "
            "may write to."
        ) from error


def forget(name: str) -> None:
    """Remove the file `name` from the cache and, where its hash is only locked, the lock: the next
    fetch begins anew. For a file that came damaged, before anything was made of it.
    """
    final = cache_folder() / "downloads" / name
    with _alone(final):
        final.unlink(missing_ok=True)
        discard(_partial(final, "part"))
        if _locked(name):
            path = _lock_path()
            with _alone(path), replacing(path) as part:
                left = {k: v for k, v in _locked().items() if k != name}
                part.write_text(json.dumps(left, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _plain(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.+=-]{0,199}", name, re.ASCII))


def _obtain(
    final: Path, addresses: Sequence[str], sha256: str, expected_bytes: int | None, local: str
) -> Path:
    """The file under its final name, by whoever holds its lock.

    The hash is recorded first, so a final name is always a verified one.
    """
    locked = {} if sha256 else _locked(final.name)
    wanted = Wanted(final.name, sha256 or locked.get("sha256", ""), expected_bytes)
    copy, part = _partial(final, "copy"), _partial(final, "part")
    held = [local_folder() / path for path in filter(None, (local, final.name))]
    places = [
        (str(final), final, lambda: check(final, wanted)),
        *((str(h), copy, lambda h=h: _copy(h, wanted, copy)) for h in held),
        *((a, part, lambda a=a: download(a, wanted, part)) for a in addresses),
    ]
    seen = []
    for place, path, attempt in places:
        try:
            found = attempt()
        except Unfit as fault:
            seen.append(f"  {place}: {fault}")
            if locked and path == final and final.exists():
                # perhaps the user's own change: not to be replaced in silence
                break
            continue
        if not wanted.sha256:
            _lock(
                final.name,
                dict(sha256=found, bytes=path.stat().st_size, source=place, locked=_now()),
            )
        if path != final:
            os.replace(path, final)
            discard(path)
        return final
    raise FetchError(_report(final, addresses, seen, wanted, locked))


def _report(
    final: Path, addresses: Sequence[str], seen: list[str], wanted: Wanted, locked: dict
) -> str:
    """What was seen at each place, what was expected, and what to do."""
    size = f"{wanted.bytes:,} bytes" if wanted.bytes is not None else ""
    expected = (
        ", ".join(filter(None, (size, f"SHA-256 {wanted.sha256}" if wanted.sha256 else "")))
        or "a data file"
    )
    text = f"{final.name} could not be had. Seen:\n" + "\n".join(seen) + f"\nExpected: {expected}"
    if locked:
        text += (
            f", locked on {locked['locked']} from {locked['source']}.\nTo get the "
            f"locked file again, remove what lies at {final}. To accept another file "
            f"under this name, remove the entry {final.name!r} from {_lock_path()}; "
            "results from the two files are not comparable"
        )
    return text + (
        f".\nGet the file from {' or '.join(addresses) or 'its publisher'} by other "
        f"means and put it at {final}, or set ARQ_LOCAL_DATA to the folder that "
        "holds it."
    )


def _copy(source: Path, wanted: Wanted, copy: Path) -> str:
    """SHA-256 of a copy of the source; the copy is what is checked, since the source may change
    meanwhile.
    """
    if not source.is_file():
        raise Unfit("no such file")
    try:
        shutil.copyfile(source, copy)
        return check(copy, wanted)
    except (Unfit, OSError):
        discard(copy)
        raise


def _partial(final: Path, ending: str) -> Path:
    """Files beside the final one: what came so far (part, copy), and the lock of who works on it
    (lock).
    """
    return final.parent / ".partial" / f"{final.name}.{ending}"


def _alone(path: Path) -> AbstractContextManager[None]:
    """While the block runs no other process is in one for this path."""
    said = f"{path.name}: another process is at work on it"
    return in_turn(_partial(path, "lock"), said)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _lock_path() -> Path:
    """{name: {sha256, bytes, source, locked}}: which file is meant by a name whose hash nobody
    published.
    """
    return cache_folder() / "datasets.lock.json"


def _locked(name: str | None = None) -> dict:
    """The entry of this name, empty if there is none; without a name, all of them."""
    path = _lock_path()
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        entry = entries if name is None else entries.get(name, {})
        if name in entries and not (
            re.fullmatch("[0-9a-f]{64}", entry["sha256"])
            and {"bytes", "source", "locked"} <= entry.keys()
        ):
            raise ValueError(f"the entry {name!r} holds {entry}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(
            f"{path}: saw {type(error).__name__}: {error}, expected JSON with sha256, "
            "bytes, source and locked for each file; repair it, or delete it to accept "
            "whatever file comes next."
        ) from error
    return entry


def _lock(name: str, entry: dict) -> None:
    """Adds the entry; entries that other processes add at the same time are kept."""
    path = _lock_path()
    with _alone(path), replacing(path) as part:
        part.write_text(
            json.dumps(_locked() | {name: entry}, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
