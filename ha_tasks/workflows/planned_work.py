"""From a person's order of planned work to its run: plan, ask the guards, write it down, send the first step.

There is no incident: nothing has failed. The run holds the scope as every other does, so a recovery does not
begin beside it; what fails meanwhile is put back by the run itself, or recovered when it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import Refused
from ha_tasks.model.guards import PASSED, Guard, refusal
from ha_tasks.model.incident import TOLD, Incident, IncidentKind, IncidentState, incident_key
from ha_tasks.model.playbook import Plan
from ha_tasks.model.revision import UNREVISED, Standing
from ha_tasks.model.run import Run, RunState
from ha_tasks.model.verdict import Verdict, VerdictState
from ha_tasks.names import Counter
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import Incidents, Journal, NewRun
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.guard_facts import GuardFactsGatherer

NOT_ASKED = PASSED["manual"] | {Guard.APPROVAL}
"""Whoever orders planned work has approved it by that."""
SETTLED = (IncidentState.RESOLVED, IncidentState.MITIGATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """What is to be done to which instance, by whose word. ``key``: the same key again is the same run."""

    kind: IncidentKind
    service: str
    instance: str
    requested_by: str
    reason: str
    key: str


class PlannedWork:
    """Where people order switchovers, restarts and versions."""

    def __init__(
        self,
        *,
        planner: RecoveryPlanner,
        guards: GuardFactsGatherer,
        orchestrator: RecoveryOrchestrator,
        incidents: Incidents,
        journal: Journal,
        ledger: Ledger,
        clock: Clock,
        held: Callable[[], str | None] = lambda: None,
        standing: Callable[[], Standing] = lambda: UNREVISED,
    ) -> None:
        """``held`` and ``standing``: as for RunStarter."""
        self._planner = planner
        self._guards = guards
        self._orchestrator = orchestrator
        self._incidents = incidents
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._held = held
        self._standing = standing

    def subject(self, kind: IncidentKind, service: str, instance: str) -> Incident:
        """What is planned for, in the form in which a plan is made. It is nowhere written down."""
        now = self._clock.now()
        return Incident(
            id=0,
            key=incident_key(service, instance, kind),
            service=service,
            instance=instance,
            kind=kind,
            state=IncidentState.SUSPECT,
            severity="info",
            summary=f"{kind} of {instance}",
            fault_at=now,
            detected_at=now,
        )

    def plan(self, kind: IncidentKind, service: str, instance: str) -> Plan:
        """PlaybookError when there is no playbook for it, or the service is somebody else's."""
        return self._planner.create_recovery_plan(self.subject(kind, service, instance))

    def begin(self, ordered: Ordered, verdicts: Sequence[Verdict]) -> Run:
        """Starts the run, once per key; Refused with the reason when a guard says no.

        ScopeBusy when another run is active on the service. An open incident of the service refuses, too:
        what is half broken is mended first. Not so where another version of its files is ordered.
        """
        plan = self.plan(ordered.kind, ordered.service, ordered.instance)
        self._must_be_allowed(ordered, plan, verdicts)
        new = NewRun(
            plan=plan,
            incident=None,
            mode="manual",
            requested_by=ordered.requested_by,
            reason=ordered.reason,
            idempotency_key=ordered.key,
            revision=self._standing().own,
        )
        run, message = self._journal.create(new, self._clock.now())
        if message is not None:
            self._ledger.count(Counter.RECOVERIES, {"recovery_type": plan.recovery_type})
            self._orchestrator.send(message)
        return run

    def _in_the_way(self, ordered: Ordered) -> Iterable[Incident]:
        """Another version of what it is served from is how a service is mended: nothing has to be well."""
        return () if ordered.kind is IncidentKind.VERSION_ORDERED else self._incidents.current()

    def _must_be_allowed(self, ordered: Ordered, plan: Plan, verdicts: Sequence[Verdict]) -> None:
        held = self._held()
        if held is not None:
            raise Refused(held)
        for incident in self._in_the_way(ordered):
            mine = incident.service == ordered.service and incident.holds_key
            if mine and incident.kind not in TOLD and incident.state not in SETTLED:
                raise Refused(
                    f"I-{incident.id} is {incident.state}: {incident.summary}; mend that first: "
                    f"ha-tasks incidents {incident.id}"
                )
        blind = any(v.state is VerdictState.BLIND for v in verdicts)
        subject = self.subject(ordered.kind, ordered.service, ordered.instance)
        facts = self._guards.gather(subject, plan, blind=blind, verdicts=verdicts)
        refused = refusal(facts, NOT_ASKED)
        if refused is not None:
            raise Refused(f"refused by {refused.guard}: {refused.detail}")


def is_planned(run: Run) -> bool:
    """True for a run of planned work that may be at work: what it stops has not failed."""
    return run.incident is None and run.state is not RunState.AWAITING_APPROVAL
