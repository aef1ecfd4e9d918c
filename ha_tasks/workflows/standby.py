"""The stand-by driver: takes runs further in the observer's own process while the broker is away.

The journal says what is next and the lease whose it is, so it is safe beside workers that still have
something to do, and beside the stand-by of another observer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ha_tasks.errors import BrokerUnreachable, HaTasksError
from ha_tasks.model.run import TERMINAL, Phase, RunState
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Journal
from ha_tasks.recovery.recovery_orchestrator import Advance

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""A broker that is away for less is a hiccup: the outbox bridges it."""
IDLE_S = 0.1


class StandbyDriver:
    """``look`` is called several times a second by one thread; each run is driven by one of its own.

    ``ask`` raises BrokerUnreachable within a second. ``advance`` and ``follow`` are those of the worker.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        ask: Callable[[], object],
        advance: Callable[[int, int, Phase], Advance],
        follow: Callable[[], object],
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._ask = ask
        self._advance = advance
        self._follow = follow
        self._clock = clock
        self._silent_since: float | None = None
        self._driven: dict[int, threading.Thread] = {}
        self._broken: Exception | None = None

    @property
    def driving(self) -> bool:
        """True while the broker has been away for longer than a hiccup."""
        since = self._silent_since
        return since is not None and self._clock.monotonic() - since >= PATIENCE_S

    def look(self) -> None:
        """Asks the broker once; while it is away, sees to it that each active run is driven.

        Raises what a driving thread did not expect.
        """
        if self._broken is not None:
            raise self._broken
        self._notice()
        if not self.driving:
            return
        self._follow()
        for run in self._journal.active():
            known = self._driven.get(run.id)
            waits = run.state is RunState.AWAITING_APPROVAL
            if not waits and (known is None or not known.is_alive()):
                self._begin(run.id)

    def _notice(self) -> None:
        began, was_driving = self._clock.monotonic(), self.driving
        try:
            self._ask()
        except BrokerUnreachable as error:
            if self._silent_since is None:
                self._silent_since = began
            if self.driving and not was_driving:
                log.warning("runs are driven by this observer: %s", error)
            return
        self._silent_since = None
        self._driven = {number: t for number, t in self._driven.items() if t.is_alive()}
        if was_driving:
            log.warning("the broker is back: runs are left to the workers")

    def _begin(self, run: int) -> None:
        thread = threading.Thread(target=self._drive, args=(run,), name=f"run-{run}", daemon=True)
        self._driven[run] = thread
        thread.start()

    def _drive(self, number: int) -> None:
        """Step by step, until the run ends or the broker is back. A step that was begun is finished."""
        try:
            while self.driving:
                run = self._journal.get(number)
                if run.state in TERMINAL:
                    return
                if not self._advance(run.id, run.position, run.phase).taken:
                    self._clock.pause(IDLE_S)
        except HaTasksError as error:
            # The next look begins anew.
            log.warning("run %d: %s: %s", number, error.reason, error)
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to: look does it
            self._broken = error
