"""One question to a PostgreSQL server about its replication, settings and rights, and its answer as a value.

Whole rows of views go over as JSON, so that one text serves every version: what a version does not have is
not in its answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ha_tasks.model.cluster import parse_lsn
from ha_tasks.model.plain import Json
from ha_tasks.model.replication import NodeReading, Receiver, Sender, Slot, Weakening

SETTINGS = (
    "synchronous_commit",
    "synchronous_standby_names",
    "fsync",
    "full_page_writes",
    "wal_log_hints",
    "data_checksums",
    "hot_standby",
    "recovery_min_apply_delay",
    "max_slot_wal_keep_size",
    "wal_sender_timeout",
    "wal_receiver_timeout",
    "wal_receiver_status_interval",
    "wal_retrieve_retry_interval",
)

READING = """
SELECT jsonb_build_object(
  'version', current_setting('server_version_num')::int,
  'system', (SELECT system_identifier::text FROM pg_control_system()),
  'standby', r.standby,
  'timeline', CASE WHEN r.standby
      THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
                    nullif((SELECT min_recovery_end_timeline FROM pg_control_recovery()), 0),
                    (SELECT timeline_id FROM pg_control_checkpoint()))
      ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
  'lsn', w.lsn,
  'replayed', CASE WHEN r.standby THEN pg_last_wal_replay_lsn() END,
  'replayed_ago_s', extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()),
  'receiver', (SELECT to_jsonb(x) || jsonb_build_object(
        'silent_s', extract(epoch FROM clock_timestamp() - last_msg_receipt_time))
      FROM pg_stat_wal_receiver x WHERE pid IS NOT NULL),
  'senders', (SELECT jsonb_agg(to_jsonb(x) || jsonb_build_object(
        'flush_lag_s', extract(epoch FROM flush_lag), 'replay_lag_s', extract(epoch FROM replay_lag))
        ORDER BY application_name) FROM pg_stat_replication x),
  'slots', (SELECT jsonb_agg(to_jsonb(x) || jsonb_build_object('holds', w.lsn - restart_lsn)
        ORDER BY slot_name) FROM pg_replication_slots x WHERE NOT temporary),
  'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings
        WHERE name = ANY(string_to_array($1, ','))
          AND source NOT IN ('client', 'session')),
  'pending_restart', (SELECT jsonb_agg(name ORDER BY name) FROM pg_settings WHERE pending_restart),
  'weakened', (SELECT jsonb_agg(jsonb_build_object(
        'role', coalesce(a.rolname, ''), 'database', coalesce(d.datname, ''),
        'value', lower(split_part(c, '=', 2))) ORDER BY a.rolname, d.datname)
      FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c
      LEFT JOIN pg_roles a ON a.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
      WHERE c LIKE 'synchronous_commit=%'),
  'sees', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
  'checkpoints', pg_has_role(current_user, 'pg_checkpoint', 'USAGE'),
  'cannot_end', (SELECT jsonb_agg(DISTINCT usename) FROM pg_stat_replication
      WHERE usename IS NOT NULL AND NOT pg_has_role(current_user, usesysid, 'USAGE')
        AND NOT pg_has_role(current_user, 'pg_signal_backend', 'USAGE')),
  'writes', coalesce(
      (SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
          AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
          AND has_table_privilege(c.oid, 'DELETE')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'ha' AND c.relname = 'canary'),
      has_database_privilege(current_database(), 'CREATE')),
  'user', current_user, 'database', current_database())
FROM (SELECT pg_is_in_recovery() AS standby) r
CROSS JOIN LATERAL (SELECT CASE WHEN r.standby
    THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
    ELSE pg_current_wal_flush_lsn() END AS lsn) w
"""
"""Reads only; ``$1`` are the names of ``SETTINGS``. Who has no pg_read_all_stats sees half of it."""

_WEAKER = frozenset({"off", "local", "remote_write", "false", "no", "0"})


def reading_of(node: str, text: str) -> NodeReading:
    """The answer to ``READING``. ValueError, or KeyError, when it is none."""
    said: Json = json.loads(text)
    return NodeReading(
        node=node,
        system_identifier=str(said["system"]),
        version=int(said["version"]),
        in_recovery=bool(said["standby"]),
        timeline=int(said["timeline"]),
        lsn=_lsn(said["lsn"]) or 0,
        replayed=_lsn(said["replayed"]),
        replayed_ago_s=_seconds(said["replayed_ago_s"]),
        receiver=_receiver(said["receiver"]),
        senders=tuple(_sender(row) for row in said["senders"] or () if row["application_name"]),
        slots=tuple(_slot(row) for row in said["slots"] or ()),
        settings=dict(said["settings"] or {}),
        pending_restart=tuple(said["pending_restart"] or ()),
        weakened=tuple(Weakening(**row) for row in said["weakened"] or () if row["value"] in _WEAKER),
        lacking=tuple(_lacking(said)),
    )


def _receiver(row: Mapping[str, Any] | None) -> Receiver | None:
    if row is None or row["status"] is None:
        return None
    return Receiver(
        status=str(row["status"]),
        upstream=f"{row['sender_host']}:{row['sender_port']}",
        slot=str(row["slot_name"] or ""),
        silent_s=_seconds(row["silent_s"]),
    )


def _sender(row: Mapping[str, Any]) -> Sender:
    return Sender(
        name=str(row["application_name"]),
        state=str(row["state"] or ""),
        sync_state=str(row["sync_state"] or ""),
        sent=_lsn(row["sent_lsn"]),
        written=_lsn(row["write_lsn"]),
        flushed=_lsn(row["flush_lsn"]),
        replayed=_lsn(row["replay_lsn"]),
        flush_lag_s=_seconds(row["flush_lag_s"]),
        replay_lag_s=_seconds(row["replay_lag_s"]),
    )


def _slot(row: Mapping[str, Any]) -> Slot:
    """``invalidation_reason`` is PostgreSQL 17's; before that a slot that was given up is "lost"."""
    given_up = row.get("invalidation_reason") is not None
    return Slot(
        name=str(row["slot_name"]),
        physical=row["slot_type"] == "physical",
        active=bool(row["active"]),
        wal_status="lost" if given_up else row["wal_status"],
        holds=None if row["holds"] is None else max(0, int(row["holds"])),
        room=None if row["safe_wal_size"] is None else int(row["safe_wal_size"]),
    )


def _lacking(said: Json) -> Sequence[str]:
    """The statements that give the rights that are missing."""
    user, missing = said["user"], []
    if not said["sees"]:
        missing.append(f"GRANT pg_read_all_stats TO {user}")
    if not said["checkpoints"]:
        missing.append(f"GRANT pg_checkpoint TO {user}")
    missing += [f"GRANT {role} TO {user}" for role in said["cannot_end"] or ()]
    if not said["writes"]:
        missing.append(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ha.canary TO {user} in database {said['database']} "
            "(ha_tasks/privileges/database-rights.sql)"
        )
    return missing


def _lsn(text: str | None) -> int | None:
    return None if text is None else parse_lsn(text)


def _seconds(value: float | None) -> float | None:
    """Never below 0: the clocks of two servers differ."""
    return None if value is None else max(0.0, float(value))
