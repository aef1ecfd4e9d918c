"""A PostgreSQL cluster seen by SQL, in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.replication import NodeReading, Receiver, Sender, Slot
from ha_tasks.model.switchover import Transaction

SETTINGS = {
    "synchronous_commit": "on",
    "synchronous_standby_names": "",
    "fsync": "on",
    "full_page_writes": "on",
    "wal_log_hints": "on",
    "data_checksums": "off",
    "hot_standby": "on",
    "recovery_min_apply_delay": "0",
    "max_slot_wal_keep_size": "1024",
}


@dataclass
class FakeNode:
    """``standbys``: who streams from it -> flush position there, in bytes."""

    flush_lsn: int = 0x3000000
    primary: bool = False
    reachable: bool = True
    standbys: dict[str, int] = field(default_factory=dict)
    checkpoints: int = 0
    ended: list[str] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    said: dict[str, Any] = field(default_factory=dict)
    """What its reading says otherwise than the rest of this."""
    sync_setting: str = ""


class FakePostgresControl:
    """See ports/postgres.py. ``entries``: entry (host:port) -> the node behind it; None: nobody answers."""

    def __init__(self, nodes: dict[str, FakeNode], entries: dict[str, str | None] | None = None) -> None:
        self.nodes = nodes
        self.entries = entries or {}
        self.canaries: dict[tuple[str, str], str] = {}

    def flush_lsn(self, service: Service, node: Instance) -> int:
        return self._primary(node.name).flush_lsn

    def flushed_past(self, service: Service, primary: Instance, lsn: int) -> frozenset[str]:
        standbys = self._asked(primary.name).standbys
        return frozenset(name for name, flushed in standbys.items() if flushed >= lsn)

    def streaming(self, service: Service, primary: Instance) -> frozenset[str]:
        return frozenset(self._asked(primary.name).standbys)

    def receiving(self, service: Service, primary: Instance) -> frozenset[str]:
        return frozenset(self._asked(primary.name).standbys)

    def sync_setting(self, service: Service, primary: Instance) -> str:
        return self._asked(primary.name).sync_setting

    def checkpoint(self, service: Service, primary: Instance) -> None:
        self._asked(primary.name).checkpoints += 1

    def end_walsenders(self, service: Service, primary: Instance, names: Collection[str]) -> None:
        self._asked(primary.name).ended += sorted(names)

    def transactions(
        self, service: Service, primary: Instance, older_than_s: float
    ) -> tuple[Transaction, ...]:
        found = [t for t in self._asked(primary.name).transactions if t.age_s > older_than_s]
        return tuple(sorted(found, key=lambda t: -t.age_s))

    def system_identifier(self, service: Service, node: Instance) -> str:
        self._asked(node.name)
        return f"{service.name}-7000000000000000000"

    def reading(self, service: Service, node: Instance) -> NodeReading:
        it = self._asked(node.name)
        of = next((n for n, other in self.nodes.items() if node.name in other.standbys), None)
        address = "" if of is None else service.instance(of).address
        slot = f"ha_{node.name}"
        plain = NodeReading(
            node=node.name,
            system_identifier=self.system_identifier(service, node),
            version=180001,
            in_recovery=not it.primary,
            timeline=1,
            lsn=it.flush_lsn if of is None else self.nodes[of].standbys[node.name],
            replayed=None if of is None else self.nodes[of].standbys[node.name],
            receiver=None
            if of is None
            else Receiver(status="streaming", upstream=address, slot=slot, silent_s=0.1),
            senders=tuple(_sender(name, lsn) for name, lsn in it.standbys.items()),
            slots=tuple(Slot(name=f"ha_{n}", physical=True, active=True, holds=0) for n in it.standbys),
            settings=dict(it.settings),
        )
        return replace(plain, **it.said)

    def write_canary(self, service: Service, entry: str, token: str, timeout_s: float) -> str:
        name = self.entries.get(entry)
        if name is None:
            raise ServiceUnreachable(f"nobody answers at {entry}")
        node = self._primary(name)
        node.flush_lsn += 128
        self.canaries[service.name, token] = name
        return name

    def _primary(self, name: str) -> FakeNode:
        node = self._asked(name)
        if not node.primary:
            raise ServiceUnreachable(f"{name} is in recovery")
        return node

    def _asked(self, name: str) -> FakeNode:
        node = self.nodes[name]
        if not node.reachable:
            raise ServiceUnreachable(f"{name} does not answer")
        return node


def _sender(name: str, lsn: int) -> Sender:
    return Sender(name=name, state="streaming", sync_state="quorum", sent=lsn, flushed=lsn, replayed=lsn)
