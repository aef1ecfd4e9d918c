"""The observer: looks at everything several times a second, from where it runs, and sees to what follows.

It runs beside the broker, not through it: detection does not wait for a queue.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from ha_tasks.errors import HaTasksError
from ha_tasks.model.platform import Platform, Service
from ha_tasks.ports.clock import Clock
from ha_tasks.workflows.detection import Detection
from ha_tasks.workflows.reconcile import Reconciler

log = logging.getLogger(__name__)

LATE_S = 1.0
"""An observer this late was busy or paused: it discards what was seen before it woke."""
EVERY_S = 1.0
"""How often things are kept as recorded, and a heartbeat row is written."""
WATCH_EVERY_S = 2.0
"""How often the agents are asked whether they remember more than the store."""
STANDBY_EVERY_S = 0.5
"""How often the broker is asked whether it is there."""


class Observer:
    """Three loops: probe-judge-react, keeping things as recorded, heartbeat rows. None waits for another."""

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
    ) -> None:
        """``watch`` looks whether the store is to be trusted, every WATCH_EVERY_S; ``witness`` writes the
        head of the audit chain down, every EVERY_S; ``standby`` sees to runs while the broker is away,
        every STANDBY_EVERY_S.
        """
        self._services = list(platform.services.values())
        self._every_s = min((s.check.interval_s for s in self._services), default=0.5)
        self._detection = detection
        self._reconciler = reconciler
        self._clock = clock
        self._watch = watch
        self._witness = witness
        self._standby = standby
        self._horizon: datetime | None = None
        self._broken: Exception | None = None

    def run(self, ended: threading.Event) -> None:
        """Until ``ended`` is set; returns within a second after. Raises what no loop has expected."""
        others = [
            threading.Thread(target=self._beside, args=(ended, every_s, work), name=name, daemon=True)
            for name, every_s, work in (
                ("reconcile", EVERY_S, self._reconcile),
                ("heartbeat", EVERY_S, self._heartbeat),
                ("store-watch", WATCH_EVERY_S, self._look_at_the_store),
                ("witness", EVERY_S, self._write_down),
                ("standby", STANDBY_EVERY_S, self._stand_by),
            )
        ]
        for thread in others:
            thread.start()
        self._loop(ended, self._every_s, self._observe)
        for thread in others:
            thread.join()

    def observe(self, services: list[Service]) -> None:
        """One round. A round that took far longer than its probes may was interrupted, not answered."""
        begun = self._clock.monotonic()
        self._detection.look(services)
        longest = max(s.check.timeout_s for s in services)
        if self._clock.monotonic() - begun > longest + LATE_S:
            self._discard()
        self._detection.react(self._detection.judge(services, self._horizon))

    def _beside(self, ended: threading.Event, every_s: float, work: Callable[[float], None]) -> None:
        """A loop beside the observing one, which raises its error: half an observer would look alive."""
        try:
            self._loop(ended, every_s, work)
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to: _observe does it
            self._broken = error

    def _observe(self, late_s: float) -> None:
        if self._broken is not None:
            raise self._broken
        if late_s > LATE_S:
            self._discard()
        self.observe(self._services)

    def _discard(self) -> None:
        self._horizon = self._clock.now()
        log.warning("the observer missed its schedule by over %.0f s: what it saw is discarded", LATE_S)

    def _reconcile(self, late_s: float) -> None:  # noqa: ARG002 - it keeps nothing that grows old
        try:
            self._reconciler.balancers()
        finally:
            # Who follows whom does not wait for a balancer that is away, or refuses.
            self._reconciler.clusters()

    def _stand_by(self, late_s: float) -> None:  # noqa: ARG002 - as above
        self._standby()

    def _heartbeat(self, late_s: float) -> None:  # noqa: ARG002 - as above
        self._reconciler.heartbeats()

    def _look_at_the_store(self, late_s: float) -> None:  # noqa: ARG002 - as above
        self._watch()

    def _write_down(self, late_s: float) -> None:  # noqa: ARG002 - as above
        self._witness()

    def _loop(self, ended: threading.Event, every_s: float, work: Callable[[float], None]) -> None:
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
            ended.wait(max(0.0, due - self._clock.monotonic()))
