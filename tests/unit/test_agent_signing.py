"""Signatures of requests and answers; the client's refusal to believe strangers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ha_tasks.adapters.agent_signing import (
    NONCE_HEADER,
    SIGNATURE_HEADER,
    SKEW_S,
    TIMESTAMP_HEADER,
    RequestGate,
    answer_is_genuine,
    signed_answer,
    signed_request,
)
from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.errors import AgentUnreachable
from ha_tasks.ports.host import Authority

KEY = b"sixteen bytes or more"
NOW = 1_800_000_000.0
REQUEST = {"method": "POST", "path": "/v1/nodes/pg1/fence", "body": b'{"epoch": 1}'}


def gate(now: float = NOW) -> RequestGate:
    return RequestGate(KEY, now=lambda: now)


def test_a_signed_request_is_taken_once():
    headers = signed_request(KEY, **REQUEST, now=lambda: NOW)
    it = gate()

    assert it.nonce_of(**REQUEST, headers=headers) == headers[NONCE_HEADER]
    assert it.nonce_of(**REQUEST, headers=headers) is None


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET"},
        {"path": "/v1/nodes/pg2/fence"},
        {"body": b'{"epoch": 2}'},
        {"headers": {TIMESTAMP_HEADER: f"{NOW + 1:.3f}"}},
        {"headers": {TIMESTAMP_HEADER: "soon"}},
        {"headers": {NONCE_HEADER: "0" * 32}},
        {"headers": {NONCE_HEADER: ""}},
        {"headers": {SIGNATURE_HEADER: ""}},
        {"headers": {SIGNATURE_HEADER: "é"}},
    ],
)
def test_a_request_that_was_changed_on_its_way_is_refused(change):
    headers = signed_request(KEY, **REQUEST, now=lambda: NOW) | change.pop("headers", {})

    assert gate().nonce_of(**{**REQUEST, **change}, headers=headers) is None


@pytest.mark.parametrize(("late_s", "taken"), [(0, True), (SKEW_S, True), (SKEW_S + 1, False), (-31, False)])
def test_a_request_is_fresh_for_thirty_seconds(late_s, taken):
    headers = signed_request(KEY, **REQUEST, now=lambda: NOW)

    assert (gate(NOW + late_s).nonce_of(**REQUEST, headers=headers) is not None) is taken


def test_a_request_signed_with_another_key_is_refused():
    headers = signed_request(b"another key altogether", **REQUEST, now=lambda: NOW)

    assert gate().nonce_of(**REQUEST, headers=headers) is None


@pytest.mark.parametrize("change", [{"nonce": "b"}, {"status": 409}, {"body": b"[]"}])
def test_an_answer_belongs_to_one_request(change):
    answer = {"nonce": "a", "status": 200, "body": b"{}"}
    signature = signed_answer(KEY, **answer)[SIGNATURE_HEADER]

    assert answer_is_genuine(KEY, **answer, signature=signature)
    assert not answer_is_genuine(KEY, **{**answer, **change}, signature=signature)


@contextmanager
def stranger(reply: bytes, *, byte_every_s: float = 0.0) -> Iterator[str]:
    """Somebody who listens where an agent was, and says ``reply`` to everything."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            try:
                for piece in [reply[i : i + 1] for i in range(len(reply))] if byte_every_s else [reply]:
                    connection.sendall(piece)
                    time.sleep(byte_every_s)
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        thread.join(10)
        server.close()


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.0 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (http("200 OK", b'{"timeline": 1, "lsn": 1}'), "does not have the key"),
        (http("200 OK", b'{"timeline": 1, "lsn": 1}', f"{SIGNATURE_HEADER}: {'0' * 64}"), "have the key"),
        (http("401 Unauthorized", b"{}"), "does not take our signature"),
        (http("409 Conflict", b'{"reason": "agent_refused"}'), "does not have the key"),
        (b"220 mail.example.org ESMTP\r\n", "did not answer"),
        (b"", "did not answer"),
    ],
)
def test_a_stranger_on_the_port_of_an_agent_confirms_nothing(reply, said):
    with stranger(reply) as url:
        agents = HostAgents(urls={"pg1": url}, hosts={"pg1": "pg1"}, key=KEY)

        with pytest.raises(AgentUnreachable, match=said):
            agents.revoke("pg1", Authority(epoch=1, fence=1), timeout_s=2.0)


def test_an_agent_that_answers_byte_by_byte_does_not_outstay_the_deadline():
    with stranger(http("200 OK", b"{}")[:20], byte_every_s=0.05) as url:
        agents = HostAgents(urls={"pg1": url}, hosts={"pg1": "pg1"}, key=KEY)
        began = time.monotonic()
        with pytest.raises(AgentUnreachable):
            agents.status("pg1", timeout_s=0.3)

    assert time.monotonic() - began < 2.0
