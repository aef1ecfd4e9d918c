"""Versions of what services serve from in a list per service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from threading import RLock

from ha_tasks.model.deeds import version_judged, version_recorded
from ha_tasks.model.versions import Judgement, Version
from ha_tasks.ports.repositories import Warrant
from tests.fakes.audit import FakeAudit
from tests.fakes.locked import one_at_a_time


class FakeVersions:
    """Implements ``Versions``. ``must_hold`` raises StaleFence for a claim that is no longer a run's."""

    def __init__(
        self, audit: FakeAudit | None = None, must_hold: Callable[[int, int], object] = lambda *_: None
    ) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self._must_hold = must_hold
        self.recorded: dict[str, list[Version]] = {}

    @one_at_a_time
    def of(self, service: str) -> tuple[Version, ...]:
        return tuple(reversed(self.recorded.get(service, [])))

    @one_at_a_time
    def get(self, service: str, no: int) -> Version:
        known = self.recorded.get(service, [])
        if not 1 <= no <= len(known):
            raise KeyError(no)
        return known[no - 1]

    @one_at_a_time
    def record(
        self, service: str, files: Mapping[str, str], *, actor: str, reason: str, now: datetime
    ) -> Version:
        known = self.recorded.setdefault(service, [])
        if known and dict(known[-1].files) == dict(files):
            return known[-1]
        made = Version(
            service=service,
            no=len(known) + 1,
            files=dict(files),
            actor=actor,
            reason=reason,
            recorded_at=now,
        )
        known.append(made)
        self.audit.record(now, version_recorded(made))
        return made

    @one_at_a_time
    def judge(
        self,
        service: str,
        no: int,
        judgement: Judgement,
        why: str,
        now: datetime,
        *,
        actor: str,
        under: Warrant | None = None,
    ) -> Version:
        if under is not None:
            self._must_hold(under.run, under.fence)
        before = self.get(service, no)
        if (before.judgement, before.why) == (judgement, why):
            return before
        after = replace(before, judgement=judgement, judged_at=now, why=why)
        self.recorded[service][no - 1] = after
        self.audit.record(now, version_judged(before, after, actor))
        return after
