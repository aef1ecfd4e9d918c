"""Taking turns: code that blocks, run a few steps at a time, always in the same order.

A controller is real code that calls ports. It runs on a thread of its own, but never beside anybody: it is
handed the baton, runs to a point, and hands it back. Between two points it can be left lying for as long
as the history wants (a paused process), or be killed there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Died(BaseException):
    """SIGKILL: nothing but ``finally`` sees it."""


class _Worker:
    """A thread that is used again: making one costs more than a short turn."""

    def __init__(self) -> None:
        self.wanted = threading.Semaphore(0)
        self.work: Callable[[], None] = lambda: None
        threading.Thread(target=self._serve, name="turn", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.wanted.acquire()
            self.work()
            _idle.append(self)


_idle: list[_Worker] = []


class Turns:
    """Whose turn it is. One per world; the thread that makes it is the world's own."""

    def __init__(self) -> None:
        self.actor: Actor | None = None

    def point(self) -> None:
        """Reached by whoever acts now: the turn may end here, and the actor's life."""
        if self.actor is not None:
            self.actor.reached()


class Actor:
    """One piece of work that is run turn by turn. ``error``: what ended it, except its death."""

    def __init__(self, turns: Turns, work: Callable[[], None]) -> None:
        self._turns = turns
        self._work = work
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._left = 0
        self._doomed = False
        self._worker: _Worker | None = None
        self.ended = False
        self.error: BaseException | None = None

    def run(self, points: int) -> bool:
        """Lets it go on until it has reached so many points; True when it has ended."""
        if self.ended:
            return True
        self._left = points
        outer, self._turns.actor = self._turns.actor, self
        if self._worker is None:
            self._worker = _idle.pop() if _idle else _Worker()
            self._worker.work = self._all
            self._worker.wanted.release()
        else:
            self._go.release()
        self._back.acquire()
        self._turns.actor = outer
        return self.ended

    def kill(self) -> None:
        """It never goes on. Whoever waits for it is not told."""
        self._doomed = True
        if self._worker is None:
            self.ended = True
        self.run(1)

    def rest(self) -> None:
        """Its turn ends at the next point."""
        self._left = 1

    def reached(self) -> None:
        """Called on its own thread."""
        if self._doomed:
            raise Died
        self._left -= 1
        if self._left <= 0:
            self._back.release()
            self._go.acquire()
            if self._doomed:
                raise Died

    def _all(self) -> None:
        try:
            self._work()
        except Died:
            pass
        except BaseException as error:  # noqa: BLE001 - told on the world's own thread
            self.error = error
        self.ended = True
        self._back.release()
