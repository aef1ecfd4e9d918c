"""What lies outside, well and broken: URLs, ports, names, certificates, on real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.outside_check import OutsideCheck, certificate_examined
from ha_tasks.model.platform import External, ExternalKind
from ha_tasks.model.system_health import CAUTION, DOWN, WELL, Examined
from ha_tasks.model.tls import Tls
from tests.certificates import HERE, Authority
from tests.fakes.clock import START
from tests.scripted_server import hang, say, scripted
from tests.servers import free_port

TIMEOUT_S = 0.4


def external(kind: ExternalKind, target: str) -> External:
    return External(name="out", kind=kind, target=target, timeout_s=TIMEOUT_S, expires_within_days=1)


def examine(kind: ExternalKind, target: str) -> Examined:
    return OutsideCheck(SYSTEM_CLOCK).examine(external(kind, target))


def test_a_url_is_well_by_its_status():
    with scripted(say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as address:
        well = examine(ExternalKind.HTTP, f"http://{address}/healthz?deep=1")
    with scripted(say(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")) as address:
        ill = examine(ExternalKind.HTTP, f"http://{address}")

    assert (well.score, well.facts["seconds"] < TIMEOUT_S) == (WELL, True)
    assert (ill.score, ill.problem) == (DOWN, "HTTP 503, not 200")


@pytest.mark.parametrize("kind", [ExternalKind.HTTP, ExternalKind.TLS])
def test_one_that_hangs_is_down_within_its_time(kind):
    begun = time.monotonic()
    with scripted(hang) as address:
        found = examine(kind, f"http://{address}/" if kind is ExternalKind.HTTP else address)
        took_s = time.monotonic() - begun

    assert (found.score, found.problem) == (DOWN, "no answer in time")
    assert took_s < TIMEOUT_S + 0.5


def test_a_port_takes_connections_or_nobody_listens():
    with scripted(hang) as address:
        well = examine(ExternalKind.TCP, address)
    ill = examine(ExternalKind.TCP, f"127.0.0.1:{free_port()}")

    assert well.score == WELL
    assert (ill.score, ill.problem) == (DOWN, "nobody listens there: connection refused")
    assert ill.remedy.startswith("ask whoever runs 127.0.0.1:")


def test_a_remedy_of_one_s_own_is_shown():
    it = replace(external(ExternalKind.TCP, f"127.0.0.1:{free_port()}"), remedy="call the provider")

    assert OutsideCheck(SYSTEM_CLOCK).examine(it).remedy == "call the provider"


def test_a_low_tier_is_told_and_makes_nobody_ill():
    it = replace(external(ExternalKind.TCP, f"127.0.0.1:{free_port()}"), weight=0.5)

    assert OutsideCheck(SYSTEM_CLOCK).examine(it).score == CAUTION


def test_a_name_is_looked_up_within_its_time():
    well = examine(ExternalKind.DNS, "localhost")
    ill = examine(ExternalKind.DNS, "no-such-host.invalid")

    assert well.score == WELL
    assert set(well.facts["addresses"]) & {"127.0.0.1", "::1"}
    assert ill.score == DOWN
    assert "no-such-host.invalid" in ill.problem


@contextmanager
def tls_server(home: Path, authority: Authority, *names: str) -> Iterator[str]:
    """Answers each client with a page, over TLS."""
    pair = authority.issue("server", *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(client, server_side=True) as secure:
                if secure.recv(4096):
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_certificate_is_verified_and_its_end_told(tmp_path):
    authority = Authority(tmp_path)
    trusting = Tls(ca=str(authority.pem))
    check = OutsideCheck(SYSTEM_CLOCK)
    with tls_server(tmp_path, authority, *HERE) as address:
        it = replace(external(ExternalKind.TLS, address), timeout_s=3.0, tls=trusting)
        well = check.examine(it)
        soon = check.examine(replace(it, expires_within_days=7))
        stranger = check.examine(replace(it, tls=None))
        page = check.examine(replace(it, kind=ExternalKind.HTTP, target=f"https://{address}/"))
        careless = check.examine(replace(it, tls=Tls(verify=False)))

    assert well.score == page.score == careless.score == WELL
    assert 1.5 < well.facts["certificate_days"] <= 2.0
    assert "certificate_days" in page.facts
    assert soon.score == CAUTION
    assert soon.problem.startswith("its certificate ends in ")
    assert soon.remedy.startswith("have it renewed")
    assert stranger.score == DOWN
    assert "external.out.tls.ca" in stranger.problem


def test_a_certificate_of_another_name_is_told_so(tmp_path):
    authority = Authority(tmp_path)
    with tls_server(tmp_path, authority, "DNS:other.example.org") as address:
        it = replace(external(ExternalKind.TLS, address), timeout_s=3.0, tls=Tls(ca=str(authority.pem)))
        found = OutsideCheck(SYSTEM_CLOCK).examine(it)

    assert found.score == DOWN
    assert "TLS" in found.problem


def test_the_limit_of_days_is_exact():
    it = external(ExternalKind.TLS, "h:1")

    assert certificate_examined(it, START + timedelta(days=1), START).score == WELL
    assert certificate_examined(it, START + timedelta(days=1, seconds=-1), START).score == CAUTION
