"""Leaderships and claimed ticks in memory: fakes of the ports of that name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ha_tasks.errors import StaleFence
from ha_tasks.model.leadership import NOBODY, Lease
from ha_tasks.model.schedule import Move, Tick, TickState, state_when_claimed
from ha_tasks.names import Counter
from ha_tasks.ports.ledger import Ledger


class FakeLeadership:
    """Leases in a dictionary. ``failure``: every verb raises it."""

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.failure: Exception | None = None

    def look(self, name: str) -> Lease | None:
        self._answer()
        return self.leases.get(name)

    def take(self, name: str, seen: Lease | None, holder: str, until: datetime) -> Lease | None:
        self._answer()
        if self.leases.get(name) != seen:
            return None
        fence = 1 if seen is None else seen.fence + 1
        self.leases[name] = Lease(holder=holder, fence=fence, lease_until=until)
        return self.leases[name]

    def renew(self, name: str, fence: int, until: datetime) -> bool:
        self._answer()
        lease = self.leases.get(name)
        if lease is None or lease.fence != fence or lease.holder == NOBODY:
            return False
        self.leases[name] = replace(lease, lease_until=until)
        return True

    def release(self, name: str, fence: int, now: datetime) -> None:
        self._answer()
        lease = self.leases.get(name)
        if lease is not None and lease.fence == fence:
            self.leases[name] = replace(lease, holder=NOBODY, lease_until=now)

    def _answer(self) -> None:
        if self.failure is not None:
            raise self.failure


class FakeTickBook:
    """Ticks in a dictionary; what was missed goes to a ledger."""

    def __init__(self, leadership: FakeLeadership, ledger: Ledger) -> None:
        self.leadership = leadership
        self.ledger = ledger
        self.newest: dict[str, Tick] = {}

    def ticks(self) -> Mapping[str, Tick]:
        self.leadership.look("")
        return dict(self.newest)

    def claim(
        self, leadership: str, fence: int, moves: Sequence[Move], now: datetime, until: datetime
    ) -> tuple[Move, ...]:
        if not self.leadership.renew(leadership, fence, until):
            raise StaleFence(f"fence {fence} is no longer that of {leadership}")
        claimed = tuple(move for move in moves if self.newest.get(move.entry.name) == move.before)
        for move in claimed:
            self.newest[move.entry.name] = Tick(
                due_at=move.due_at, fence=fence, state=state_when_claimed(move), changed_at=now
            )
            self._count(move, move.missed)
        return claimed

    def settle(self, fence: int, sent: Sequence[Move], owed: Sequence[Move], now: datetime) -> None:
        self.leadership.look("")
        for move in owed:
            self._settled(move, fence, TickState.OWED, now)
        for move in sent:
            if self._settled(move, fence, TickState.SENT, now):
                self._count(move, int(move.again))

    def _settled(self, move: Move, fence: int, state: TickState, now: datetime) -> bool:
        tick = self.newest.get(move.entry.name)
        mine = tick is not None and (tick.due_at, tick.fence, tick.state) == (
            move.due_at,
            fence,
            TickState.CLAIMED,
        )
        if mine:
            self.newest[move.entry.name] = replace(tick, state=state, changed_at=now)
        return mine

    def _count(self, move: Move, number: int) -> None:
        if number:
            labels = {"entry": move.entry.name, "handling": str(move.entry.missed)}
            self.ledger.count(Counter.SCHEDULE_MISSED, labels, number)
