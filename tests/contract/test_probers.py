"""One contract for probers: the fake, and HTTP, Redis and PostgreSQL with real servers."""

from __future__ import annotations

import http.server
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.http_probe import HttpProber
from ha_tasks.adapters.postgres_probe import PostgresProber
from ha_tasks.adapters.redis_probe import RedisProber
from ha_tasks.embedded.binaries import resolve
from ha_tasks.model.platform import Check, Instance, PostgresSettings, Role, Service, ServiceKind
from ha_tasks.model.probe import OutcomeKind, Target
from ha_tasks.ports.probes import Prober
from tests.fakes.probes import FakeProber
from tests.scripted_server import hang, scripted
from tests.servers import PostgresServer, free_port

VANTAGE = "host/probe-a"
TIMEOUT_S = 0.3


@dataclass
class Scene:
    """A prober and the address of an instance that is well."""

    prober: Prober
    kind: ServiceKind
    well: str

    def service(self, **addresses: str) -> Service:
        instances = tuple(
            Instance(name=name, service="s", host="h", address=address, role=Role.ACTIVE)
            for name, address in addresses.items()
        )
        return Service(
            name="s",
            kind=self.kind,
            instances=instances,
            check=Check(path="/healthz", timeout_s=TIMEOUT_S),
            postgres=PostgresSettings(database="postgres", user="postgres"),
        )


class Page(http.server.BaseHTTPRequestHandler):
    """200 at /healthz, 404 elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def cache() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [str(resolve("valkey").path), "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    yield f"127.0.0.1:{port}"
    process.kill()
    process.wait(timeout=10)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> str:
    return f"127.0.0.1:{postgres_server.port}"


def _fake() -> Prober:
    kinds = {"silent": OutcomeKind.TIMEOUT, "gone": OutcomeKind.REFUSED}
    return FakeProber(SYSTEM_CLOCK, vantage=VANTAGE, kinds=kinds)


PROBERS: Mapping[str, tuple[ServiceKind, str, Callable[[], Prober]]] = {
    "fake": (ServiceKind.HTTP, "web", _fake),
    "http": (ServiceKind.HTTP, "web", lambda: HttpProber(vantage=VANTAGE, clock=SYSTEM_CLOCK)),
    "redis": (ServiceKind.REDIS, "cache", lambda: RedisProber(vantage=VANTAGE, clock=SYSTEM_CLOCK)),
    "postgres": (
        ServiceKind.POSTGRES,
        "database",
        lambda: PostgresProber(password=lambda _: None, agents=None, vantage=VANTAGE, clock=SYSTEM_CLOCK),
    ),
}


@pytest.fixture(params=PROBERS)
def scene(request: pytest.FixtureRequest) -> Scene:
    kind, server, make = PROBERS[request.param]
    found = Scene(prober=make(), kind=kind, well=request.getfixturevalue(server))
    deadline = time.monotonic() + 5
    service = found.service(well=found.well)
    while not found.prober.probe(service, service.instances)[0].ok:
        assert time.monotonic() < deadline
    return found


def test_what_is_well_is_ok_with_its_vantage_and_times(scene: Scene) -> None:
    service = scene.service(well=scene.well)
    before = datetime.now(UTC)

    (outcome,) = scene.prober.probe(service, service.instances)

    assert outcome.kind is OutcomeKind.OK
    assert (outcome.vantage, outcome.probe, outcome.detail) == (VANTAGE, str(scene.kind), "")
    assert outcome.target == Target(service="s", instance="well")
    assert before <= outcome.sent_at <= outcome.known_at <= datetime.now(UTC)
    assert 0 <= outcome.rtt_s < TIMEOUT_S


def test_a_closed_port_is_refused(scene: Scene) -> None:
    service = scene.service(gone=f"127.0.0.1:{free_port()}")

    (outcome,) = scene.prober.probe(service, service.instances)

    assert outcome.kind is OutcomeKind.REFUSED
    assert outcome.detail


def test_instances_are_probed_side_by_side_each_by_its_deadline(scene: Scene) -> None:
    with scripted(hang) as silent:
        gone = f"127.0.0.1:{free_port()}"
        service = scene.service(silent=silent, well=scene.well, gone=gone)
        twice = [*service.instances, *service.instances]
        begun = time.monotonic()
        outcomes = scene.prober.probe(service, twice)
        took_s = time.monotonic() - begun

    kinds = [o.kind for o in outcomes]
    assert kinds == [OutcomeKind.TIMEOUT, OutcomeKind.OK, OutcomeKind.REFUSED] * 2
    assert [o.target.instance for o in outcomes] == ["silent", "well", "gone"] * 2
    assert took_s < TIMEOUT_S + 0.2


def test_no_instance_gives_no_outcome(scene: Scene) -> None:
    assert scene.prober.probe(scene.service(), []) == []


def test_what_is_closed_while_it_is_asked_never_raises(scene: Scene) -> None:
    def hang_up(client: object, over: object) -> None:
        """Says nothing."""

    with scripted(hang_up) as address:
        service = scene.service(silent=address)
        (outcome,) = scene.prober.probe(service, service.instances)

    assert not outcome.ok
