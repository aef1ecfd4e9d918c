"""Probes PostgreSQL nodes: a new session, one SELECT, and a word of the node's agent beside it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.looking import Sight, Vantage
from ha_tasks.adapters.postgres_session import Passwords, Row, Session, SessionFailed, control_logins
from ha_tasks.errors import HaTasksError
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import DatabaseAgent

AGENT_TIMEOUT_S = 0.4

_FACTS = """
SELECT r.standby::int,
       CASE WHEN r.standby
            THEN coalesce(w.received_tli, nullif(c.min_recovery_end_timeline, 0), k.timeline_id)
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
       CASE WHEN r.standby
            THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn,
       coalesce(w.status = 'streaming'
                AND w.last_msg_receipt_time > clock_timestamp() - interval '2 seconds', false)::int,
       (w.pid IS NOT NULL AND w.status IS NULL)::int,
       s.waits, d.waits,
       CASE WHEN NOT r.standby AND NOT EXISTS (SELECT FROM pg_stat_replication WHERE state IS NULL)
            THEN (SELECT coalesce(string_agg(application_name, ','), '') FROM pg_stat_replication
                   WHERE state IN ('streaming', 'catchup')) END
  FROM (SELECT pg_is_in_recovery() AS standby) r
 CROSS JOIN pg_control_recovery() c
 CROSS JOIN pg_control_checkpoint() k
  LEFT JOIN pg_stat_wal_receiver w ON true
  LEFT JOIN LATERAL (
       SELECT pid || '@' || xact_start AS waits FROM pg_stat_activity
        WHERE wait_event = 'SyncRep' AND xact_start IS NOT NULL ORDER BY query_start LIMIT 1) s ON true
  LEFT JOIN LATERAL (
       SELECT pid || '@' || xact_start AS waits FROM pg_stat_activity
        WHERE (wait_event ~* '^wal(init)?(write|sync)$' AND wait_event_type IN ('IO', 'LWLock'))
          AND xact_start IS NOT NULL ORDER BY query_start LIMIT 1) d ON true
"""
"""A standby's control file names its timeline only since its last restart point, the receiver at once.
Wait events of the WAL are spelled WALSync, and WalSync since PostgreSQL 17; who waits for another that
writes waits for the lock WALWrite.
"""


class PostgresProber:
    """See ports/probes.py, and ProbeOutcome for the facts.

    ERROR means that the server itself answered (too many clients, starting up, wrong password): it is
    alive. A connection that was lost without a word counts as TIMEOUT. ``agents`` None: there are none.
    """

    def __init__(
        self, *, password: Passwords, agents: DatabaseAgent | None, vantage: str, clock: Clock
    ) -> None:
        self._logins = control_logins(password)
        self._agents = agents
        self._vantage = Vantage(vantage, clock)
        self._clock = clock

    def probe(self, service: Service, instances: Sequence[Instance]) -> list[ProbeOutcome]:
        """One outcome per node, side by side; reads only."""
        if not instances:
            return []
        limit_s = min(AGENT_TIMEOUT_S, service.check.timeout_s)
        with ThreadPoolExecutor(max_workers=len(instances), thread_name_prefix="agent") as pool:
            words = [pool.submit(self._word, instance.name, limit_s) for instance in instances]
            outcomes = self._vantage.outcomes(
                service, instances, lambda instance: self._look(service, instance)
            )
            return [_with_word(outcome, word) for outcome, word in zip(outcomes, words, strict=True)]

    def _look(self, service: Service, instance: Instance) -> Sight:
        try:
            return self._asked(service, instance)
        except SessionFailed as failure:
            return Sight(kind=failure.kind, detail=failure.detail)

    def _asked(self, service: Service, instance: Instance) -> Sight:
        limit_s = service.check.timeout_s
        within = Deadline(self._clock, limit_s)
        login = self._logins(service)
        with Session(instance.address, login, within=within, statement_timeout_s=limit_s) as session:
            return _judged(session.query(_FACTS, within=within)[0], login.user)

    def _word(self, node: str, timeout_s: float) -> Json | None:
        """None when the agent is silent, or says nothing that we may believe."""
        if self._agents is None:
            return None
        try:
            status = self._agents.status(node, timeout_s=timeout_s)
        except HaTasksError:  # silence is a fact here, not an error: it is what None says
            return None
        return {
            "postmaster": str(status.postmaster),
            "epoch": status.epoch,
            "stopped": status.stopped,
            "unanswered_s": status.unanswered_s,
            "self_fenced": status.self_fenced,
        }


def _with_word(outcome: ProbeOutcome, word: Future[Json | None]) -> ProbeOutcome:
    return replace(outcome, facts={**outcome.facts, "agent": word.result()})


def _judged(row: Row, user: str) -> Sight:
    standby, timeline, lsn, receiving, hidden = (int(value or 0) for value in row[:5])
    if hidden:  # "not receiving" would be a lie, and it is evidence against the primary
        detail = f"role {user} may not see pg_stat_wal_receiver: GRANT pg_read_all_stats TO {user}"
        return Sight(kind=OutcomeKind.ERROR, detail=detail)
    facts: dict[str, Any] = {
        "in_recovery": bool(standby),
        "timeline": timeline,
        "lsn": lsn,
        "receiving": bool(receiving),
        "waits": {name: wait for name, wait in zip(("sync", "wal"), row[5:7], strict=True) if wait},
    }
    if row[7] is not None:
        facts["standbys"] = sorted(filter(None, row[7].split(",")))
    return Sight(facts=facts)
