"""``ha-tasks check --connect``: what a PostgreSQL cluster that answers may be wrong about all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from ha_tasks.cli.connections import Answer
from ha_tasks.errors import HaTasksError
from ha_tasks.model.clocks import clock_off_by_s
from ha_tasks.model.platform import Service, ServiceKind
from ha_tasks.model.replication import ReplicationReport
from ha_tasks.model.replication_findings import Finding, FindingCode, Severity

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System

MOST_SKEW_S = 5.0
"""Between our clock and an agent's; from 30 s on it does not take our signature."""
PASSING = frozenset({FindingCode.LAG, FindingCode.RECEIVER_SILENT, FindingCode.SILENT})
"""No fault of how a cluster is set up; a server that cannot be asked has a row of its own."""


def replication_answers(system: System) -> Iterator[Answer]:
    """One row for each thing that is wrong about a cluster, or about the clock of a node's agent."""
    databases = [s for s in system.platform.services.values() if s.kind is ServiceKind.POSTGRES]
    with suppress(HaTasksError):  # a store that does not answer is told in a row of its own
        for service in filter(lambda s: s.replicates, system.platform.services.values()):
            yield from rows(service, system.replication.check(service))
    for service in databases:
        for instance in service.instances:
            yield from _clock(system, instance.name, instance.host)


def bad_input(report: ReplicationReport) -> tuple[Finding, ...]:
    """What is wrong about how a cluster is set up."""
    return tuple(f for f in report.findings if f.severity is not Severity.NOTE and f.code not in PASSING)


def rows(service: Service, report: ReplicationReport) -> Iterator[Answer]:
    """What is wrong about it, each where it is."""
    for finding in bad_input(report):
        place = f".instances.{finding.node}" if finding.node else ""
        what = f"services.{service.name}{place} (replication)"
        yield Answer(what=what, ok=False, said=finding.problem, remedy=finding.remedy)


def _clock(system: System, node: str, host: str) -> Iterator[Answer]:
    asked = system.clock.now()
    try:
        status = system.agents.status(node)
    except HaTasksError:  # a silent agent has a row of its own
        return
    told = skewed(status.clock, asked, system.clock.now())
    if told:
        remedy = "set it by NTP (chrony, systemd-timesyncd): from 30 s on the agent takes no command of ours"
        yield Answer(what=f"hosts.{host} (clock)", ok=False, said=told, remedy=remedy)


def skewed(clock: float | None, asked: datetime, answered: datetime) -> str:
    """How far a clock that was read between two moments of ours is off; '' when it may be right."""
    off_s = 0.0 if clock is None else clock_off_by_s(clock, asked, answered)
    if abs(off_s) <= MOST_SKEW_S:
        return ""
    return f"the agent's clock is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} ours"
