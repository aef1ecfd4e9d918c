"""Webhooks to real endpoints, plain and TLS: signed, bounded in time, never led elsewhere."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest

import ha_tasks
from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.webhooks import WebhookSink
from ha_tasks.errors import NotDelivered
from ha_tasks.model.event import Event
from ha_tasks.model.platform import Webhook
from tests.certificates import HERE, Authority
from tests.plans import NOW

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"planted-secret-of-the-webhook"
EVENT = Event(
    seq=7, at=NOW, actor="h/a", verb="incident.opened", object="I-1", before=None, after={"state": "open"}
)
SCHEMA = json.loads((Path(ha_tasks.__file__).parent / "contract/event.schema.json").read_text())


class Endpoint(ThreadingHTTPServer):
    """Answers with ``status`` and keeps what it got."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.got = 204, []
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.port = self.server_address[1]

    def handle_error(self, *_: object) -> None:
        """A client that does not trust us goes away in the middle of the handshake."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers, body))
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", f"http://127.0.0.1:{self.server.port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    try:
        yield endpoint
    finally:
        endpoint.shutdown()
        endpoint.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(Endpoint()) as running:
        yield running


def sink(url: str, **options) -> WebhookSink:
    webhook = Webhook(name="pager", url=url, events=("*",))
    return WebhookSink(webhook, **{"secret": lambda: SECRET, "clock": SystemClock(), **options})


def verifier():
    """The example of the reference page, as it stands there."""
    page = (ROOT / "docs/reference/contract.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(example, names)  # noqa: S102 - our own page
    return names["genuine"]


def test_the_receiver_of_the_page_knows_a_genuine_event_and_no_other(endpoint: Endpoint):
    sink(f"http://127.0.0.1:{endpoint.port}/hooks?room=7").deliver(EVENT)

    ((path, headers, body),) = endpoint.got
    genuine = verifier()
    assert path == "/hooks?room=7"
    assert genuine(headers, body, [SECRET])
    assert genuine(headers, body, [b"the new one", SECRET])
    assert not genuine(headers, body, [b"the new one"])
    assert not genuine(headers, body + b" ", [SECRET])
    old = {**headers, "Ha-Tasks-Timestamp": str(int(time.time()) - 1000)}
    assert not genuine(old, body, [SECRET])


def test_the_body_is_the_event_and_the_headers_say_which(endpoint: Endpoint):
    sink(f"http://127.0.0.1:{endpoint.port}/").deliver(EVENT)

    ((_, headers, body),) = endpoint.got
    jsonschema.validate(json.loads(body), SCHEMA)
    assert json.loads(body)["seq"] == 7
    assert (headers["Ha-Tasks-Event"], headers["Ha-Tasks-Event-Id"]) == ("incident.opened", "7")
    assert SECRET not in str(headers).encode() + body


@pytest.mark.parametrize(
    ("status", "told"), [(500, "HTTP 500"), (404, "HTTP 404"), (302, "HTTP 302 (redirects are not followed)")]
)
def test_any_status_but_2xx_is_not_taken_and_nothing_is_followed(endpoint: Endpoint, status, told):
    endpoint.status = status
    with pytest.raises(NotDelivered) as caught:
        sink(f"http://127.0.0.1:{endpoint.port}/token-in-the-path").deliver(EVENT)

    assert str(caught.value) == told
    assert [path for path, *_ in endpoint.got] == ["/token-in-the-path"]


def test_an_endpoint_that_says_nothing_costs_its_deadline_and_no_more():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(NotDelivered, match="no answer in time"):
            sink(f"http://127.0.0.1:{silent.getsockname()[1]}/", deadline_s=0.3).deliver(EVENT)

        assert time.monotonic() - began < 1.0


def test_an_endpoint_that_drips_costs_its_deadline_and_no_more():
    """A byte now and then keeps every socket's own timeout from passing."""
    with socket.create_server(("127.0.0.1", 0)) as slow:
        ended = threading.Event()

        def drip() -> None:
            client, _ = slow.accept()
            while not ended.wait(0.05):
                try:
                    client.sendall(b"H")
                except OSError:
                    break
            client.close()

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(NotDelivered):
            sink(f"http://127.0.0.1:{slow.getsockname()[1]}/", deadline_s=0.5).deliver(EVENT)
        took_s = time.monotonic() - began
        ended.set()
        thread.join(5)

    assert took_s < 1.5


def test_nobody_there_and_no_http_are_not_taken(endpoint: Endpoint):
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    with pytest.raises(NotDelivered, match="connection refused"):
        sink(f"http://127.0.0.1:{free}/").deliver(EVENT)


def test_a_certificate_is_verified(tmp_path: Path):
    authority = Authority(tmp_path)
    pair = authority.issue("here", *HERE)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)
    trusting = ssl.create_default_context(cafile=str(authority.pem))
    with serving(Endpoint(tls)) as endpoint:
        url = f"https://localhost:{endpoint.port}/"
        sink(url, trust=trusting).deliver(EVENT)
        with pytest.raises(NotDelivered, match="certificate is not trusted"):
            sink(url).deliver(EVENT)

    assert len(endpoint.got) == 1


def test_a_certificate_of_another_name_is_not_trusted(tmp_path: Path):
    authority = Authority(tmp_path)
    pair = authority.issue("elsewhere", "DNS:elsewhere.example.org")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)
    trusting = ssl.create_default_context(cafile=str(authority.pem))
    with serving(Endpoint(tls)) as endpoint, pytest.raises(NotDelivered, match="certificate is not trusted"):
        sink(f"https://localhost:{endpoint.port}/", trust=trusting).deliver(EVENT)
