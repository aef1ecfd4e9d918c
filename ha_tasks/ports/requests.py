"""The book of requests of other services. Each verb is one transaction; StoreUnreachable is retryable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ha_tasks.model.plain import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """A request as it was received first. ``answer`` None: it is being worked on, or its worker died.

    ``run``: the run that was started for it, even when nobody has lived to answer.
    """

    key: str
    sha256: str
    body: Json
    requested_by: str
    received_at: datetime
    answer: Json | None = None
    run: int | None = None


class RequestBook(Protocol):
    """Requests by their idempotency key; what was answered once is answered for ever."""

    def receive(
        self, *, key: str, sha256: str, body: Json, requested_by: str, now: datetime
    ) -> tuple[KeptRequest, bool]:
        """The request of that key, and whether this call wrote it down. Idempotent.

        A key that was used with another body answers the first one: whoever asks compares ``sha256``.
        """
        ...

    def answer(self, key: str, answer: Json, run: int | None) -> Json:
        """Writes the answer down, unless there is one; answers the one that stands. KeyError: no request."""
        ...

    def get(self, key: str) -> KeptRequest:
        """KeyError when there is none."""
        ...


def order_key(key: str) -> str:
    """The idempotency key of the run that a request starts: apart from those of incidents."""
    return f"request-{key}"
