"""One file over HTTP into a part file that outlives an interruption: asked for from where it
stopped, never longer than promised.

Source of the rules of resuming: RFC 9110, sections 13.1.5 (If-Range) and 14 (Range, Content-Range).
Proxies: $http_proxy, $https_proxy and $no_proxy, which `requests` reads.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from tqdm import tqdm

from arq_core.config.files import sha256_of

# Our choices. A missing network shows at once; a server that trickles counts as one that hangs.
TIMEOUT = (5, 15)  # seconds to connect, and between two pieces of the answer
SLOWEST, WINDOW = 1000, 30.0  # fewer bytes per second than this over so many seconds is a stall
# at one address, if answers stop before their end; seconds more before each
ATTEMPTS, PAUSE = 5, 1.0
REDIRECTS = 10
MOST = 2**36  # bytes; more than any file of Table A.4, where no size is known
PIECE = 2**18
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Unfit(Exception):
    """A place that does not give the file; the text says what it gives instead."""


class Cut(Unfit):
    """The answer stopped before its end: asking for the rest may help."""


@dataclass(frozen=True)
class Wanted:
    """What is known of a file before it is there."""

    name: str
    sha256: str = ""  # empty: not known yet
    bytes: int | None = None


def check(path: Path, wanted: Wanted) -> str:
    """SHA-256 of the file, which is the wanted one.

    Without a known hash: has its size, and is not plainly something else.
    """
    if not path.is_file():
        raise Unfit("no such file")
    size, seen = path.stat().st_size, sha256_of(path)
    if wanted.sha256 and seen != wanted.sha256 or wanted.bytes not in (None, size):
        raise Unfit(f"{size:,} bytes with SHA-256 {seen}" + _page(path))
    if not wanted.sha256:
        with open(path, "rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
        kind = Path(wanted.name).suffix
        if _page(path) or not size or kind in (".hdf5", ".h5") and start != HDF5_SIGNATURE:
            raise Unfit(f"{size:,} bytes that are no {kind or 'data'} file" + _page(path))
    return seen


def _page(path: Path) -> str:
    """ ", a web page (its title)", or nothing where the file does not begin as one."""
    with open(path, "rb") as file:
        start = file.read(4096).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not re.match(r"<(!doctype html|html|head|\?xml)", start, re.I):
        return ""
    title = re.search(r"<title[^>]*>\s*([^<]{1,80})", start, re.I)
    return ", a web page" + (f" ({title[1].strip()!r})" if title else "")


def download(address: str, wanted: Wanted, part: Path) -> str:
    """Fills `part`, which may hold the beginning already, and returns the SHA-256 of the verified
    file. What is no good is removed.
    """
    for kept in (part.is_file(), False):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _transfer(address, wanted, part)
                break
            except Cut:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE * attempt)
        try:
            return check(part, wanted)
        except Unfit:
            discard(part)
            # otherwise it may have been the beginning of another file: once more, from the start
            if not kept:
                raise
    raise AssertionError("the second round returns or raises")


def discard(part: Path) -> None:
    """Remove the part file and the note of its origin beside it, where they exist."""
    part.unlink(missing_ok=True)
    _origin(part).unlink(missing_ok=True)


def _origin(part: Path) -> Path:
    """Two lines beside the part: where its first bytes came from, and the validator (ETag or date)
    of that answer.
    """
    return part.with_suffix(".origin")


def _start(address: str, wanted: Wanted, part: Path) -> tuple[int, dict[str, str]]:
    """(bytes to keep, headers that ask for the rest).

    Kept is what can be proved to belong: by the server, or by the hash at the end.
    """
    headers = {"Accept-Encoding": "identity"}
    size = part.stat().st_size if part.is_file() else 0
    origin = (
        _origin(part).read_text("utf-8", "replace").split("\n")
        if size and _origin(part).is_file()
        else []
    )
    # fewer lines: killed while it was written
    validator = origin[1] if len(origin) == 3 and origin[0] == address else ""
    if not size or not (validator or wanted.sha256):
        return 0, headers
    return size, headers | {"Range": f"bytes={size}-"} | (
        {"If-Range": validator} if validator else {}
    )


def _transfer(address: str, wanted: Wanted, part: Path) -> None:
    """One request, whose answer is appended to `part` or replaces it."""
    start, headers = _start(address, wanted, part)
    with _answer(address, headers) as answer:
        # nothing after `start`: it is all there, or it is not of this file
        if answer.status_code == 416:
            if _total(answer) != start:
                discard(part)
                raise Cut(f"HTTP 416: no bytes from {start:,} on")
            return
        start = start if answer.status_code == 206 else 0
        total = _promised(answer, start, wanted)
        _room(part, (total or wanted.bytes or 0) - start)
        most = next(n for n in (total, wanted.bytes, MOST) if n is not None)
        with open(part, "ab" if start else "wb") as file:
            if not start:
                _origin(part).write_text(f"{address}\n{_validator(answer)}\n", "utf-8")
            with tqdm(
                desc=wanted.name,
                initial=start,
                total=total,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
            ) as bar:
                size = _copy(answer.raw, file, bar, start, most)
    if size > most:
        discard(part)
        raise Unfit(f"more than {most:,} bytes")
    if total is not None and size < total:
        raise Cut(f"the answer stopped after {size:,} of {total:,} bytes")


def _validator(answer: requests.Response) -> str:
    """What proves later that the file is still the same; a weak ETag does not promise equal
    bytes.
    """
    etag = answer.headers.get("ETag", "W/")
    return answer.headers.get("Last-Modified", "") if etag.startswith("W/") else etag


def _answer(address: str, headers: dict[str, str]) -> requests.Response:
    """The answer 200, 206 or 416 at the end of the redirects; its body is not read yet."""
    for _ in range(REDIRECTS):
        if urlsplit(address).scheme not in ("http", "https"):
            raise Unfit(f"{address} is no address of a web server")
        try:
            answer = requests.get(
                address, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
            )
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            # every error of the HTTP client is one
            raise Unfit(f"{type(error).__name__}: {error}") from error
        if not answer.is_redirect:
            break
        answer.close()
        address = urljoin(address, answer.headers["Location"])
    else:
        raise Unfit(f"more than {REDIRECTS} redirects")
    if (
        answer.status_code not in (200, 206, 416)
        or answer.status_code != 200
        and "Range" not in headers
    ):
        answer.close()
        raise Unfit(f"HTTP {answer.status_code} {answer.reason}")
    return answer


def _total(answer: requests.Response) -> int | None:
    """Bytes of the whole file, as far as the answer says so."""
    if answer.status_code == 200:
        length = answer.headers.get("Content-Length", "")
        return int(length) if re.fullmatch(r"\d{1,18}", length) else None
    found = re.fullmatch(
        r"bytes (?:\d+-\d+|\*)/(\d{1,18})", answer.headers.get("Content-Range", "")
    )
    return int(found[1]) if found else None


def _promised(answer: requests.Response, start: int, wanted: Wanted) -> int | None:
    """Bytes the file will have; refused before anything is written if that, or the kind of the
    answer, is not what is wanted.
    """
    total, kind = _total(answer), answer.headers.get("Content-Type", "")
    if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise Unfit(
            f"Content-Range {answer.headers.get('Content-Range')!r} for the bytes from {start} on"
        )
    if kind.startswith("text/html"):
        raise Unfit(f"a web page (Content-Type {kind}) of {total or 'unknown'} bytes")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise Unfit(
            f"Content-Encoding {answer.headers['Content-Encoding']}, which was not asked for"
        )
    if total is not None and (total > MOST or wanted.bytes not in (None, total)):
        raise Unfit(
            f"a file of {total:,} bytes, expected "
            f"{f'at most {MOST:,}' if wanted.bytes is None else f'{wanted.bytes:,}'}"
        )
    if (
        total is None
        and not wanted.sha256
        and wanted.bytes is None
        and "chunked" not in answer.headers.get("Transfer-Encoding", "")
    ):
        raise Unfit(
            "an answer of no stated length, so that its end could not be told from a "
            "broken connection"
        )
    return total


def _room(part: Path, more: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if more > free:
        raise OSError(f"{more:,} bytes are to come, {free:,} are free")


def _copy(raw: urllib3.HTTPResponse, file, bar, size: int, most: int) -> int:
    """Appends the answer's body to the file of `size` bytes, which never grows beyond `most`;
    returns how many bytes there were.
    """
    since, seen = time.monotonic(), 0
    while True:
        try:
            piece = raw.read1(PIECE, decode_content=False)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise Cut(f"stopped after {size:,} bytes ({type(error).__name__}: {error})") from error
        if not piece:
            return size
        file.write(piece[: most - size])
        bar.update(len(piece))
        size, seen = size + len(piece), seen + len(piece)
        if size > most:
            return size
        if time.monotonic() - since > WINDOW:
            if seen < SLOWEST * WINDOW:
                raise Cut(f"{seen:,} bytes in {WINDOW:.0f} seconds, after {size:,} bytes")
            since, seen = time.monotonic(), 0
