"""RecoveryClient: how another service asks for a recovery, and what became of it.

It needs the broker's address and nothing else. Kombu is imported when a client is made, not with this
module. A message is an ordinary Celery message; docs/reference/contract.md shows the same with bare Celery.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ha_tasks.client.spool import Spool, Waiting
from ha_tasks.errors import BrokerUnreachable, DeadlineExceeded, UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.request import VERSION, RecoveryRequest, parse_request
from ha_tasks.names import TaskName

if TYPE_CHECKING:
    from ha_tasks.client.door import BrokerDoor

T = TypeVar("T")
logger = logging.getLogger(__name__)

ENQUEUE_WITHIN_S = 0.6
"""A broker that is away or frozen costs a caller no more than that; the promise is a second."""
GRACE_S = 0.3
"""So much longer than what it bounds: what ends by itself says more about why."""
LOOK_EVERY_S = 0.5
PAUSES_S = (0.2, 0.5, 1.0, 2.0)
"""Between attempts to empty the spool; the last one again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """``sent``: the broker has it; else it is in the spool and is sent when the broker is back."""

    idempotency_key: str
    sent: bool


class RecoveryClient:
    """Thread-safe. ``spool``: a directory for requests that wait for the broker; several may share it.

    With a spool a request is on the disk before anything is sent, and survives the caller's process:
    whoever opens the spool next sends it. Without one, BrokerUnreachable lets the caller decide.
    """

    def __init__(self, broker_url: str, *, spool: str | Path | None = None) -> None:
        """``broker_url``: as in the inventory, with its password. UsageError when it is none."""
        # A quarter of a second: it is paid here, so that no request pays it.
        from ha_tasks.client.door import BrokerDoor

        self._door: BrokerDoor = BrokerDoor(broker_url)
        self._spool = None if spool is None else Spool(Path(spool))
        self._lock = threading.Lock()
        self._flusher: threading.Thread | None = None
        self._closed = threading.Event()
        if self._spool is not None and self._spool.waiting():
            self._flush_behind()

    def request(
        self,
        *,
        service: str,
        kind: str,
        reason: str,
        requested_by: str,
        idempotency_key: str | None = None,
        scope: str | None = None,
        playbook: str | None = None,
        dry_run: bool = False,
        evidence: Mapping[str, Any] | None = None,
        deadline_s: float | None = None,
    ) -> Receipt:
        """Asks for a recovery, within a second. Idempotent by its key; left out, the key is a new one.

        UsageError says every field that is wrong. IdempotencyConflict: the spool holds another request of
        this key. BrokerUnreachable, without a spool: it may have arrived nevertheless; the same request
        again, with the same key, does no harm.
        """
        key = idempotency_key or str(uuid.uuid4())
        asked, wrong = parse_request(
            {
                "v": VERSION,
                "service": service,
                "kind": kind,
                "scope": scope,
                "playbook": playbook,
                "reason": reason,
                "requested_by": requested_by,
                "idempotency_key": key,
                "dry_run": dry_run,
                "evidence": None if evidence is None else dict(evidence),
                "deadline_s": deadline_s,
            }
        )
        if asked is None:
            raise UsageError("; ".join(map(str, wrong)))
        return self._handed_in(asked)

    def status(self, key_or_run: str | int, *, timeout_s: float = 5.0) -> Json:
        """What became of it, as ``recovery-answer.schema.json`` has it: ``state``, ``ended``, ``refused`` ...

        A request that waits in our own spool: state "spooled". BrokerUnreachable when nobody answers in
        time: the broker is away, or no worker serves the queue.
        """
        if self._spooled(key_or_run):
            return {"v": VERSION, "run": None, "state": "spooled", "ended": False, "refused": None}
        field = "run" if isinstance(key_or_run, int) else "idempotency_key"
        body: Json = {"v": VERSION, field: key_or_run}
        return _within(timeout_s + GRACE_S, lambda: self._door.ask(TaskName.RECOVERY_STATUS, body, timeout_s))

    def wait(self, key_or_run: str | int, *, within_s: float = 300.0) -> Json:
        """The status at its end. DeadlineExceeded, with the state reached, when it takes longer.

        A broker that is away meanwhile is waited for.
        """
        ends, told = time.monotonic() + within_s, "no answer yet"
        while (left := ends - time.monotonic()) > 0:
            try:
                status = self.status(key_or_run, timeout_s=min(5.0, left))
            except BrokerUnreachable as error:
                told = str(error)
            else:
                told = str(status["state"])
                # A request that was sent this moment may not have been received yet.
                if status["ended"] and told != "unknown":
                    return status
            self._closed.wait(min(LOOK_EVERY_S, max(0.0, ends - time.monotonic())))
        if told == "unknown":
            told = "nothing is known of it: it has not arrived, or a name in it is wrong"
        raise DeadlineExceeded(f"{key_or_run} has not ended within {within_s:g} s: {told}")

    def flush(self, *, within_s: float = 5.0) -> int:
        """Sends what waits in the spool, oldest first; answers how many still wait."""
        if self._spool is None:
            return 0
        ends = time.monotonic() + within_s
        for waiting in self._spool.waiting():
            left = ends - time.monotonic()
            if left <= 0 or not self._sent(waiting, min(left, ENQUEUE_WITHIN_S)):
                break
        return len(self._spool.waiting())

    def close(self) -> None:
        """Ends the thread behind; what waits in the spool stays there. Idempotent."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spooled(self, key_or_run: str | int) -> bool:
        return self._spool is not None and isinstance(key_or_run, str) and self._spool.holds(key_or_run)

    def _handed_in(self, asked: RecoveryRequest) -> Receipt:
        key = asked.idempotency_key
        if self._spool is None:
            _within(ENQUEUE_WITHIN_S, lambda: self._send(asked.to_json()))
            return Receipt(idempotency_key=key, sent=True)
        waiting = self._spool.put(asked)
        sent = not self._behind() and self._sent(waiting, ENQUEUE_WITHIN_S)
        if not sent:
            self._flush_behind()
        return Receipt(idempotency_key=key, sent=sent)

    def _sent(self, waiting: Waiting, within_s: float) -> bool:
        """False when the broker did not take it; one whose deadline passed is taken out unsent."""
        spool = self._spool
        assert spool is not None  # noqa: S101 - whoever comes here has one
        if waiting.too_late(time.time()):
            logger.warning("request %s waited longer than its deadline: not sent", waiting.key)
            spool.remove(waiting)
            return True

        def send() -> None:
            self._send(waiting.body)
            # Also where the caller has stopped waiting for it: it is sent.
            spool.remove(waiting)

        try:
            _within(within_s, send)
        except BrokerUnreachable as error:
            logger.info("request %s waits in the spool: %s", waiting.key, error)
            return False
        return True

    def _send(self, body: Json) -> None:
        self._door.send(TaskName.RECOVERY_REQUEST, body)

    def _behind(self) -> bool:
        """A thread is at work on the spool already, since the broker is away."""
        with self._lock:
            return self._flusher is not None and self._flusher.is_alive()

    def _flush_behind(self) -> None:
        with self._lock:
            if self._flusher is None or not self._flusher.is_alive():
                self._flusher = threading.Thread(target=self._until_empty, name="ha-spool", daemon=True)
                self._flusher.start()

    def _until_empty(self) -> None:
        attempt = 0
        while not self._closed.wait(PAUSES_S[min(attempt, len(PAUSES_S) - 1)]):
            attempt += 1
            try:
                if not self.flush() and self._done_behind():
                    return
            except OSError as error:
                logger.warning("the spool cannot be used: %s", error.strerror)

    def _done_behind(self) -> bool:
        """Under the lock, so that nobody puts a request in and relies on a thread that is about to end."""
        with self._lock:
            if self._spool is not None and self._spool.waiting():
                return False
            self._flusher = None
            return True


def _within(seconds: float, work: Callable[[], T]) -> T:
    """What ``work`` answers, or raises; BrokerUnreachable when it takes longer.

    A thread of its own: no timeout of a socket bounds the look-up of a name.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run, name="ha-client", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise BrokerUnreachable(f"the broker did not answer within {seconds:g} s")
    return done[0]
