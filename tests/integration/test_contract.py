"""Other services ask real workers for recoveries: from a bare environment, and by our client."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection, Exchange, Queue

from ha_tasks.client import BrokerUnreachable, DeadlineExceeded, RecoveryClient
from ha_tasks.errors import NotDelivered
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.exchange import KEPT_ON_REDIS, ExchangeSink
from tests.integration import bare_environment
from tests.integration.contract_home import (
    WEBHOOK_SECRET,
    ContractHome,
    behind_haproxy,
    make_home,
    until,
)
from tests.integration.test_webhooks import EVENT, Endpoint, serving, verifier
from tests.rabbitmq_server import PASSWORD as RABBIT_PASSWORD
from tests.rabbitmq_server import rabbitmq_server
from tests.valkey_server import PASSWORD, ValkeyServer, valkey_server

ASK = """\
import json
import sys
from celery import Celery

url, key = sys.argv[1:]
app = Celery(broker=url, backend="rpc://")
wish = dict(service="web", kind="restart", scope="web1", reason="trial", requested_by="bare")
body = dict(v=1, idempotency_key=key, **wish)
where = dict(queue="recovery", declare=[])
asked = app.send_task("ha.recovery.request", kwargs=body, **where)
print(json.dumps(asked.get(timeout=10)))
status = app.send_task("ha.recovery.status", kwargs=dict(v=1, idempotency_key=key), **where)
print(json.dumps(status.get(timeout=10)))
try:
    import ha_tasks
except ImportError:
    print(json.dumps("no ha_tasks here"))
"""
WISH = {"service": "web", "kind": "restart", "scope": "web1", "reason": "trial", "requested_by": "tests"}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    (tmp_path / "valkey").mkdir()
    with valkey_server(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, valkey: ValkeyServer) -> Iterator[ContractHome]:
    with behind_haproxy(tmp_path / "edge") as (ports, edge):
        made = make_home(tmp_path / "home", valkey.url, PASSWORD, ports, edge)
        yield made
        made.store.dispose()


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_environment.make(tmp_path_factory.mktemp("bare"))


def asked_from_outside(python: Path, url: str, where: Path) -> list:
    script = where / "ask.py"
    script.write_text(ASK)
    done = subprocess.run(
        [str(python), str(script), url, "bare-key-1"],
        capture_output=True,
        text=True,
        timeout=40,
        cwd=where,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_bare_environment_with_only_celery_asks_and_reads_the_status(
    home: ContractHome, valkey: ValkeyServer, bare_python: Path, tmp_path: Path
):
    with home.worker(), RecoveryClient(valkey.secret_url) as client:
        answer, status, stranger = asked_from_outside(bare_python, valkey.secret_url, tmp_path)
        end = client.wait(answer["run"], within_s=10)

    assert stranger == "no ha_tasks here"
    assert (answer["state"], answer["duplicate"], answer["refused"]) == ("pending", False, None)
    assert status["run"] == answer["run"]
    assert (end["state"], end["playbook"]) == ("succeeded", "web-again")
    assert [run.requested_by for run in home.store.journal.recent()] == ["bare"]
    log = (home.path / "worker.log").read_text()
    assert PASSWORD not in log + json.dumps([answer, status, end])


@pytest.mark.needs("rabbitmq")
def test_the_same_on_rabbitmq(tmp_path: Path, bare_python: Path):
    (tmp_path / "rabbit").mkdir()
    with rabbitmq_server(tmp_path / "rabbit") as rabbit, behind_haproxy(tmp_path / "edge") as (ports, edge):
        home = make_home(tmp_path / "home", rabbit.url, RABBIT_PASSWORD, ports, edge)
        early = RecoveryClient(rabbit.secret_url)
        with pytest.raises(BrokerUnreachable, match="start the workers"):
            early.request(**WISH)
        with home.worker(), early as client:
            answer, status, _ = asked_from_outside(bare_python, rabbit.secret_url, tmp_path)
            again = client.request(**WISH | {"requested_by": "bare"}, idempotency_key="bare-key-1")
            end = client.wait("bare-key-1", within_s=10)
        home.store.dispose()

    assert (answer["state"], status["run"]) == ("pending", answer["run"])
    assert again.sent
    assert (end["state"], end["run"]) == ("succeeded", answer["run"])
    assert len(home.store.journal.recent()) == 1


def test_enqueueing_while_the_broker_is_down_takes_under_a_second_and_happens_once_after_its_return(
    home: ContractHome, valkey: ValkeyServer, tmp_path: Path
):
    valkey.stop()
    with RecoveryClient(valkey.secret_url, spool=tmp_path / "spool") as client:
        took = []
        for _ in range(3):
            began = time.monotonic()
            receipt = client.request(**WISH, idempotency_key="while-down-1")
            took.append(time.monotonic() - began)
            assert not receipt.sent
        spooled = client.status("while-down-1")
        valkey.start()
        with home.worker():
            end = client.wait("while-down-1", within_s=15)

    assert max(took) < 1.0
    assert spooled["state"] == "spooled"
    assert end["state"] == "succeeded"
    assert len(home.store.journal.recent()) == 1
    assert list((tmp_path / "spool").glob("*.json")) == []


def test_a_frozen_broker_costs_under_a_second_and_is_sent_to_when_it_wakes(
    home: ContractHome, valkey: ValkeyServer, tmp_path: Path
):
    with RecoveryClient(valkey.secret_url, spool=tmp_path / "spool") as client:
        valkey.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        receipt = client.request(**WISH, idempotency_key="while-frozen-1")
        took_s = time.monotonic() - began
        valkey.process.send_signal(signal.SIGCONT)
        until(lambda: valkey.client().llen("recovery"), within_s=8, what="it is sent")
        until(lambda: not list((tmp_path / "spool").glob("*.json")), within_s=8, what="the spool is empty")

    assert took_s < 1.0
    assert not receipt.sent


def test_without_a_spool_the_caller_is_told_within_a_second(valkey: ValkeyServer):
    client = RecoveryClient(valkey.secret_url)
    for trouble in (lambda: valkey.process.send_signal(signal.SIGSTOP), valkey.stop):
        trouble()
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable) as caught:
            client.request(**WISH)

        assert time.monotonic() - began < 1.0
        assert PASSWORD not in str(caught.value)


def test_a_status_that_nobody_answers_is_unreachable_and_a_wait_says_so(valkey: ValkeyServer):
    client = RecoveryClient(valkey.secret_url)

    with pytest.raises(BrokerUnreachable, match="no worker has answered"):
        client.status("never-asked-1", timeout_s=0.5)
    with pytest.raises(DeadlineExceeded, match="never-asked-1 has not ended within"):
        client.wait("never-asked-1", within_s=0.5)
    assert valkey.client().keys("ha.reply.*") == []


def test_a_store_that_is_away_delays_a_request_and_loses_none(
    home: ContractHome, valkey: ValkeyServer, tmp_path: Path
):
    store, aside = home.path / "ha.db", home.path / "aside.db"
    with home.worker(), RecoveryClient(valkey.secret_url) as client:
        assert client.status("before-it-goes")["state"] == "unknown"
        store.rename(aside)
        client.request(**WISH, idempotency_key="store-away-1")
        log = home.path / "worker.log"
        until(lambda: "retry" in log.read_text().lower(), within_s=10, what="the worker tries again")
        aside.rename(store)
        end = client.wait("store-away-1", within_s=15)

    assert end["state"] == "succeeded"
    assert len(home.store.journal.recent()) == 1


def verbs_of(endpoint: Endpoint) -> list[str]:
    return [headers["Ha-Tasks-Event"] for _, headers, _ in endpoint.got]


def test_events_reach_a_webhook_and_whoever_listens_on_the_exchange(home: ContractHome, valkey: ValkeyServer):
    with serving(Endpoint()) as endpoint, Connection(valkey.secret_url) as listener:
        home.add_webhook(f"http://127.0.0.1:{endpoint.port}/hook")
        queue = listener.SimpleQueue(
            Queue("listener", Exchange("ha.events", type="topic"), routing_key="run.*", auto_delete=True)
        )
        with home.worker(), RecoveryClient(valkey.secret_url) as client:
            home.publish_events(valkey.secret_url)
            until(lambda: len(home.store.cursors.all()) == 2, within_s=5, what="both are known")
            client.request(**WISH, idempotency_key="with-events-1")
            client.wait("with-events-1", within_s=15)
            # The incident is resolved a moment after its run has ended.
            until(lambda: not home.store.incidents.current(), within_s=5, what="it is resolved")
            home.publish_events(valkey.secret_url)
            heard = []
            while "run.succeeded" not in [event["verb"] for event in heard]:
                message = queue.get(timeout=5)
                heard.append(message.payload)
                message.ack()
            until(lambda: "incident.resolved" in verbs_of(endpoint), within_s=5, what="all is told")

    told = [json.loads(body) for _, _, body in endpoint.got]
    assert verbs_of(endpoint)[0] == "incident.opened"
    assert [event["seq"] for event in told] == sorted({event["seq"] for event in told})
    assert {event["verb"].partition(".")[0] for event in heard} == {"run"}
    assert all(verifier()(headers, body, [WEBHOOK_SECRET]) for _, headers, body in endpoint.got)
    assert WEBHOOK_SECRET.decode() not in (home.path / "worker.log").read_text()


def test_a_listener_on_redis_that_never_reads_does_not_fill_the_broker(valkey: ValkeyServer):
    app = make_app(valkey.secret_url)
    with Connection(valkey.secret_url) as connection:
        Queue("never-read", Exchange("ha.events", type="topic"), routing_key="#")(connection).declare()
    valkey.client().lpush("never-read", *["old"] * (KEPT_ON_REDIS + 5))

    sink = ExchangeSink(app)
    sink.deliver(EVENT)
    sink.close()

    assert valkey.client().llen("never-read") == KEPT_ON_REDIS
    assert b"incident.opened" in valkey.client().lindex("never-read", 0)


def test_an_exchange_whose_broker_is_away_says_so_and_goes_on_when_it_is_back(valkey: ValkeyServer):
    sink = ExchangeSink(make_app(valkey.secret_url))
    sink.deliver(EVENT)
    valkey.stop()
    with pytest.raises(NotDelivered) as caught:
        sink.deliver(EVENT)
    assert PASSWORD not in str(caught.value)
    valkey.start()

    sink.deliver(EVENT)
    sink.close()
