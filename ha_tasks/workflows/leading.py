"""Leading: one of several processes acts, the others wait for the end of its lease."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from ha_tasks.model.leadership import Watch
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.leadership import Leadership

log = logging.getLogger(__name__)

LEASE_S = 2.4
"""From the last renewal of a leader that was killed to its successor it takes so long and one look."""
RENEWALS = 3
"""So many times per lease it is renewed."""
LOOKS = 6
"""So many times per lease those who wait look at the row."""


class Leading:
    """This process' part in one leadership. Not thread-safe: one process, one thread."""

    def __init__(
        self, *, leadership: Leadership, clock: Clock, name: str, holder: str, lease_s: float = LEASE_S
    ) -> None:
        self.name = name
        self._leadership = leadership
        self._clock = clock
        self._holder = holder
        self._lease_s = lease_s
        self._fence: int | None = None
        self._renewed_s = 0.0
        self._watch: Watch | None = None

    @property
    def until(self) -> datetime:
        """What the row is to say when the lease is renewed now."""
        return self._clock.now() + timedelta(seconds=self._lease_s)

    @property
    def pause_s(self) -> float:
        """How long ``step`` may be left out."""
        return self._lease_s / (LOOKS if self._fence is None else RENEWALS)

    def step(self) -> int | None:
        """The fence under which this process may act; None: another leads. Raises StoreUnreachable.

        A leader renews, one that waits looks, and takes over from a leader that let its lease pass.
        """
        if self._fence is None:
            self._follow()
        elif self._clock.monotonic() - self._renewed_s >= self.pause_s:
            self._renew(self._fence)
        return self._fence

    def renewed(self, at_s: float) -> None:
        """The lease was renewed together with something else, begun at ``at_s`` (monotonic)."""
        self._renewed_s = at_s

    def holds(self) -> bool:
        """False once the lease may have been taken over unnoticed: then nothing more may be begun."""
        return self._fence is not None and self._clock.monotonic() - self._renewed_s < self._lease_s

    def lost(self) -> None:
        """Another leads: from now on this process waits."""
        log.warning("%s does not lead %s any more", self._holder, self.name)
        self._fence, self._watch = None, None

    def release(self) -> None:
        """Gives the lease back, if it is held; the next one need not wait. Raises StoreUnreachable."""
        if self._fence is not None:
            fence, self._fence = self._fence, None
            self._leadership.release(self.name, fence, self._clock.now())

    def _renew(self, fence: int) -> None:
        """A lease that ended without anybody taking it is still ours: the row says so."""
        begun = self._clock.monotonic()
        if self._leadership.renew(self.name, fence, self.until):
            self.renewed(begun)
        else:
            self.lost()

    def _follow(self) -> None:
        begun = self._clock.monotonic()
        lease = self._leadership.look(self.name)
        watch = Watch(lease=lease, since_s=begun) if self._watch is None else self._watch.seen(lease, begun)
        self._watch = watch
        if not watch.may_take(begun, self._lease_s):
            return
        taken = self._leadership.take(self.name, lease, self._holder, self.until)
        if taken is not None:
            log.warning("%s leads %s now, fence %s", self._holder, self.name, taken.fence)
            self._fence, self._watch = taken.fence, None
            self.renewed(begun)
