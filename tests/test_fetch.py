"""arq_core.datasets.fetch: verified or not at all, from a server on this machine that serves right, wrong and cut files."""
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from arq_core.datasets.fetch import FetchError, fetch

RIGHT = b"forty-two demonstrations" * 1000
SHA = hashlib.sha256(RIGHT).hexdigest()
NAME = "demos.bin"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.hits.append(self.path)
        body = {"/right": RIGHT, "/wrong": RIGHT[::-1], "/cut": RIGHT}.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write((body or b"")[: 5000 if self.path == "/cut" else None])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as s:
        s.hits, s.address = [], f"http://127.0.0.1:{s.server_port}"
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield s
        s.shutdown()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The final path and the local copy's path, both absent."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    return tmp_path / "cache" / "downloads" / NAME, tmp_path / "local" / NAME


def leftovers(final):
    return [p.name for p in final.parent.iterdir() if p != final]


def test_download_is_verified_and_happens_once(server, places):
    assert fetch(server.address + "/right", SHA, NAME) == places[0]
    assert fetch(server.address + "/right", SHA, NAME).read_bytes() == RIGHT
    assert server.hits == ["/right"] and leftovers(places[0]) == []


def test_local_copy_goes_before_the_network(server, places):
    final, local = places
    local.write_bytes(RIGHT)
    assert fetch(server.address + "/right", SHA, NAME) == final and final.read_bytes() == RIGHT
    assert server.hits == []


def test_damaged_cache_and_damaged_local_copy_are_replaced_by_a_good_download(server, places):
    final, local = places
    final.parent.mkdir(parents=True)
    final.write_bytes(RIGHT[:100])
    local.write_bytes(b"other")
    assert fetch(server.address + "/right", SHA, NAME).read_bytes() == RIGHT
    assert local.read_bytes() == b"other"


@pytest.mark.parametrize("path, seen", [("/wrong", hashlib.sha256(RIGHT[::-1]).hexdigest()), ("/cut", None), ("/absent", "404")])
def test_bad_download_leaves_nothing_and_says_what_was_seen(server, places, path, seen):
    final, local = places
    final.parent.mkdir(parents=True)
    earlier = final.with_name("earlier.bin")
    earlier.write_bytes(b"good")
    with pytest.raises(FetchError) as error:
        fetch(server.address + path, SHA, NAME)
    assert not final.exists() and leftovers(final) == ["earlier.bin"] and earlier.read_bytes() == b"good"
    for part in (NAME, server.address + path, SHA, str(final), str(local), "ARQ_LOCAL_DATA", seen or "5000"):
        assert part in str(error.value)


def test_offline_names_a_truncated_cache_file_with_size_and_hash_and_leaves_it(server, places):
    final, _ = places
    server.shutdown()
    server.server_close()
    final.parent.mkdir(parents=True)
    final.write_bytes(RIGHT[:100])
    with pytest.raises(FetchError, match=f"100 bytes with SHA-256 {hashlib.sha256(RIGHT[:100]).hexdigest()}"):
        fetch(server.address + "/right", SHA, NAME)
    assert final.read_bytes() == RIGHT[:100]
