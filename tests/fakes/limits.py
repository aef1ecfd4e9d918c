"""Cool-downs, switches and refusals in memory. See ports/limits.py for the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from threading import RLock

from ha_tasks.model.cooldown import CoolDown
from ha_tasks.model.deeds import cool_downs_acknowledged, switch_set
from ha_tasks.model.switch import Switch
from tests.fakes.audit import FakeAudit
from tests.fakes.locked import one_at_a_time


class FakeLimits:
    """Cool-downs, switches and refusals in dictionaries."""

    def __init__(self, audit: FakeAudit | None = None) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self.cooldowns: dict[tuple[str, str], CoolDown] = {}
        self.engaged: dict[tuple[str, str], Switch] = {}
        self.refusals: dict[tuple[int, str], int] = {}
        self.latest: dict[int, str] = {}

    @one_at_a_time
    def cool(self, scope: str, playbook: str, until: datetime, *, length_s: float | None = None) -> None:
        self.cooldowns[scope, playbook] = CoolDown(until=until, length_s=length_s or 0.0)

    @one_at_a_time
    def cooling(self, scope: str, playbook: str) -> datetime | None:
        found = self.cooldowns.get((scope, playbook))
        return None if found is None or found.acknowledged else found.until

    @one_at_a_time
    def cooldown(self, scope: str, playbook: str) -> CoolDown | None:
        return self.cooldowns.get((scope, playbook))

    @one_at_a_time
    def acknowledge(self, scope: str, now: datetime, actor: str) -> tuple[str, ...]:
        standing = ((s, p) for (s, p), c in self.cooldowns.items() if c.until > now and not c.acknowledged)
        ended = sorted(playbook for named, playbook in standing if named == scope)
        for playbook in ended:
            found = self.cooldowns[scope, playbook]
            self.cooldowns[scope, playbook] = replace(found, acknowledged=True)
        self.audit.record(now, *cool_downs_acknowledged(scope, ended, actor))
        return tuple(ended)

    @one_at_a_time
    def switch(self, name: str, scope: str = "") -> str | None:
        found = self.engaged.get((name, scope))
        return None if found is None else found.actor

    @one_at_a_time
    def switches(self) -> tuple[Switch, ...]:
        return tuple(switch for _, switch in sorted(self.engaged.items()))

    @one_at_a_time
    def set_switch(
        self, name: str, engaged: bool, actor: str, reason: str, now: datetime, *, scope: str = ""
    ) -> None:
        old = self.engaged.pop((name, scope), None)
        before = None if old is None else old.actor
        told = switch_set(name, scope, before=before, engaged=engaged, actor=actor, reason=reason)
        self.audit.record(now, *told)
        if engaged:
            self.engaged[name, scope] = Switch(name=name, scope=scope, actor=actor, reason=reason, since=now)

    @one_at_a_time
    def refused(self, incident: int, guard: str, detail: str, now: datetime) -> bool:
        times = self.refusals.get((incident, guard), 0) + 1
        self.refusals[incident, guard] = times
        self.latest[incident] = guard
        return times == 1

    @one_at_a_time
    def last_refusal(self, incident: int) -> str | None:
        return self.latest.get(incident)
