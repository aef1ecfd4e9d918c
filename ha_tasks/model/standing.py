"""What a server's own settings and rights make impossible, slow or unsafe. Pure.

What the protocol needs of each setting: docs/howto/replication.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ha_tasks.model.replication import NodeReading
from ha_tasks.model.replication_findings import Finding, FindingCode, Severity

WAITS = ("on", "remote_apply")
"""Values of synchronous_commit with which a commit waits until a standby has it on disk."""
_SLOWEST: Mapping[str, tuple[float, float, str]] = {
    "wal_sender_timeout": (5000, 1000, "5s"),
    "wal_receiver_timeout": (5000, 1000, "5s"),
    "wal_retrieve_retry_interval": (1000, 1000, "200ms"),
    "wal_receiver_status_interval": (2, 1, "1s"),
}
"""Setting -> (most of it in its base unit, base units per second, what to set)."""


def standing_findings(said: NodeReading, *, ours: bool = True) -> Iterator[Finding]:
    """Everything about one node. ``ours``: it may be promoted, revoked and rejoined by us."""
    yield from _commits(said)
    yield from _durability(said)
    yield from _rights(said)
    yield from _later(said)
    if ours:
        yield from _rewind(said)
        yield from _standby(said)
        yield from _slow(said)


def _finding(
    said: NodeReading, code: FindingCode, severity: Severity, problem: str, remedy: str, *, subject: str = ""
) -> Finding:
    return Finding(
        code=code, severity=severity, node=said.node, problem=problem, remedy=remedy, subject=subject
    )


def _commits(said: NodeReading) -> Iterator[Finding]:
    """Settings travel with the data: of a standby they say what its primary's say."""
    if said.in_recovery:
        return
    code, everywhere = FindingCode.COMMIT_WEAKENED, said.settings.get("synchronous_commit", "on")
    if everywhere not in WAITS:
        yield _finding(
            said,
            code,
            Severity.CRITICAL,
            f"synchronous_commit = {everywhere}: no commit waits for a standby, so a failover loses some",
            "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()",
        )
    for weak in said.weakened:
        if weak.value in WAITS:
            continue
        yield _finding(
            said,
            code,
            Severity.WARNING,
            f"synchronous_commit = {weak.value} for {_whom(weak.role, weak.database)}: a failover may lose "
            "what it has committed",
            f"{_statement(weak.role, weak.database)} RESET synchronous_commit",
            subject=f"{weak.role or '*'}@{weak.database or '*'}",
        )


def _whom(role: str, database: str) -> str:
    return " in ".join(filter(None, (role and f"role {role}", database and f"database {database}")))


def _statement(role: str, database: str) -> str:
    if not role:
        return f'ALTER DATABASE "{database}"'
    return f'ALTER ROLE "{role}"' + (f' IN DATABASE "{database}"' if database else "")


def _durability(said: NodeReading) -> Iterator[Finding]:
    for name in ("fsync", "full_page_writes"):
        if said.settings.get(name) == "off":
            yield _finding(
                said,
                FindingCode.UNSAFE_SETTING,
                Severity.CRITICAL,
                f"{name} = off: a power failure can leave data that no recovery mends",
                f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()",
                subject=name,
            )


def _rights(said: NodeReading) -> Iterator[Finding]:
    if said.lacking:
        yield _finding(
            said,
            FindingCode.RIGHTS_MISSING,
            Severity.WARNING,
            "our role lacks rights without which a recovery stops half-way",
            "; ".join(said.lacking),
        )


def _later(said: NodeReading) -> Iterator[Finding]:
    if said.pending_restart:
        yield _finding(
            said,
            FindingCode.PENDING_RESTART,
            Severity.NOTE,
            f"a restart would change {', '.join(said.pending_restart)}",
            "restart it when it suits, a standby first",
        )


def _rewind(said: NodeReading) -> Iterator[Finding]:
    hints, sums = said.settings.get("wal_log_hints"), said.settings.get("data_checksums")
    if (hints, sums) == ("off", "off"):
        yield _finding(
            said,
            FindingCode.NO_REWIND,
            Severity.WARNING,
            "has neither wal_log_hints nor data checksums, so a node that diverged can only be copied anew",
            "ALTER SYSTEM SET wal_log_hints = on, then restart it",
        )


def _standby(said: NodeReading) -> Iterator[Finding]:
    """Of every node: each may have to stand by tomorrow."""
    if said.settings.get("hot_standby") == "off":
        yield _finding(
            said,
            FindingCode.NO_SESSIONS,
            Severity.WARNING,
            "hot_standby = off: as a standby it takes no session, so it can be neither revoked nor promoted",
            "ALTER SYSTEM SET hot_standby = on, then restart it",
        )
    delay_ms = _number(said, "recovery_min_apply_delay")
    if delay_ms:
        yield _finding(
            said,
            FindingCode.APPLY_DELAY,
            Severity.WARNING,
            f"recovery_min_apply_delay = {delay_ms / 1000:g} s: a promotion would wait for it",
            "ALTER SYSTEM RESET recovery_min_apply_delay; SELECT pg_reload_conf()",
        )


def _slow(said: NodeReading) -> Iterator[Finding]:
    """What makes a failure be noticed late, or lets a dead standby fill the disk."""
    for name, (most, per_s, wanted) in _SLOWEST.items():
        value = _number(said, name)
        if value is not None and (value > most or value == 0):
            shown = "off" if value == 0 else f"{value / per_s:g} s"
            yield _finding(
                said,
                FindingCode.SLOW_SETTING,
                Severity.NOTE,
                f"{name} = {shown}: silence is noticed late",
                f"ALTER SYSTEM SET {name} = '{wanted}'; SELECT pg_reload_conf()",
                subject=name,
            )
    if said.settings.get("max_slot_wal_keep_size") == "-1":
        yield _finding(
            said,
            FindingCode.SLOW_SETTING,
            Severity.NOTE,
            "max_slot_wal_keep_size is not set: the slot of a dead standby keeps WAL until the disk is full",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '...'; SELECT pg_reload_conf()",
            subject="max_slot_wal_keep_size",
        )


def _number(said: NodeReading, name: str) -> float | None:
    value = said.settings.get(name)
    return None if value is None else float(value)
