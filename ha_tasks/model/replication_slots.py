"""Replication slots: the names of ours, whose they are, and what is wrong about those of one node. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from ha_tasks.model.plain import Facts
from ha_tasks.model.replication import NodeReading, Slot
from ha_tasks.model.replication_findings import Finding, FindingCode, Severity
from ha_tasks.model.revision import named_tables

HELD_BYTES = 256 * 1024 * 1024
"""WAL that an inactive slot may hold while its standby is away for a moment."""
PREFIX = "ha_"


def slot_name(node: str) -> str:
    """The physical replication slot through which ``node`` streams, the same on every upstream."""
    return PREFIX + re.sub(r"[^a-z0-9_]", "_", node.lower())


def is_abandoned(slot: Slot, nodes: Collection[str]) -> bool:
    """Named as ours are, of none of ``nodes``, read by nobody, and it keeps WAL (or has lost it)."""
    named = slot.physical and slot.name.startswith(PREFIX)
    idle = not slot.active and slot.wal_status is not None
    return named and idle and slot.name not in {slot_name(node) for node in nodes}


def left_by(slot: str, service: str, revisions: Collection[tuple[int, Facts]]) -> tuple[str, int] | None:
    """(the node whose slot it was, the revision of the inventory that took that node out); None: nobody's.

    ``revisions``: (number, content), newest first. None also when the newest has a node of that slot.
    """
    later = 0
    for no, body in revisions:
        owner = next((n for n in _instances(body, service) if slot_name(n) == slot), None)
        if owner is not None:
            return (owner, later) if later else None
        later = no
    return None


def _instances(body: Facts, service: str) -> Collection[str]:
    services = named_tables(body.get("services", {}))
    return tuple(named_tables(services.get(service, {})).get("instances", {}))


def slot_findings(said: NodeReading, nodes: Collection[str], *, ours: bool) -> Iterator[Finding]:
    """What is wrong about the slots of a server whose cluster has ``nodes``."""
    for slot in said.slots:
        drop = f"SELECT pg_drop_replication_slot('{slot.name}')"
        if ours and is_abandoned(slot, nodes):
            holds = f"holds {(slot.holds or 0) / 1024**2:.1f} MB of WAL"
            yield _warning(
                said.node,
                FindingCode.SLOT_ABANDONED,
                f"slot {slot.name} is of no instance of the cluster, is read by nobody and {holds}",
                "if `ha-tasks apply` took its node out it is dropped by itself, once agent.toml on "
                f"{said.node} names that node no more under [postgres.peers]; else drop it there: {drop}",
                slot.name,
            )
        elif slot.wal_status == "lost":
            yield _warning(
                said.node,
                FindingCode.SLOT_LOST,
                f"slot {slot.name} has lost WAL that its reader still needs",
                f"rejoin who reads it, or drop it: {drop}",
                slot.name,
            )
        elif not slot.active and (slot.holds or 0) > HELD_BYTES:
            yield _warning(
                said.node,
                FindingCode.SLOT_HOLDS_WAL,
                f"slot {slot.name} is read by nobody and holds {(slot.holds or 0) // 1024**2} MB of WAL",
                f"bring its reader back, or drop it: {drop}",
                slot.name,
            )


def _warning(node: str, code: FindingCode, problem: str, remedy: str, slot: str) -> Finding:
    return Finding(
        code=code, severity=Severity.WARNING, node=node, problem=problem, remedy=remedy, subject=slot
    )
