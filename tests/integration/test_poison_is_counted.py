"""What a worker has put aside becomes a count in the ledger, with its next heartbeat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.signals import heartbeat_sent, worker_shutdown

from ha_tasks.names import Counter, PoisonReason
from ha_tasks.tasks.quarantine import TALLY, poison
from tests.integration.sidecar_home import make_home
from tests.servers import free_port
from workers.poison import count_poison


@pytest.fixture
def counting() -> Iterator[None]:
    """As in a worker, and afterwards as if nothing had been."""
    count_poison()
    yield
    for signal, uid in ((heartbeat_sent, "ha_tasks.poison"), (worker_shutdown, "ha_tasks.poison.end")):
        signal.disconnect(dispatch_uid=uid)
    TALLY.connect(lambda found: None)
    TALLY.flush()


@pytest.mark.parametrize("moment", [heartbeat_sent, worker_shutdown])
def test_what_was_put_aside_is_counted_by_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counting: None, moment: object
) -> None:
    store = make_home(tmp_path, free_port())
    monkeypatch.setenv("HA_TASKS_HOME", str(tmp_path))
    for _ in range(3):
        TALLY.add(poison(PoisonReason.HUGE, "recovery", b"x"))

    moment.send(sender=None)  # type: ignore[attr-defined]

    counted = {(s.name, *s.labels.values()): s.value for s in store.ledger.series()}
    store.dispose()
    assert counted[Counter.POISON, "huge"] == 3
