"""What databases say of themselves, judged: connections, memory, replication, age of transactions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ha_tasks.model.plain import Json
from ha_tasks.model.replication_findings import Severity
from ha_tasks.model.system_health import CAUTION, DOWN, IMPAIRED, WELL, Examined, judged, use_score

CONNECTIONS_LIMIT = 0.85
XIDS = 2**31
XID_LIMIT = 0.5
"""Of the 2^31 transactions after which PostgreSQL takes no writes; autovacuum acts at a tenth of it."""
MEMORY_LIMIT = 0.9
PICTURE_LASTS = timedelta(seconds=60)
"""What the scheduled look at replication saw longer ago says nothing about now."""
_SCORES = {Severity.CRITICAL: IMPAIRED, Severity.WARNING: CAUTION, Severity.NOTE: WELL}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresPressure:
    """Of one server: sessions and how many it takes, and the age in transactions of its oldest database."""

    sessions: int
    most_sessions: int
    oldest_xid_age: int


def postgres_examined(subject: str, found: PostgresPressure) -> list[Examined]:
    """Room for sessions, and for transactions."""
    share, age = found.sessions / max(1, found.most_sessions), found.oldest_xid_age / XIDS
    sessions, xids = use_score(share, CONNECTIONS_LIMIT), use_score(age, XID_LIMIT)
    return [
        judged(
            subject,
            "connections",
            sessions,
            problem=f"{found.sessions} of {found.most_sessions} sessions are taken",
            remedy="SELECT usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2 shows who; "
            "end idle ones, pool them, or raise max_connections",
            facts={"sessions": found.sessions, "most": found.most_sessions},
        ),
        judged(
            subject,
            "transaction ids",
            xids,
            problem=f"the oldest database is {found.oldest_xid_age:,} transactions old, of {XIDS:,}",
            remedy="end old transactions (prepared ones too), drop dead slots, then VACUUM (FREEZE)",
            facts={"age": found.oldest_xid_age},
        ),
    ]


def replication_examined(service: str, picture: tuple[datetime, Json] | None, now: datetime) -> Examined:
    """By the latest picture of the scheduled look; the worst of what it found is told, and how many more."""
    if picture is None or now - picture[0] > PICTURE_LASTS:
        return Examined(
            subject=service,
            check="replication",
            score=None,
            problem="nobody has looked at its replication lately",
            remedy=f"does a worker serve the queue probes? ask now: ha-tasks replication {service}",
        )
    findings = sorted(picture[1]["findings"], key=lambda f: _SCORES[Severity(f["severity"])])
    if not findings or findings[0]["severity"] == Severity.NOTE:
        return Examined(subject=service, check="replication", facts=_risk(picture[1]))
    first, grave = findings[0], [f for f in findings if f["severity"] != Severity.NOTE]
    more = f" (and {len(grave) - 1} more)" if grave[1:] else ""
    return Examined(
        subject=service,
        check="replication",
        score=_SCORES[Severity(first["severity"])],
        problem=f"{first['node'] or service} {first['problem']}{more}",
        remedy=first["remedy"],
        facts=_risk(picture[1]),
    )


def _risk(picture: Json) -> Json:
    """What a failover now would lose, in short."""
    return {f"risk_{key}": picture["risk"].get(key) for key in ("certainty", "bytes")}


def redis_examined(subject: str, said: Mapping[str, str]) -> list[Examined]:
    """By the fields of INFO. What a version does not say is not judged."""
    return [_clients(subject, said), _memory(subject, said), _link(subject, said), _saving(subject, said)]


def _clients(subject: str, said: Mapping[str, str]) -> Examined:
    taken, most = _number(said, "connected_clients"), _number(said, "maxclients")
    return judged(
        subject,
        "connections",
        use_score(taken / most, CONNECTIONS_LIMIT) if most else WELL,
        problem=f"{taken} of {most} connections are taken",
        remedy="CLIENT LIST shows who; close idle ones (CONFIG SET timeout), or raise maxclients",
        facts={"clients": taken, "most": most},
    )


def _memory(subject: str, said: Mapping[str, str]) -> Examined:
    """A cache that evicts may be full; one that may not evict refuses writes then."""
    used, most = _number(said, "used_memory"), _number(said, "maxmemory")
    evicts = said.get("maxmemory_policy", "noeviction") != "noeviction"
    return judged(
        subject,
        "memory",
        use_score(used / most, MEMORY_LIMIT) if most and not evicts else WELL,
        problem=f"{used:,} of {most:,} bytes of maxmemory are used, and nothing is evicted: writes fail then",
        remedy="raise maxmemory, or let it evict: CONFIG SET maxmemory-policy allkeys-lru",
        facts={"used_bytes": used, "most_bytes": most},
    )


def _link(subject: str, said: Mapping[str, str]) -> Examined:
    role = said.get("role", "")
    broken = role == "slave" and said.get("master_link_status") != "up"
    lag_s = _number(said, "master_last_io_seconds_ago")
    return judged(
        subject,
        "replication",
        IMPAIRED if broken else WELL,
        problem="it is a replica, and its link to the primary is down",
        remedy="is the primary up, and do masterauth and the network fit? INFO replication on both says more",
        facts={"role": role, "replicas": _number(said, "connected_slaves"), "last_io_s": lag_s},
    )


def _saving(subject: str, said: Mapping[str, str]) -> Examined:
    snapshot, log = said.get("rdb_last_bgsave_status", "ok"), said.get("aof_last_write_status", "ok")
    loading = said.get("loading", "0") == "1"
    failed = snapshot != "ok" or log != "ok"
    problem = "it loads its data, and serves nothing yet" if loading else "its last save to disk failed"
    return judged(
        subject,
        "persistence",
        DOWN if loading else IMPAIRED if failed else WELL,
        problem=problem,
        remedy="wait until it has loaded"
        if loading
        else "look into its log and for room on its disk; then BGSAVE",
        facts={"snapshot": snapshot, "log": log},
    )


def _number(said: Mapping[str, str], key: str) -> int:
    text = said.get(key, "0")
    return int(text) if text.lstrip("-").isdigit() else 0
