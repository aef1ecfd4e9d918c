"""The Celery application: its configuration, its queues, what each message carries."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from celery.signals import before_task_publish

from ha_tasks import names
from ha_tasks.model.broker import BrokerAddress, broker_address
from ha_tasks.tasks import broker


def make_app(broker_url: str, queues: tuple[str, ...] = ()) -> Celery:
    """A Celery application on that broker. ``queues`` come beside the standing ones (``host.<name>``).

    ``broker_url`` is a broker address as one text, see model/broker.py.
    """
    app = Celery("ha_tasks", set_as_current=False, amqp="ha_tasks.tasks.connection:Amqp")
    app.conf.update(configuration(broker_address(broker_url), (*names.Queue, *queues)))
    before_task_publish.connect(stamp, weak=False, dispatch_uid="ha_tasks.stamp")
    return app


def configuration(address: BrokerAddress, queues: tuple[str, ...]) -> dict[str, Any]:
    """The settings and, beside each that is not obvious, why it is so."""
    return {
        **broker.settings(address),
        # Results live in the journal; a task's own answer is not kept.
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "result_backend": None,
        # JSON only: a pickled message is code from whoever can reach the broker.
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # Steps are idempotent and counted in the journal, so a lost worker's message may come again.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        "worker_prefetch_multiplier": 1,
        # True would lose the running tasks on Redis: they end REVOKED and are never delivered again.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # What no worker can take is put aside, with a record.
        "worker_consumer": "ha_tasks.tasks.consumer:QuarantiningConsumer",
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A message that cannot be handed over stays in the outbox; the sender must not wait.
        "task_publish_retry": False,
        # A name that nobody serves is an error here, not a queue that nobody reads.
        "task_create_missing_queues": False,
        "task_queues": [broker.queue(str(name), address.kind) for name in queues],
        "task_default_queue": str(names.Queue.RECOVERY),
        "task_default_exchange": "ha",
        "task_default_routing_key": str(names.Queue.RECOVERY),
        # Flower and the sidecar live on these.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "task_track_started": True,
        "worker_soft_shutdown_timeout": 10,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "beat_max_loop_interval": 1,
        "timezone": "UTC",
        "enable_utc": True,
    }


def stamp(
    headers: dict[str, Any] | None = None, properties: dict[str, Any] | None = None, **_: object
) -> None:
    """Stamps each message with the moment it was sent, so that its age in the queue can be told.

    Its end is told by the header ``expires`` alone: by the property RabbitMQ would put every stale probe
    into the dead-letter queue, where poison is looked for.
    """
    if headers is not None:
        headers["sent_at"] = time.time()
    if properties is not None:
        properties.pop("expiration", None)
