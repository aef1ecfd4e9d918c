"""The quarantine: what is no message of ours is put aside in ``ha.dead``, with why and when.

A record is one JSON object. Its body is cut, and there are at most ``KEPT`` of them, the newest: whoever
can write to the broker must not be able to fill it with what he sends.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter as Multiset
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ha_tasks import names
from ha_tasks.errors import StoreUnreachable
from ha_tasks.names import PoisonReason

log = logging.getLogger(__name__)

KEPT = names.DEAD_KEPT
BODY_KEPT = 2048
"""Characters of the body that a record keeps: enough to tell what it was and who sent it."""
HUGE = 1024 * 1024
"""Bytes. A message of ours carries ids and plain JSON: a thousandth of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """What was put aside. ``size``: bytes of the body; ``body`` is cut and in no repr."""

    reason: PoisonReason
    queue: str
    size: int
    task: str = ""
    id: str = ""
    detail: str = ""
    body: str = field(default="", repr=False)

    def record(self, now: datetime) -> str:
        """The record as JSON text."""
        return json.dumps(
            {
                "reason": str(self.reason),
                "at": now.isoformat(timespec="milliseconds"),
                "queue": self.queue,
                "task": self.task,
                "id": self.id,
                "size": self.size,
                "detail": self.detail[:200],
                "body": self.body,
            }
        )


def poison(
    reason: PoisonReason,
    queue: str,
    body: object,
    *,
    headers: Mapping[str, Any] | None = None,
    size: int | None = None,
    detail: str = "",
) -> Poison:
    """What was wrong about a message with that body. Bytes that are no text are shown as escapes."""
    raw = body if isinstance(body, bytes) else str(body).encode("utf-8", "backslashreplace")
    known = headers if isinstance(headers, Mapping) else {}
    return Poison(
        reason=reason,
        queue=queue,
        size=len(raw) if size is None else size,
        task=str(known.get("task") or "")[:100],
        id=str(known.get("id") or "")[:100],
        detail=detail,
        body=raw[:BODY_KEPT].decode("utf-8", "backslashreplace"),
    )


Count = Callable[[Mapping[PoisonReason, int]], None]
"""Adds to ``ha_poison_messages_total``. Raises StoreUnreachable."""


class Tally:
    """Counts what was put aside; the worker has it reported now and then, so that a flood costs little.

    What could not be reported is reported the next time. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Multiset[PoisonReason] = Multiset()
        self._report: Count | None = None

    def connect(self, report: Count) -> None:
        """From now on reports go there."""
        self._report = report

    def add(self, found: Poison) -> None:
        """Counts one, and says so in the log: where from and what, never the body."""
        log.error(
            "poison in queue %s (%s, %d bytes, task %r): put aside in %s; see: ha-tasks broker dead",
            found.queue, found.reason, found.size, found.task, names.DEAD_QUEUE,
        )  # fmt: skip
        with self._lock:
            self._counted[found.reason] += 1

    def flush(self) -> None:
        """Reports what was counted since."""
        with self._lock:
            counted, self._counted = self._counted, Multiset()
        if not counted or self._report is None:
            return
        try:
            self._report(counted)
        except StoreUnreachable:
            with self._lock:
                self._counted += counted


TALLY = Tally()
"""Of this process: the transport, which Kombu makes, and the worker meet here."""


def now() -> datetime:
    """The transport is made by Kombu and is handed no clock."""
    return datetime.now(UTC)
