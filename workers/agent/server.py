"""The agent's HTTP side: signed requests in, signed answers out, one thread per request."""

from __future__ import annotations

import json
import logging
import socketserver
from http.server import BaseHTTPRequestHandler

from ha_tasks.adapters.agent_signing import REQUEST_HEADERS, RequestGate, signed_answer
from workers.agent.routes import Reply, Routes

log = logging.getLogger(__name__)

_LARGEST_BODY = 64 * 1024
_PATIENCE_S = 5.0
"""For a client that opens a connection and says nothing."""


class AgentServer(socketserver.ThreadingTCPServer):
    """Listens at once when it is made; ``serve_forever`` answers.

    ``GET /health`` is for everybody and says only that the process is alive. Whatever else is not
    signed by who has the key is answered with 401 and no detail.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, listen: tuple[str, int], *, routes: Routes, key: bytes) -> None:
        self.routes = routes
        self.key = key
        self.gate = RequestGate(key)
        super().__init__(listen, _Exchange)


class _Exchange(BaseHTTPRequestHandler):
    server: AgentServer
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, b'{"ok":true}', {})
        else:
            self._answer(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LARGEST_BODY:
            self._refuse(413)
        else:
            self._answer(self.rfile.read(int(length)))

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)

    def _answer(self, body: bytes) -> None:
        headers = {name: self.headers.get(name, "") for name in REQUEST_HEADERS}
        nonce = self.server.gate.nonce_of(method=self.command, path=self.path, headers=headers, body=body)
        if nonce is None:
            self._refuse(401)
            return
        reply = self._reply(body)
        content = json.dumps(reply.body).encode()
        signature = signed_answer(self.server.key, nonce=nonce, status=reply.status, body=content)
        self._send(reply.status, content, signature)

    def _reply(self, body: bytes) -> Reply:
        try:
            return self.server.routes.answer(self.command, self.path, body)
        except Exception:  # the client must hear that it failed; what failed is in the log
            log.exception("%s %s", self.command, self.path)
            return Reply(status=500, body={"reason": "action_failed", "detail": "see the agent's log"})

    def _refuse(self, status: int) -> None:
        self._send(status, b'{"reason":"signature","detail":"not a signed request"}', {})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        # For everybody: who is refused because of a clock must be able to see that.
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(content)
        except OSError:
            log.info("%s %s: the client did not wait for the answer", self.command, self.path)
