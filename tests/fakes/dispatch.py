"""A broker in memory; it can be away."""

from __future__ import annotations

from ha_tasks.errors import BrokerUnreachable
from ha_tasks.model.message import Message


class FakeDispatch:
    """See ports/dispatch.py."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.away = False

    def send(self, message: Message) -> None:
        if self.away:
            raise BrokerUnreachable("the broker is away")
        self.messages.append(message)

    def take(self) -> Message:
        """The oldest message."""
        return self.messages.pop(0)
