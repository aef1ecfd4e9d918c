"""What HTTP and Redis instances do when they are half broken, and what a probe makes of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis as driver

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.http_probe import HttpProber
from ha_tasks.adapters.redis_depth import RedisDepth
from ha_tasks.adapters.redis_probe import RedisProber
from ha_tasks.embedded.binaries import resolve
from ha_tasks.errors import InventoryError
from ha_tasks.model.platform import Check, Instance, ManagedBy, Role, Service, ServiceKind
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from ha_tasks.model.system_health import Examined
from tests.scripted_server import Script, hang, say, scripted
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


def depth(address: str, password: str | None, managed_by: ManagedBy = ManagedBy.HA_TASKS) -> list[Examined]:
    found = replace(service(ServiceKind.REDIS, address), managed_by=managed_by)
    return list(RedisDepth(clock=SYSTEM_CLOCK, password=lambda _: password).examine(found, TIMEOUT_S))


def test_from_inside_a_cache_is_well_and_its_key_is_read_back(locked_cache: str) -> None:
    found = depth(locked_cache, PASSWORD)

    checks = ["connections", "memory", "replication", "persistence", "canary"]
    assert [each.check for each in found] == checks
    assert all(each.well for each in found), found
    assert found[0].facts["most"] > 0


def test_from_inside_a_cache_of_others_is_asked_and_not_written_to(locked_cache: str) -> None:
    found = depth(locked_cache, PASSWORD, ManagedBy.EXTERNAL)

    assert "canary" not in {each.check for each in found}


def test_from_inside_a_wrong_password_is_told_and_never_repeated(locked_cache: str) -> None:
    [found] = depth(locked_cache, "wrong one")

    assert (found.check, found.score) == ("info", 0.0)
    assert "WRONGPASS" in found.problem
    assert "wrong one" not in repr(found)


def test_from_inside_a_cache_that_refuses_writes_says_why(locked_cache: str) -> None:
    host, _, port = locked_cache.partition(":")
    with driver.Redis(host=host, port=int(port), password=PASSWORD) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            [ill] = [each for each in depth(locked_cache, PASSWORD) if not each.well]
        finally:
            client.config_set("min-replicas-to-write", 0)

    assert (ill.check, ill.score) == ("canary", 0.0)
    assert ill.problem.startswith("it refuses writes: NOREPLICAS")
    assert "a replica is missing" in ill.remedy


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (say(b""), "it hung up before it had answered"),
        (say(b"HTTP/1.1 400 No\r\n\r\n"), "it does not speak RESP"),
        (say(b"$100\r\nrole:master\r\n"), "it hung up in the middle of its answer"),
        (say(b"$99999999999\r\n"), "it does not speak RESP"),
        (hang, "timed out"),
    ],
)
def test_from_inside_what_answers_oddly_is_down_within_its_time(script: Script, problem: str) -> None:
    begun = time.monotonic()
    with scripted(script) as address:
        [found] = depth(address, None)
        took_s = time.monotonic() - begun

    assert (found.score, found.problem) == (0.0, f"it does not answer: {problem}")
    assert took_s < TIMEOUT_S + 0.5


def test_from_inside_a_password_that_cannot_be_read_is_told(locked_cache: str) -> None:
    def lost(_: Service) -> str:
        raise InventoryError("services.s.redis.password: secrets/cache does not exist")

    found = RedisDepth(clock=SYSTEM_CLOCK, password=lost).examine(
        service(ServiceKind.REDIS, locked_cache), 1.0
    )

    assert [(each.score, each.check) for each in found] == [(0.0, "info")]
    assert "secrets/cache does not exist" in found[0].problem
