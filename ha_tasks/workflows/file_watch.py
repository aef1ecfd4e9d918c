"""What services are served from, as others change it: what has served well becomes a good version.

Without it a change that a deployment made weeks ago, and never recorded, would be taken back after the next
failure. A change that does not serve never gets so far: its failure finds the version before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.platform import Platform, Role, Service
from ha_tasks.model.verdict import Verdict, VerdictState
from ha_tasks.model.versions import Judgement, Present, last_good
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Journal
from ha_tasks.ports.versions import Versions
from ha_tasks.recovery.rollback_controller import GLANCE_S, RollbackController

SETTLED = timedelta(seconds=60)
"""So long users must have been served by it, at every look."""
REASON = f"found on the hosts, and served well for {SETTLED.total_seconds():.0f} s"


class FileWatch:
    """One per observer; any number of them record the same version once."""

    def __init__(
        self,
        *,
        platform: Platform,
        rollback: RollbackController,
        versions: Versions,
        judge: Callable[[Sequence[Service]], Sequence[Verdict]],
        journal: Journal,
        clock: Clock,
        actor: str,
        held: Callable[[], str | None] = lambda: None,
    ) -> None:
        """``held``: why nothing may be written by this process; None: it may."""
        self._services = [s for s in platform.services.values() if s.files and is_ours(s)]
        self._rollback = rollback
        self._versions = versions
        self._judge = judge
        self._journal = journal
        self._clock = clock
        self._actor = actor
        self._held = held
        self._since: dict[str, tuple[Present, datetime]] = {}

    def look(self) -> None:
        """At every service that has files. A silent agent, or a doubt, begins the wait anew."""
        if self._services and self._held() is None:
            busy = {run.plan.service for run in self._journal.active()}
            for service in self._services:
                self._look_at(service, busy=service.name in busy)

    def _look_at(self, service: Service, *, busy: bool) -> None:
        present = {} if busy else self._rollback.present(service, timeout_s=GLANCE_S)
        whole = len(present) == len(service.files) and None not in present.values()
        good = last_good(self._versions.of(service.name))
        if not whole or (good is not None and good.files == present) or not self._serves(service):
            self._since.pop(service.name, None)
            return
        now = self._clock.now()
        before, since = self._since.get(service.name, (None, now))
        if before != present:
            self._since[service.name] = (present, now)
        elif now - since >= SETTLED:
            self._record(service, present)

    def _serves(self, service: Service) -> bool:
        """Everybody who should serve is healthy; a spare may be down."""
        names = {i.name for i in service.instances if i.role is not Role.SPARE}
        verdicts = [v for v in self._judge([service]) if v.target.instance in names]
        return len(verdicts) == len(names) and all(v.state is VerdictState.HEALTHY for v in verdicts)

    def _record(self, service: Service, present: Present) -> None:
        """Not judged when it was changed once more meanwhile."""
        version = self._rollback.record(service, staged=False, actor=self._actor, reason=REASON)
        if version.files == present:
            self._rollback.judge(version, Judgement.GOOD, REASON)
