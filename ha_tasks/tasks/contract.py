"""The tasks of the contract with other services: request, status, and telling events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from ha_tasks.bootstrap.contract import event_publisher, recovery_desk
from ha_tasks.errors import StoreUnreachable
from ha_tasks.model.plain import Json
from ha_tasks.names import TaskName
from ha_tasks.tasks.exchange import ExchangeSink
from ha_tasks.tasks.replies import reply
from ha_tasks.tasks.runtime import Runtime

LIMIT_S = 20
AGAIN_AFTER_S = 2
"""After a store that did not answer. Short: on Redis a waiting message is held by its worker."""


def register_contract(app: Celery, runtime: Runtime) -> None:
    """Adds the three tasks to the application."""
    request = _asking(app, lambda body: recovery_desk(runtime.system()).request(body))
    status = _asking(app, lambda body: recovery_desk(runtime.system()).status(body))
    # The store may be away for as long as it likes: the message waits for it, like the caller.
    _add(app, TaskName.RECOVERY_REQUEST, request, bind=True, max_retries=None)
    _add(app, TaskName.RECOVERY_STATUS, status, bind=True, max_retries=5)
    _add(app, TaskName.PUBLISH_EVENTS, _publish_events(app, runtime))


def _add(app: Celery, name: str, work: Callable[..., Json], **options: Any) -> None:
    options |= {"time_limit": LIMIT_S, "soft_time_limit": LIMIT_S - 5}
    decorate: Callable[..., Any] = app.task(name=str(name), shared=False, **options)
    decorate(work)


def _asking(app: Celery, desk: Callable[[Json], Json]) -> Callable[..., Json]:
    def ask(self: Any, *args: Any, **body: Any) -> Json:
        """The desk's answer, also as a reply to a caller that waits for one. Keyword arguments only."""
        try:
            answer = desk({**body, **{f"argument {no}": None for no, _ in enumerate(args, start=1)}})
        except StoreUnreachable as error:
            raise self.retry(exc=error, countdown=AGAIN_AFTER_S) from error
        reply(app, self.request, answer)
        return answer

    return ask


def _publish_events(app: Celery, runtime: Runtime) -> Callable[[], Json]:
    exchange = ExchangeSink(app)

    def publish_events() -> Json:
        """Tells webhooks and exchange what they have not been told."""
        return event_publisher(runtime.system(), exchange).publish()

    return publish_events
