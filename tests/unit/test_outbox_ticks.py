"""Noting what the broker took: many messages at once, and nothing is lost by a store that is away."""

from __future__ import annotations

import threading

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.outbox_ticks import OutboxTicks
from ha_tasks.errors import StoreUnreachable
from ha_tasks.model.message import Message
from tests.integration.embedded_home import wait_until


class Book:
    """The part of a journal that is told."""

    def __init__(self) -> None:
        self.told: list[list[int]] = []
        self.failure: Exception | None = None
        self.failed = threading.Event()

    def sent(self, messages, now) -> None:
        if self.failure is not None:
            self.failed.set()
            raise self.failure
        self.told.append([message.id for message in messages])


def message(number: int) -> Message:
    return Message(task="ha.step.take_out", queue="recovery", kwargs={}, id=number)


def test_messages_that_are_sent_close_together_are_noted_together():
    book = Book()
    ticks = OutboxTicks(journal=book, clock=SystemClock())
    for number in range(5):
        ticks.sent(message(number))

    assert wait_until(lambda: book.told, 2)
    assert book.told == [[0, 1, 2, 3, 4]]


def test_a_store_that_is_away_costs_those_messages_and_no_later_one():
    book = Book()
    book.failure = StoreUnreachable("away")
    ticks = OutboxTicks(journal=book, clock=SystemClock())
    ticks.sent(message(1))
    assert book.failed.wait(2)
    book.failure = None
    ticks.sent(message(2))

    assert wait_until(lambda: book.told, 2)
    assert book.told == [[2]]
