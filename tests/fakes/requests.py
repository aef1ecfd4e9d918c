"""The book of requests in a dictionary."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from threading import RLock
from typing import TYPE_CHECKING

from ha_tasks.model.plain import Json
from ha_tasks.ports.requests import KeptRequest, order_key

if TYPE_CHECKING:
    from tests.fakes.repositories import FakeJournal


class FakeRequestBook:
    """Looks for runs in the journal, as the real one does."""

    def __init__(self, journal: FakeJournal) -> None:
        self.lock = RLock()
        self.journal = journal
        self.kept: dict[str, KeptRequest] = {}

    def receive(
        self, *, key: str, sha256: str, body: Json, requested_by: str, now: datetime
    ) -> tuple[KeptRequest, bool]:
        with self.lock:
            new = key not in self.kept
            if new:
                self.kept[key] = KeptRequest(
                    key=key,
                    sha256=sha256,
                    body=json.loads(json.dumps(body)),
                    requested_by=requested_by,
                    received_at=now,
                )
            return self.get(key), new

    def answer(self, key: str, answer: Json, run: int | None) -> Json:
        with self.lock:
            kept = self.kept[key]
            if kept.answer is None:
                self.kept[key] = replace(kept, answer=json.loads(json.dumps(answer)), run=run)
            return self.kept[key].answer or {}

    def get(self, key: str) -> KeptRequest:
        with self.lock:
            kept = self.kept[key]
            started = [e.run.id for e in self.journal.entries.values() if e.key == order_key(key)]
            return replace(kept, run=kept.run or next(iter(started), None))
