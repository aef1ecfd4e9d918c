"""A PostgreSQL cluster asked from inside: a row written and read back, room for sessions and transactions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import uuid4

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.looking import side_by_side
from ha_tasks.adapters.postgres_session import Passwords, Session, control_logins
from ha_tasks.errors import HaTasksError
from ha_tasks.model.database_health import PostgresPressure, postgres_examined
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.system_health import DOWN, IMPAIRED, Examined
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.postgres import PostgresControl

_PRESSURE = """
SELECT (SELECT sum(numbackends) FROM pg_stat_database),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT max(age(datfrozenxid)) FROM pg_database)
"""
CANARY = "canary"


class PostgresDepth:
    """Implements ports.checks.DeepCheck. The canary goes through the entry that clients use, and so waits for
    the synchronous standbys as their commits do.
    """

    def __init__(self, *, control: PostgresControl, password: Passwords, clock: Clock) -> None:
        self._control = control
        self._logins = control_logins(password)
        self._clock = clock

    def examine(self, service: Service, timeout_s: float) -> Sequence[Examined]:
        """See the port. Idempotent: a canary of its own each time, old ones are forgotten."""
        asked = [partial(self._node, service, node, timeout_s) for node in service.instances]
        if service.routing is not None and is_ours(service):
            asked.append(partial(self._canary, service, service.routing.entry, timeout_s))
        return [each for found in side_by_side(lambda ask: ask(), asked) for each in found]

    def _canary(self, service: Service, entry: str, timeout_s: float) -> list[Examined]:
        begun = self._clock.monotonic()
        try:
            node = self._control.write_canary(service, entry, f"health-{uuid4()}", timeout_s)
        except HaTasksError as error:
            problem = f"no row could be written and read back through {entry}: {error}"
            remedy = f"see: ha-tasks replication {service.name}; a commit that hangs waits for a standby, "
            remedy += "a refusal names the missing right"
            return [Examined(subject=service.name, check=CANARY, score=DOWN, problem=problem, remedy=remedy)]
        took_s = round(self._clock.monotonic() - begun, 4)
        return [Examined(subject=service.name, check=CANARY, facts={"node": node, "seconds": took_s})]

    def _node(self, service: Service, node: Instance, timeout_s: float) -> list[Examined]:
        within, subject = Deadline(self._clock, timeout_s), f"{service.name}/{node.name}"
        try:
            login = self._logins(service)
            with Session(node.address, login, within=within, statement_timeout_s=timeout_s) as session:
                sessions, most, age = (int(v or 0) for v in session.query(_PRESSURE, within=within)[0])
        except HaTasksError as failure:  # no session, or a password that cannot be read
            return [
                Examined(
                    subject=subject,
                    check="sessions",
                    score=IMPAIRED,
                    problem=f"it takes no session of ours: {failure}",
                    remedy=f"see: ha-tasks status; its log on {node.host or node.address} says more",
                )
            ]
        found = PostgresPressure(sessions=sessions, most_sessions=most, oldest_xid_age=age)
        return postgres_examined(subject, found)
