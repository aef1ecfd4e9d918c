"""Sending through Celery, for ports/dispatch.py."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from ha_tasks.errors import BrokerUnreachable
from ha_tasks.model.message import Message


class CeleryDispatch:
    """Does not wait: what the broker does not take at once stays in the outbox."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(self, message: Message) -> None:
        """BrokerUnreachable when the broker does not take it."""
        try:
            self._app.send_task(
                message.task,
                kwargs=message.kwargs,
                queue=message.queue,
                retry=False,
                ignore_result=True,
            )
        except (OperationalError, OSError) as error:
            raise BrokerUnreachable(f"the broker did not take {message.task}: {error}") from error
