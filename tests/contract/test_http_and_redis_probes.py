"""What HTTP and Redis instances do when they are half broken, and what a probe makes of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.http_probe import HttpProber
from ha_tasks.adapters.redis_probe import RedisProber
from ha_tasks.embedded.binaries import resolve
from ha_tasks.model.platform import Check, Instance, Role, Service, ServiceKind
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from tests.scripted_server import Script, say, scripted
from tests.servers import free_port

TIMEOUT_S = 0.3
PASSWORD = "only for this test"


def service(kind: ServiceKind, address: str, expect_status: int = 200) -> Service:
    instance = Instance(name="one", service="s", host="h", address=address, role=Role.ACTIVE)
    check = Check(path="/healthz", expect_status=expect_status, timeout_s=TIMEOUT_S)
    return Service(name="s", kind=kind, instances=(instance,), check=check)


def http(address: str, expect_status: int = 200) -> ProbeOutcome:
    found = service(ServiceKind.HTTP, address, expect_status)
    return HttpProber(vantage="h/p", clock=SYSTEM_CLOCK).probe(found, found.instances)[0]


def redis(address: str, password: str | None = None) -> ProbeOutcome:
    found = service(ServiceKind.REDIS, address)
    prober = RedisProber(vantage="h/p", clock=SYSTEM_CLOCK, password=lambda _: password)
    return prober.probe(found, found.instances)[0]


@pytest.mark.parametrize(
    ("script", "kind", "detail"),
    [
        pytest.param(say(b"HTTP/1.1 503 Busy\r\n\r\n"), "error", "HTTP 503, not 200", id="other status"),
        pytest.param(say(b"HTTP/1.0 200 OK\r\n\r\nfine"), "ok", "", id="until it closes"),
        pytest.param(
            say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            "ok",
            "",
            id="in chunks",
        ),
        pytest.param(
            say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfine"),
            "error",
            "5 bytes of the answer are missing",
            id="cut off",
        ),
        pytest.param(say(b"-ERR unknown command\r\n"), "error", "not HTTP: BadStatusLine", id="not HTTP"),
        pytest.param(say(b""), "error", "not HTTP: RemoteDisconnected", id="hung up"),
        pytest.param(
            say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", every_s=5), "timeout", "", id="body hangs"
        ),
        pytest.param(say(*(b"H" for _ in range(50)), every_s=0.05), "timeout", "", id="drip by drip"),
    ],
)
def test_an_http_answer_counts_when_it_is_complete_and_in_time(
    script: Script, kind: str, detail: str
) -> None:
    begun = time.monotonic()
    with scripted(script) as address:
        outcome = http(address)
        took_s = time.monotonic() - begun

    assert outcome.kind is OutcomeKind(kind)
    assert detail in outcome.detail
    assert took_s < TIMEOUT_S + 0.2


def test_another_status_may_be_the_expected_one() -> None:
    with scripted(say(b"HTTP/1.1 204 No Content\r\n\r\n")) as address:
        assert http(address, expect_status=204).ok


@pytest.mark.parametrize(
    ("script", "kind", "detail"),
    [
        pytest.param(say(b"+PONG\r\n"), "ok", "", id="pong"),
        pytest.param(say(b"-LOADING Redis is loading\r\n"), "error", "-LOADING", id="loading"),
        pytest.param(say(b"+OK\r\n"), "error", "it did not answer PONG", id="something else"),
        pytest.param(say(b""), "error", "it hung up", id="hung up"),
        pytest.param(say(*(b"+" for _ in range(50)), every_s=0.05), "timeout", "", id="drip by drip"),
    ],
)
def test_a_redis_answer_counts_when_it_is_pong(script: Script, kind: str, detail: str) -> None:
    with scripted(script) as address:
        outcome = redis(address)

    assert outcome.kind is OutcomeKind(kind)
    assert detail in outcome.detail


@pytest.fixture(scope="module")
def locked_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server that wants a password, from its configuration file."""
    port, file = free_port(), tmp_path_factory.mktemp("cache") / "valkey.conf"
    file.write_text(f'port {port}\nbind 127.0.0.1\nsave ""\nrequirepass "{PASSWORD}"\n')
    process = _started(file)
    address = f"127.0.0.1:{port}"
    deadline = time.monotonic() + 5
    while redis(address).kind is not OutcomeKind.ERROR:
        assert time.monotonic() < deadline
    yield address
    process.kill()
    process.wait(timeout=10)


def _started(file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(resolve("valkey").path), str(file)], stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("password", "kind", "detail"),
    [(PASSWORD, "ok", ""), ("wrong", "error", "-WRONGPASS"), (None, "error", "-NOAUTH")],
)
def test_the_password_is_given_and_never_repeated(
    locked_cache: str, password: str | None, kind: str, detail: str
) -> None:
    outcome = redis(locked_cache, password)

    assert outcome.kind is OutcomeKind(kind)
    assert outcome.detail.startswith(detail)
    assert PASSWORD not in repr(outcome)
