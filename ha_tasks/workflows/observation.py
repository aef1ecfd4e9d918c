"""The observer: looks at everything several times a second, from where it runs, and sees to what follows.

It runs beside the broker, not through it: detection does not wait for a queue.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from ha_tasks.errors import HaTasksError
from ha_tasks.model.platform import Platform, Service
from ha_tasks.model.second_look import looked_at_again, moments_s
from ha_tasks.ports.clock import Clock
from ha_tasks.workflows.detection import Detection
from ha_tasks.workflows.exit_watch import ExitWatch
from ha_tasks.workflows.reconcile import Reconciler

log = logging.getLogger(__name__)

LATE_S = 1.0
"""An observer this late was busy or paused: it discards what was seen before it woke."""
EVERY_S = 1.0
"""How often things are kept as recorded, and a heartbeat row is written."""
WATCH_EVERY_S = 2.0
"""How often the agents are asked whether they remember more than the store, and the like."""
FILES_EVERY_S = 5.0
"""How often the agents are asked what services are served from."""
STANDBY_EVERY_S = 0.5
"""How often the broker is asked whether it is there."""
ASK_AGAIN_S = 0.5
"""Pause before an agent whose PostgreSQL is gone is asked to tell of the next end."""


class Observer:
    """Loops of which none waits for another: probe-judge-react, keeping things as recorded, heartbeat rows.

    The first does not wait for its next turn when an agent tells that its PostgreSQL has ended.
    """

    def __init__(
        self,
        *,
        platform: Platform,
        detection: Detection,
        reconciler: Reconciler,
        clock: Clock,
        watch: Callable[[], object] = lambda: None,
        witness: Callable[[], object] = lambda: None,
        standby: Callable[[], object] = lambda: None,
        tell: Callable[[], object] = lambda: None,
        in_place: Callable[[], object] = lambda: None,
        led: Callable[[], object] = lambda: None,
        follow: Callable[[], object] = lambda: None,
        left: Callable[[], object] = lambda: None,
        files: Callable[[], object] = lambda: None,
        exits: ExitWatch | None = None,
    ) -> None:
        """``watch`` looks whether the store is to be trusted, every WATCH_EVERY_S; ``witness`` writes the
        head of the audit chain down, every EVERY_S; ``standby`` sees to runs while the broker is away,
        every STANDBY_EVERY_S; ``tell`` tells the agents what the store says, ``in_place`` starts crashed
        primaries again whose failover is refused, ``led`` judges clusters that others lead, ``follow``
        has the balancer follow Sentinel: every EVERY_S;
        ``left`` ends incidents of what has left the inventory, every WATCH_EVERY_S; ``files`` looks
        at what services are served from, every FILES_EVERY_S.
        """
        self._services = list(platform.services.values())
        self._every_s = min((s.check.interval_s for s in self._services), default=0.5)
        self._detection = detection
        self._reconciler = reconciler
        self._clock = clock
        self._beside_them = (
            ("store-watch", WATCH_EVERY_S, watch),
            ("witness", EVERY_S, witness),
            ("standby", STANDBY_EVERY_S, standby),
            ("standings", EVERY_S, tell),
            ("in-place", EVERY_S, in_place),
            ("led-by-others", EVERY_S, led),
            ("led-follow", EVERY_S, follow),
            ("left-inventory", WATCH_EVERY_S, left),
            ("files", FILES_EVERY_S, files),
        )
        self._exits = exits
        self._hint = threading.Event()
        self._horizon: datetime | None = None
        self._broken: Exception | None = None
        self._ahead_s: float | None = None
        """By how much the wall clock was ahead of the monotonic one at the last look."""

    def run(self, ended: threading.Event) -> None:
        """Until ``ended`` is set; returns within a second after. Raises what no loop has expected."""
        others = [
            threading.Thread(target=self._beside, args=(ended, every_s, work), name=name, daemon=True)
            for name, every_s, work in (
                ("reconcile", EVERY_S, self._reconcile),
                ("heartbeat", EVERY_S, self._reconciler.heartbeats),
                *self._beside_them,
            )
        ]
        # These hang on an agent's word for seconds: nobody waits for them at the end.
        hanging = [
            threading.Thread(target=self._beside, args=(ended, ASK_AGAIN_S, ask), name="exits", daemon=True)
            for ask in self._asking()
        ]
        for thread in (*others, *hanging):
            thread.start()
        threading.Thread(target=self._hint_at_the_end, args=(ended,), name="end", daemon=True).start()
        self._loop(ended, self._every_s, self._observe, self._pause)
        for thread in others:
            thread.join()

    def observe(self, services: Sequence[Service]) -> list[Service]:
        """One round; the services that deserve a second look soon. A round that took far longer than its
        probes may was interrupted, not answered.
        """
        begun = self._clock.monotonic()
        failed = looked_at_again(services, self._detection.look(services))
        longest = max(s.check.timeout_s for s in services)
        if self._clock.monotonic() - begun > longest + LATE_S or self._clock_jumped():
            self._discard()
        verdicts = self._detection.judge(services, self._horizon)
        if self._clock.monotonic() - begun > longest + 2 * LATE_S:
            self._discard()  # it was paused while it judged: what it came to is about then, not about now
            return []
        self._detection.react(verdicts)
        return failed

    def _asking(self) -> list[Callable[[], None]]:
        """One loop for each node: see ExitWatch."""
        exits = self._exits
        if exits is None:
            return []

        def ask(node: str) -> None:
            if exits.look(node):
                self._hint.set()

        return [partial(ask, node) for node in exits.nodes]

    def _hint_at_the_end(self, ended: threading.Event) -> None:
        ended.wait()
        self._hint.set()

    def _pause(self, seconds: float) -> None:
        self._hint.wait(seconds)
        self._hint.clear()

    def _beside(self, ended: threading.Event, every_s: float, work: Callable[[], object]) -> None:
        """A loop beside the observing one, which raises its error: half an observer would look alive.

        It keeps nothing that grows old, so how late it is does not matter.
        """
        try:
            self._loop(ended, every_s, lambda _late_s: work())
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to: _observe does it
            self._broken = error

    def _observe(self, late_s: float) -> None:
        if self._broken is not None:
            raise self._broken
        if late_s > LATE_S:
            self._discard()
        begun = self._clock.monotonic()
        failed = self.observe(self._services)
        for at_s in moments_s(self._every_s) if failed else ():
            # What ends this wait calls for the next turn, or for the end: the pause after this hears it too.
            if self._hint.wait(max(0.0, begun + at_s - self._clock.monotonic())):
                return
            if self._clock.monotonic() - begun > at_s + LATE_S:
                return  # the next turn is late as well, and sees to it
            self.observe(failed)

    def _clock_jumped(self) -> bool:
        """The wall clock was set, or the machine slept: times of before and after do not go together."""
        ahead_s = self._clock.now().timestamp() - self._clock.monotonic()
        before_s, self._ahead_s = self._ahead_s, ahead_s
        return before_s is not None and abs(ahead_s - before_s) > LATE_S

    def _discard(self) -> None:
        self._horizon = self._clock.now()
        log.warning("the observer missed its schedule by over %.0f s: what it saw is discarded", LATE_S)

    def _reconcile(self) -> None:
        try:
            self._reconciler.balancers()
        finally:
            # Who follows whom does not wait for a balancer that is away, or refuses.
            self._reconciler.clusters()

    def _loop(
        self,
        ended: threading.Event,
        every_s: float,
        work: Callable[[float], object],
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """``pause`` may end early: the next turn is then, and the ones after it are counted from there."""
        pause = pause or ended.wait
        due = self._clock.monotonic()
        trouble = ""
        while not ended.is_set():
            try:
                work(self._clock.monotonic() - due)
                trouble = ""
            except HaTasksError as error:
                # The store, a balancer or an agent may be away for a while: the next round asks again.
                if str(error) != trouble:
                    log.warning("%s: %s", error.reason, error)
                trouble = str(error)
            due = max(due + every_s, self._clock.monotonic())
            pause(max(0.0, due - self._clock.monotonic()))
            due = min(due, self._clock.monotonic())
