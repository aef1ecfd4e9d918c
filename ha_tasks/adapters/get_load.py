"""A steady load of GETs to an HTTP service, through the entry that its clients use."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.http_get import get
from ha_tasks.adapters.steady_load import SteadyLoad
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.load import LoadReport
from ha_tasks.ports.clock import Clock

GET_TIMEOUT_S = 2.0
START_TIMEOUT_S = 10.0


class GetLoad:
    """See ports/faults.py. Each GET has a connection of its own; 200 acknowledges it.

    ``node`` is the "name" of a JSON answer, '' without one; ``timeline`` is 0. A GET leaves nothing that
    could be lost: everything acknowledged is reported as present.
    """

    def __init__(self, *, url: str, clock: Clock, clients: int, pause_s: float) -> None:
        getters = [_Getter(url, clock) for _ in range(clients)]
        self._load = SteadyLoad(getters, clock, pause_s=pause_s)

    def start(self) -> None:
        """Raises ServiceUnreachable when nothing is acknowledged within 10 s."""
        self._load.start(START_TIMEOUT_S)

    def acknowledged(self) -> int:
        """How many so far."""
        return self._load.acknowledged()

    def stop(self) -> LoadReport:
        """Ends and reports."""
        acks, misses = self._load.stop()
        present = frozenset((ack.writer, ack.seq) for ack in acks)
        return LoadReport(acks=acks, misses=misses, present=present)


class _Getter:
    """One client."""

    def __init__(self, url: str, clock: Clock) -> None:
        parts = urlsplit(url)
        self._address = f"{parts.hostname}:{parts.port or 80}"
        self._path = parts.path or "/"
        self._clock = clock

    def request(self, seq: int) -> tuple[str, int]:  # noqa: ARG002 - a GET has nothing to number
        """One GET; anything but 200 is a miss."""
        answer = get(self._address, self._path, Deadline(self._clock, GET_TIMEOUT_S))
        if answer.status != 200:
            raise ServiceUnreachable(f"HTTP {answer.status}")
        return _name(answer.body), 0

    def close(self) -> None:
        """It keeps nothing open."""


def _name(body: bytes) -> str:
    """Who answered, as it says itself; '' when it does not say so in JSON."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    return str(said.get("name", "")) if isinstance(said, dict) else ""
