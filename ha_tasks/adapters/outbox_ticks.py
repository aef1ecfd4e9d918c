"""Notes what the broker took: a moment later, many messages at once, beside the steps."""

from __future__ import annotations

import threading

from ha_tasks.errors import StoreUnreachable
from ha_tasks.model.message import Message
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Journal

GATHER_S = 0.1
"""Well below the half second after which a message that nobody has ticked off is sent again."""


class OutboxTicks:
    """For a process that lives long. What it has not noted when it dies is sent again, which is harmless.

    Make it after a fork: its thread begins with the first message. Thread-safe.
    """

    def __init__(self, *, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[Message] = []
        self._thread: threading.Thread | None = None

    def sent(self, message: Message) -> None:
        """Returns at once."""
        with self._changed:
            self._waiting.append(message)
            if self._thread is None:
                self._thread = threading.Thread(target=self._note, name="outbox-ticks", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _note(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            self._clock.pause(GATHER_S)
            with self._changed:
                found, self._waiting = self._waiting, []
            try:
                self._journal.sent(found, self._clock.now())
            except StoreUnreachable:
                # They are swept and sent again once the store answers.
                continue
