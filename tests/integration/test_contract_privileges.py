"""The contract with the broker's shipped users: a service's own narrow login is enough."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from kombu import Connection, Exchange, Queue

from ha_tasks.client import RecoveryClient
from ha_tasks.embedded import secret_files, valkey
from ha_tasks.embedded.binaries import resolve
from tests.integration.contract_home import behind_haproxy, make_home, until
from tests.servers import free_port

USERS = (valkey.CONTROL_USER, valkey.REQUEST_USER)
AUDITOR = "only for this test"


@contextmanager
def guarded_broker(home: Path) -> Iterator[int]:
    """Port of a broker that has the shipped users; their passwords are files of ``home``."""
    port, conf = free_port(), home / "broker.conf"
    secret_files.ensure(home, USERS)
    files = {user: home / user for user in USERS}
    valkey.write_broker_conf(conf, port=port, directory=home / "data", password_files=files)
    with conf.open("a") as more:
        more.write(f'user auditor on &* ~* +@all ">{AUDITOR}"\n')
    server = subprocess.Popen(
        [resolve("valkey").path, conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: answers(port), within_s=5, what="the broker answers")
        yield port
    finally:
        server.kill()
        server.wait(5)


def auditor(port: int) -> redis.Redis:
    return redis.Redis(port=port, username="auditor", password=AUDITOR, socket_timeout=5)


def answers(port: int) -> bool:
    try:
        with auditor(port) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_a_service_with_its_own_narrow_login_asks_reads_and_listens(tmp_path: Path):
    (tmp_path / "broker").mkdir()
    with guarded_broker(tmp_path / "broker") as port, behind_haproxy(tmp_path / "edge") as (ports, edge):
        control, request = (secret_files.read(tmp_path / "broker" / user) for user in USERS)
        url = f"redis://{valkey.REQUEST_USER}:{request}@127.0.0.1:{port}/0"
        broker_url = f"redis://{valkey.CONTROL_USER}@127.0.0.1:{port}/0"
        home = make_home(tmp_path / "home", broker_url, control, ports, edge)
        with home.worker(), RecoveryClient(url) as client, Connection(url) as listener:
            queue = listener.SimpleQueue(
                Queue("ha.events.shop", Exchange("ha.events", type="topic"), routing_key="run.*"),
                no_ack=True,
            )
            home.publish_events(f"redis://{valkey.CONTROL_USER}:{control}@127.0.0.1:{port}/0")
            until(home.store.cursors.all, within_s=5, what="the exchange is known")
            receipt = client.request(
                service="web", kind="restart", scope="web1", reason="trial", requested_by="shop"
            )
            end = client.wait(receipt.idempotency_key, within_s=15)
            home.publish_events(f"redis://{valkey.CONTROL_USER}:{control}@127.0.0.1:{port}/0")
            heard = queue.get(timeout=5)
        home.store.dispose()
        with auditor(port) as client:
            denied = [f"{e['username']}: {e['reason']} {e['object']}" for e in client.acl_log()]

    assert end["state"] == "succeeded"
    assert heard.payload["verb"] == "run.created"
    assert denied == []
