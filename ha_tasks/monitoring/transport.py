"""Celery from the outside: who lives, by what the processes reported; what waits, by the broker itself.

No worker is asked: an inspect broadcast always takes its whole timeout, and a worker whose every
slot hangs still answers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client.metrics_core import Metric

from ha_tasks.monitoring.labels import LabelRegistry
from ha_tasks.monitoring.prometheus import Words, metric
from ha_tasks.names import DEAD_QUEUE, Queue
from ha_tasks.ports.ledger import Ledger, Worker
from ha_tasks.ports.queues import Queues
from ha_tasks.ports.repositories import ScheduleBook

WORKER_LIVES = timedelta(seconds=15)
"""Several heartbeats: a worker that was killed is no longer counted after that."""
WORKER_REMEMBERED = timedelta(hours=24)
"""So long its last heartbeat is still told, for an alert to see how old it is."""
MAX_WORKERS = 100
MAX_SCHEDULES = 60


def workers(ledger: Ledger, schedule: ScheduleBook, labels: LabelRegistry, now: datetime) -> Iterator[Metric]:
    """The part ``workers``. Raises StoreUnreachable."""
    known = ledger.workers(now - WORKER_REMEMBERED)
    consumers = [worker for worker in known if worker.queues]
    tick = schedule.last_tick()
    yield metric("ha_celery_workers").family(_consumed(consumers, labels, now))
    yield metric("ha_celery_worker_heartbeat_timestamp_seconds").family(
        _latest({worker.name: worker.heartbeat_at for worker in consumers}, MAX_WORKERS)
    )
    yield metric("ha_beat_last_tick_timestamp_seconds").family({(): tick.timestamp()} if tick else {})
    yield metric("ha_schedule_last_success_timestamp_seconds").family(
        _latest(schedule.successes(), MAX_SCHEDULES)
    )


def backlogs(queues: Queues, now: datetime) -> Iterator[Metric]:
    """The part ``broker``. Raises BrokerUnreachable."""
    found = queues.backlogs([*(queue.value for queue in Queue), DEAD_QUEUE])
    ages: dict[Words, float] = {}
    for queue, backlog in found.items():
        if backlog.oldest_sent_at is not None:
            ages[queue,] = max(0.0, (now - backlog.oldest_sent_at).total_seconds())
        elif not backlog.waiting and queue != DEAD_QUEUE:
            ages[queue,] = 0.0
    yield metric("ha_celery_queue_length").family({(q,): float(b.waiting) for q, b in found.items()})
    yield metric("ha_celery_queue_unacked").family(
        {(q,): float(b.unacked) for q, b in found.items() if b.unacked is not None}
    )
    yield metric("ha_celery_queue_oldest_age_seconds").family(ages)


def _consumed(consumers: Iterable[Worker], labels: LabelRegistry, now: datetime) -> dict[Words, float]:
    """Live workers per queue; that there are none is a number too."""
    names: dict[Words, set[str]] = {(queue.value,): set() for queue in Queue}
    for worker in consumers:
        if now - worker.heartbeat_at <= WORKER_LIVES:
            for queue in worker.queues:
                names.setdefault((labels.value("queue", queue),), set()).add(worker.name)
    return {words: float(len(found)) for words, found in names.items()}


def _latest(moments: Mapping[str, datetime], limit: int) -> dict[Words, float]:
    """The newest as timestamps: names of workers and entries are few, but from no closed list."""
    newest = sorted(moments.items(), key=lambda named: named[1], reverse=True)[:limit]
    return {(name,): at.timestamp() for name, at in newest}
