"""The latest look at the system's health, in memory."""

from __future__ import annotations

from datetime import datetime
from threading import RLock

from ha_tasks.model.plain import Json
from tests.fakes.locked import one_at_a_time, plain


class FakeHealthBook:
    """See ports/repositories.py."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.kept: tuple[datetime, Json] | None = None

    @one_at_a_time
    def put(self, body: Json, at: datetime) -> None:
        if self.kept is None or self.kept[0] <= at:
            self.kept = (at, plain(body))

    @one_at_a_time
    def latest(self) -> tuple[datetime, Json] | None:
        return self.kept
