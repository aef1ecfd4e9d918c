"""A broker in memory, for what looks at queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ha_tasks.errors import BrokerUnreachable
from ha_tasks.ports.queues import Backlog


@dataclass
class FakeQueues:
    """``send`` puts a message in, ``take`` has a worker take the next one; ``down`` breaks the broker."""

    down: bool = False
    waiting: dict[str, list[tuple[int, float | None]]] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)

    def send(self, queue: str, *, priority: int = 0, sent_at: float | None = None) -> None:
        self.waiting.setdefault(queue, []).append((priority, sent_at))

    def take(self, queue: str) -> None:
        """The next message: the lowest number goes first, as on Redis, then the order of sending."""
        line = self.waiting[queue]
        line.remove(min(line, key=lambda message: message[0]))
        self.taken[queue] = self.taken.get(queue, 0) + 1

    def backlogs(self, queues: Sequence[str]) -> Mapping[str, Backlog]:
        if self.down:
            raise BrokerUnreachable("the broker is down")
        return {queue: self._backlog(queue) for queue in queues}

    def _backlog(self, queue: str) -> Backlog:
        line = self.waiting.get(queue, [])
        heads: dict[int, float | None] = {}
        for priority, sent_at in line:
            heads.setdefault(priority, sent_at)
        stamps = [stamp for stamp in heads.values() if stamp is not None]
        return Backlog(
            waiting=len(line),
            unacked=self.taken.get(queue, 0),
            oldest_sent_at=datetime.fromtimestamp(min(stamps), tz=UTC) if stamps else None,
        )
