"""Maintenance windows in memory. See ports/maintenance.py for the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from threading import RLock

from ha_tasks.model.deeds import maintenance_added, maintenance_ended
from ha_tasks.model.maintenance import Window
from ha_tasks.ports.maintenance import NewWindow
from tests.fakes.audit import FakeAudit
from tests.fakes.locked import one_at_a_time


class FakeMaintenanceBook:
    """Windows in a dictionary."""

    def __init__(self, audit: FakeAudit | None = None) -> None:
        self.lock = RLock()
        self.audit = audit or FakeAudit()
        self.windows: dict[int, Window] = {}

    @one_at_a_time
    def add(self, new: NewWindow, now: datetime) -> Window:
        window = Window(
            id=len(self.windows) + 1,
            scope=new.scope,
            actor=new.actor,
            reason=new.reason,
            created_at=now,
            starts_at=new.starts_at,
            ends_at=new.ends_at,
            rule=new.rule,
        )
        self.windows[window.id] = window
        self.audit.record(now, maintenance_added(window))
        return window

    @one_at_a_time
    def standing(self, now: datetime) -> tuple[Window, ...]:
        return tuple(
            w for w in self.windows.values() if w.ended_at is None and (w.ends_at is None or w.ends_at > now)
        )

    @one_at_a_time
    def end(self, window: int, now: datetime, actor: str) -> Window:
        found = self.windows[window]
        if found.ended_at is None:
            self.windows[window] = replace(found, ended_at=now, ended_by=actor)
            self.audit.record(now, maintenance_ended(self.windows[window], actor))
        return self.windows[window]
