"""The client without a broker: what it imports, what it refuses, and its spool."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ha_tasks.client import BrokerUnreachable, IdempotencyConflict, RecoveryClient, SpoolFull, UsageError
from ha_tasks.client.door import BrokerDoor, _message
from ha_tasks.client.recovery_client import _within
from ha_tasks.client.spool import Spool
from ha_tasks.model.request import RecoveryRequest, RequestKind

NOWHERE = "redis://:planted-secret@127.0.0.1:1/0"
HEAVY = {"celery", "kombu", "redis", "amqp", "sqlalchemy", "psycopg", "pydantic", "click", "ha_tasks.store"}
IMPORT_WITHIN_S = 1.0
"""0.05 s on the machine of the figures; room for one that is busy with other tests."""


def asked(key: str = "shop-4711", **changes) -> RecoveryRequest:
    wish = {"service": "web", "kind": RequestKind.RESTART, "reason": "trial", "requested_by": "shop"}
    return RecoveryRequest(**{**wish, "idempotency_key": key, **changes})


def wish(**changes):
    return {"service": "web", "kind": "restart", "reason": "trial", "requested_by": "shop", **changes}


def test_the_module_imports_nothing_heavy_and_quickly():
    code = (
        "import sys, time; began = time.perf_counter(); import ha_tasks.client; "
        "print(time.perf_counter() - began, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    took_s, *modules = done.stdout.split()

    assert HEAVY & set(modules) == set()
    assert float(took_s) < IMPORT_WITHIN_S


def test_what_is_wrong_with_a_request_is_said_before_anything_is_sent(tmp_path: Path):
    client = RecoveryClient(NOWHERE, spool=tmp_path / "spool")

    with pytest.raises(UsageError) as caught:
        client.request(**wish(kind="explode", idempotency_key="short"))

    assert "kind: is none of the kinds" in str(caught.value)
    assert "idempotency_key: is no key" in str(caught.value)
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("url", ["http://:planted-secret@h/0", "nothing", "redis://h/0;amqp://h"])
def test_what_is_no_broker_is_refused_without_being_repeated(url: str):
    with pytest.raises(UsageError) as caught:
        RecoveryClient(url)

    assert "planted-secret" not in str(caught.value)


def test_a_spooled_request_is_closed_to_others_and_whole(tmp_path: Path):
    directory = tmp_path / "deep" / "spool"
    waiting = Spool(directory).put(asked(evidence={"seen": 3}))

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(waiting.path.stat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == [waiting.path.name]
    assert "shop-4711" not in waiting.path.name
    assert json.loads(waiting.path.read_text())["body"]["evidence"] == {"seen": 3}


def test_the_same_request_waits_once_and_another_of_its_key_is_a_conflict(tmp_path: Path):
    spool = Spool(tmp_path)
    first = spool.put(asked())

    assert spool.put(asked()) == first
    with pytest.raises(IdempotencyConflict):
        spool.put(asked(reason="another"))
    assert len(spool.waiting()) == 1


def test_a_spool_has_a_bound(tmp_path: Path):
    spool = Spool(tmp_path, most=2)
    spool.put(asked("key-number-1"))
    spool.put(asked("key-number-2"))

    with pytest.raises(SpoolFull):
        spool.put(asked("key-number-3"))
    assert spool.put(asked("key-number-2")).key == "key-number-2"


def test_what_waits_is_sent_oldest_first_and_strangers_are_left_alone(tmp_path: Path):
    spool = Spool(tmp_path)
    keys = [f"key-number-{number}" for number in (3, 1, 2)]
    for key in keys:
        spool.put(asked(key))
    (tmp_path / "notes.txt").write_text("none of ours")
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"since": 1, "body": {"v": 2}}'), ("d", '"x"')):
        (tmp_path / f"{name}.json").write_text(text)

    assert [waiting.key for waiting in spool.waiting()] == keys
    assert (tmp_path / "a.json").exists()


def test_a_request_survives_the_process_that_made_it(tmp_path: Path):
    with RecoveryClient(NOWHERE, spool=tmp_path) as client:
        receipt = client.request(**wish(idempotency_key="shop-4711"))

    assert not receipt.sent
    assert [waiting.key for waiting in Spool(tmp_path).waiting()] == ["shop-4711"]
    with RecoveryClient(NOWHERE, spool=tmp_path) as heir:
        assert heir.status("shop-4711")["state"] == "spooled"
        assert heir.flush(within_s=0.1) == 1


def test_a_request_whose_deadline_passed_in_the_spool_is_not_sent(tmp_path: Path):
    waiting = Spool(tmp_path).put(asked(deadline_s=0.01))
    assert not waiting.too_late(waiting.since + 0.005)
    assert waiting.too_late(time.time() + 1)

    with RecoveryClient(NOWHERE, spool=tmp_path) as client:
        assert client.flush() == 0

    assert Spool(tmp_path).waiting() == ()


def test_a_request_while_others_wait_behind_costs_no_second_attempt(tmp_path: Path):
    with RecoveryClient(NOWHERE, spool=tmp_path) as client:
        client.request(**wish(idempotency_key="key-number-1"))
        began = time.monotonic()
        client.request(**wish(idempotency_key="key-number-2"))

        assert time.monotonic() - began < 0.3
    assert len(Spool(tmp_path).waiting()) == 2


def test_an_error_names_the_broker_without_its_password():
    with pytest.raises(BrokerUnreachable) as caught:
        BrokerDoor(NOWHERE).send("ha.recovery.request", {})

    assert "127.0.0.1:1" in str(caught.value)
    assert "planted-secret" not in str(caught.value)


def test_what_takes_too_long_is_given_up_and_what_fails_is_raised_here():
    ended = threading.Event()
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=r"did not answer within 0\.1 s"):
        _within(0.1, lambda: ended.wait(5))
    ended.set()

    assert time.monotonic() - began < 1.0
    assert _within(1.0, lambda: None) is None
    with pytest.raises(ZeroDivisionError):
        _within(1.0, lambda: 1 // 0)


def test_two_messages_of_one_key_bear_one_id_and_show_neither_reason_nor_evidence():
    body = asked(reason="private words", evidence={"token": "planted-secret"}).to_json()
    first, again = (_message("ha.recovery.request", body) for _ in range(2))
    status = _message("ha.recovery.status", {"v": 1, "idempotency_key": "shop-4711"})

    assert first["headers"]["id"] == again["headers"]["id"] != status["headers"]["id"]
    assert "private" not in str(first["headers"])
    assert "planted-secret" not in str(first["headers"])
    assert "shop-4711" in first["headers"]["kwargsrepr"]
