"""Sending: implemented by the Celery side and handed to bootstrap."""

from __future__ import annotations

from typing import Protocol

from ha_tasks.model.message import Message


class Dispatch(Protocol):
    """Hands messages to the broker."""

    def send(self, message: Message) -> None:
        """Raises BrokerUnreachable within a second; the message stays in the outbox then."""
        ...
