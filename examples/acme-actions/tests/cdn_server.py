"""A small CDN: zones with a mode, fenced; it can lose an answer on its way back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "acme-token"  # noqa: S105 - of this server only


class Cdn:
    """``modes``: mode by zone; ``fences``: the highest fence seen by zone."""

    def __init__(self) -> None:
        self.modes = {"www": "pass"}
        self.fences: dict[str, int] = {}
        self.loses_answers = False
        self.url = ""

    @contextmanager
    def losing_answers(self) -> Iterator[None]:
        """What is asked for happens, but nobody is told."""
        self.loses_answers = True
        try:
            yield
        finally:
            self.loses_answers = False


class Handler(BaseHTTPRequestHandler):
    """Its API."""

    cdn: Cdn

    def do_GET(self) -> None:
        """The mode of a zone."""
        self.answer(200)

    def do_PUT(self) -> None:
        """Sets it, unless the fence is too low."""
        zone, fence = self.zone, int(self.headers["X-Fence"])
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if fence < self.cdn.fences.get(zone, 0):
            self.answer(409)
            return
        if self.wrong is None:
            self.cdn.fences[zone], self.cdn.modes[zone] = fence, body["mode"]
        self.answer(503 if self.cdn.loses_answers else 200)

    @property
    def zone(self) -> str:
        """Out of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def wrong(self) -> int | None:
        """The status of a request that cannot be answered."""
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return 401
        return None if self.zone in self.cdn.modes else 404

    def answer(self, status: int) -> None:
        """The zone, or an error."""
        body = json.dumps({"mode": self.cdn.modes.get(self.zone)}).encode()
        self.send_response(self.wrong or status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def running_cdn() -> Iterator[Cdn]:
    """A CDN on a free port of loopback."""
    cdn = Cdn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cdn": cdn}))
    cdn.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield cdn
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
