"""A small HTTP service to protect: ``python -m ha_tasks.embedded.web --name web1 --port 8101``.

``/healthz`` answers 200, every other path answers JSON with the name and pid of the process. With
``--conf FILE`` (a JSON object) it reads that file whenever it was exchanged; one that it cannot read makes
it answer 500 to everything, as a service does that was given a bad configuration.
SIGTERM lets running requests end. Stdlib only; not for production.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOOPBACK = "127.0.0.1"
DRAIN_S = 3.0


class Configuration:
    """The file that it is served from; None: none, and all is well."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: tuple[int, int] | None = None
        self._good = True

    def is_good(self) -> bool:
        """Looks at the file, and reads it when it is another one than before."""
        if self._path is None:
            return True
        try:
            file = self._path.stat()
            which = (file.st_ino, file.st_mtime_ns)
            if which != self._known:
                self._good, self._known = isinstance(json.loads(self._path.read_bytes()), dict), which
        except (OSError, ValueError):
            self._good, self._known = False, None
        return self._good


class Service(ThreadingHTTPServer):
    """The listening server; ``name`` is told to clients."""

    daemon_threads = True  # idle connections need not hold up the end; running requests do, see drain
    request_queue_size = 128

    def __init__(self, name: str, port: int, conf: Path | None = None) -> None:
        super().__init__((LOOPBACK, port), Answer)
        self.name = name
        self.configuration = Configuration(conf)
        self._running = 0
        self._changed = threading.Condition()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Counts a request while it is answered."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def drain(self, timeout_s: float) -> bool:
        """Waits until no request is being answered; False when some still are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout_s)

    def _count(self, by: int) -> None:
        with self._changed:
            self._running += by
            self._changed.notify_all()


class Answer(BaseHTTPRequestHandler):
    """Answers one client. Idle connections are closed after ``timeout`` seconds."""

    server: Service
    protocol_version = "HTTP/1.1"
    timeout = 5.0
    disable_nagle_algorithm = True
    wbufsize = -1
    """Head and body leave in one piece: who dies has given a whole answer, or none, which is retried."""

    def do_GET(self) -> None:
        """200 with JSON; 500 with a configuration that cannot be read."""
        self._counted(with_body=True)

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self._counted(with_body=False)

    def _counted(self, *, with_body: bool) -> None:
        with self.server.request():
            self._answer(self.server.name, with_body=with_body)

    def _answer(self, name: str, *, with_body: bool) -> None:
        healthy = self.path.partition("?")[0] == "/healthz"
        good = self.server.configuration.is_good()
        told = {"status": "ok" if good else "bad configuration"}
        body = json.dumps(told if healthy or not good else {"service": name, "pid": os.getpid()}).encode()
        self.send_response(200 if good else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Health checks would fill the log."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--pid-file", type=Path)
    parser.add_argument("--conf", type=Path)
    options = parser.parse_args(arguments)
    with Service(options.name, options.port, options.conf) as service:
        for number in (signal.SIGTERM, signal.SIGINT):
            # From another thread: shutdown() waits for the loop that this handler interrupts.
            signal.signal(number, lambda *_: threading.Thread(target=service.shutdown).start())
        if options.pid_file:
            options.pid_file.write_text(f"{os.getpid()}\n")
        service.serve_forever(poll_interval=0.1)
        service.drain(DRAIN_S)


if __name__ == "__main__":
    main()
