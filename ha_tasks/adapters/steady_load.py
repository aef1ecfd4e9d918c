"""A steady load: clients in threads, each request recorded as acknowledged or missed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.load import Ack, Miss
from ha_tasks.ports.clock import Clock


class Client(Protocol):
    """One client of the service; used by one thread."""

    def request(self, seq: int) -> tuple[str, int]:
        """The node that acknowledged and its timeline. Raises ServiceUnreachable, or OSError."""
        ...

    def close(self) -> None:
        """Ends its connection. Idempotent."""
        ...


class SteadyLoad:
    """Runs clients until it is stopped. A number is used once only: a missed request may have arrived."""

    def __init__(self, clients: Sequence[Client], clock: Clock, *, pause_s: float) -> None:
        self._runners = [_Runner(number, client, clock, pause_s) for number, client in enumerate(clients)]
        self._clock = clock

    def start(self, timeout_s: float) -> None:
        """Returns at the first acknowledgement. Raises ServiceUnreachable, with the load stopped."""
        for runner in self._runners:
            runner.thread.start()
        try:
            self._await_first(Deadline(self._clock, timeout_s))
        except TimeoutError as error:
            last = [runner.misses[-1].error for runner in self._runners if runner.misses]
            self.stop()
            said = last[0] if last else "no answer"
            raise ServiceUnreachable(f"nothing was acknowledged within {timeout_s} s: {said}") from error

    def _await_first(self, deadline: Deadline) -> None:
        while not self.acknowledged():
            deadline.left_s()
            self._clock.pause(0.01)

    def acknowledged(self) -> int:
        """How many so far."""
        return sum(len(runner.acks) for runner in self._runners)

    def stop(self) -> tuple[tuple[Ack, ...], tuple[Miss, ...]]:
        """Ends every client after its request under way, and answers what they saw, by time."""
        for runner in self._runners:
            runner.ended.set()
        for runner in self._runners:
            runner.join()
        acks = sorted((a for r in self._runners for a in r.acks), key=lambda a: a.acked_at)
        misses = sorted((m for r in self._runners for m in r.misses), key=lambda m: m.failed_at)
        return tuple(acks), tuple(misses)


class _Runner:
    """A client's thread and its records. Only the thread appends; a list's length may be read any time."""

    def __init__(self, number: int, client: Client, clock: Clock, pause_s: float) -> None:
        self.acks: list[Ack] = []
        self.misses: list[Miss] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"load-{number}", daemon=True)
        self._number = number
        self._client = client
        self._clock = clock
        self._pause_s = pause_s

    def join(self) -> None:
        """Its requests have deadlines, so this ends too; a thread that never began is none."""
        with suppress(RuntimeError):
            self.thread.join()

    def _run(self) -> None:
        seq = 0
        try:
            while not self.ended.is_set():
                seq += 1
                self._one(seq)
                self.ended.wait(self._pause_s)
        finally:
            self._client.close()

    def _one(self, seq: int) -> None:
        sent_at = self._clock.now()
        try:
            node, timeline = self._client.request(seq)
        except (ServiceUnreachable, OSError) as error:
            failed_at = self._clock.now()
            miss = Miss(
                writer=self._number, seq=seq, sent_at=sent_at, failed_at=failed_at, error=str(error)[:200]
            )
            self.misses.append(miss)
            return
        ack = Ack(
            writer=self._number,
            seq=seq,
            node=node,
            timeline=timeline,
            sent_at=sent_at,
            acked_at=self._clock.now(),
        )
        self.acks.append(ack)
