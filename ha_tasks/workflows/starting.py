"""From an incident to its run: plan, ask the guards, write it down, send the first step.

Whoever wants a run comes through here: detection, a person, another service. Any number may ask at the
same time: unique indexes make one run of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import IdempotencyConflict, PlaybookError, ScopeBusy
from ha_tasks.model.guards import Guard, Refusal, refusal
from ha_tasks.model.incident import Incident, IncidentState
from ha_tasks.model.playbook import Plan
from ha_tasks.model.run import Run
from ha_tasks.model.verdict import Verdict
from ha_tasks.names import Counter
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Incidents, Journal, NewRun
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.guard_facts import GuardFactsGatherer

WAITING = (IncidentState.OPEN, IncidentState.BLOCKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for, and by whom. ``mode``: auto, manual or drill."""

    incident: Incident
    mode: str
    requested_by: str
    reason: str
    idempotency_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of an order: a run (``new``: by this call), or the refusal, or neither (escalated)."""

    run: Run | None = None
    new: bool = False
    refused: Refusal | None = None


class RunStarter:
    """The only way to a run."""

    def __init__(
        self,
        *,
        planner: RecoveryPlanner,
        guards: GuardFactsGatherer,
        orchestrator: RecoveryOrchestrator,
        incidents: Incidents,
        journal: Journal,
        limits: Limits,
        ledger: Ledger,
        clock: Clock,
        actor: str,
    ) -> None:
        self._planner = planner
        self._guards = guards
        self._orchestrator = orchestrator
        self._incidents = incidents
        self._journal = journal
        self._limits = limits
        self._ledger = ledger
        self._clock = clock
        self._actor = actor

    def start(self, order: Order, *, blind: bool, verdicts: Sequence[Verdict]) -> Answer:
        """Starts what the guards allow. Idempotent by the order's key.

        A refusal is recorded; without a playbook the incident is escalated.
        """
        try:
            plan = self._planner.create_recovery_plan(order.incident)
        except PlaybookError as error:
            self._escalate(order.incident, str(error))
            return Answer()
        facts = self._guards.gather(order.incident, plan, blind=blind, verdicts=verdicts)
        refused = refusal(facts)
        if refused is not None:
            return self._refuse(order.incident, refused)
        return self._create(order, plan)

    def _create(self, order: Order, plan: Plan) -> Answer:
        new = NewRun(
            plan=plan,
            incident=order.incident.id,
            mode=order.mode,
            requested_by=order.requested_by,
            reason=order.reason,
            idempotency_key=order.idempotency_key,
        )
        now, incident = self._clock.now(), order.incident
        try:
            run, message = self._journal.create(new, now)
        except ScopeBusy as error:
            return self._refuse(incident, Refusal(guard=Guard.ACTIVE_LEASE, detail=str(error)))
        except IdempotencyConflict:
            # Another observer, with another version of the playbook, has just started it.
            return Answer()
        text = f"run {run.id} started: {plan.summary}"
        # Where another observer has started it and died since, this tells the incident.
        only_from = WAITING if message is None else None
        self._incidents.move(
            incident.id, IncidentState.RECOVERING, now, self._actor, text, run=run.id, only_from=only_from
        )
        if message is None:
            return Answer(run=run)
        self._ledger.count(Counter.RECOVERIES, {"recovery_type": plan.recovery_type})
        self._orchestrator.send(message)
        return Answer(run=run, new=True)

    def _refuse(self, incident: Incident, refused: Refusal) -> Answer:
        now = self._clock.now()
        if self._limits.refused(incident.id, refused.guard, refused.detail, now):
            self._ledger.count(Counter.BLOCKED, {"guard": refused.guard})
            text = f"refused by {refused.guard}: {refused.detail}"
            self._incidents.move(
                incident.id, IncidentState.BLOCKED, now, self._actor, text, only_from=WAITING
            )
        return Answer(refused=refused)

    def _escalate(self, incident: Incident, why: str) -> None:
        now = self._clock.now()
        self._incidents.move(incident.id, IncidentState.ESCALATED, now, self._actor, why, only_from=WAITING)
