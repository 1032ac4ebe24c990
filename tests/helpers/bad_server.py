"""A web server on this machine that serves one file rightly, and in every wrong way a download has
to survive.
"""

import contextlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head>"
    b"<body>Try again later</body></html>"
)
PIECE = 5000  # bytes that an interrupted answer gives


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.hits.append((self.path, self.headers.get("Range")))
        path = re.sub("^http://data.invalid", "", self.path)  # what a proxy is asked
        self.close_connection = True
        with contextlib.suppress(OSError):  # the other side may have gone
            getattr(self, "serve_" + path.strip("/"), self.serve_absent)()

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def whole(self, body, **headers):
        self.head(200, **dict(Content_Length=len(body)) | headers)
        return body

    def ranged(self, etag='"1"'):
        """The bytes asked for, after their head; a range is honoured if the file is still the one
        with this ETag.
        """
        body, asked = self.server.body, re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or self.headers.get("If-Range", etag) != etag:
            return self.whole(body, ETag=etag)
        start = int(asked[1])
        if start >= len(body):
            self.head(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
            return b""
        self.head(
            206,
            Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}",
            Content_Length=len(body) - start,
            ETag=etag,
        )
        return body[start:]

    def serve_right(self):
        self.wfile.write(self.ranged())

    def serve_noranges(self):
        self.wfile.write(self.whole(self.server.body))

    def serve_wrong(self):
        self.wfile.write(self.whole(self.server.body[::-1]))

    def serve_cut(self):
        self.wfile.write(self.whole(self.server.body)[:PIECE])

    def serve_flaky(self):
        self.wfile.write(self.ranged()[:PIECE])

    def serve_changing(self):
        """Another version of the file, with another ETag, at every request; the first answers are
        cut.
        """
        n = len(self.server.hits)
        self.server.body = bytes([n]) * 20_000
        self.wfile.write(self.ranged(f'"{n}"')[: PIECE if n < 3 else None])

    def serve_shifted(self):
        """Says that it gives another range than the one asked for."""
        if self.headers.get("Range"):
            self.head(206, Content_Range="bytes 17-23999/24000", Content_Length=10)
            self.wfile.write(b"x" * 10)
        else:
            self.serve_flaky()

    def serve_first(self):
        """Ends the first answer only, without ranges."""
        self.wfile.write(
            self.whole(self.server.body)[: PIECE if len(self.server.hits) == 1 else None]
        )

    def serve_stalls(self):
        self.wfile.write(self.ranged()[:PIECE])
        self.server.released.wait(60)

    def serve_silent(self):
        self.server.released.wait(60)

    def serve_drips(self):
        for byte in self.ranged():
            self.wfile.write(bytes([byte]))
            time.sleep(0.02)

    def serve_slow(self):
        """The right file, in about a second."""
        body = self.ranged()
        for i in range(0, len(body), len(self.server.body) // 20 + 1):
            self.wfile.write(body[i : i + len(self.server.body) // 20 + 1])
            time.sleep(0.05)

    def serve_long(self):
        """More bytes than Content-Length."""
        self.whole(b"", Content_Length=100)
        self.wfile.write(self.server.body)

    def serve_huge(self):
        self.wfile.write(self.whole(self.server.body, Content_Length=10**17))

    def serve_tera(self):
        self.wfile.write(self.whole(self.server.body, Content_Length=2**35))

    def serve_nonsense(self):
        self.wfile.write(self.whole(self.server.body, Content_Length="-5"))

    def serve_endless(self):
        """Chunks without an end and without a promise."""
        self.head(200, Transfer_Encoding="chunked")
        with contextlib.suppress(OSError):
            while not self.server.released.is_set():
                self.wfile.write(b"2710\r\n" + b"a" * 10_000 + b"\r\n")

    def serve_chunked(self):
        self.head(200, Transfer_Encoding="chunked")
        body = self.server.body
        for i in range(0, len(body), PIECE):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body[i : i + PIECE]), body[i : i + PIECE]))
        self.wfile.write(b"0\r\n\r\n")

    def serve_nolength(self):
        self.head(200)
        self.wfile.write(self.server.body[:PIECE])

    def serve_page(self):
        self.wfile.write(self.whole(PAGE, Content_Type="text/html; charset=utf-8"))

    def serve_disguised(self):
        self.wfile.write(self.whole(PAGE, Content_Type="application/octet-stream"))

    def serve_zipped(self):
        self.wfile.write(self.whole(self.server.body, Content_Encoding="gzip"))

    def serve_moved(self):
        self.head(
            302, Location=f"http://localhost:{self.server.server_port}/right", Content_Length=0
        )

    def serve_loop(self):
        self.head(301, Location="/loop", Content_Length=0)

    def serve_file(self):
        self.head(302, Location="file:///etc/hostname", Content_Length=0)

    def serve_absent(self):
        self.head(404, Content_Length=0)

    def serve_broken(self):
        self.head(503, Content_Length=0)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    """`hits` lists (path, Range) of every request; `body` is the right file; `released` ends all
    waiting.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.hits, self.released = body, [], threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def running(body):
    with Server(body) as server:
        threading.Thread(
            target=server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True
        ).start()
        yield server
        server.released.set()
        server.shutdown()
