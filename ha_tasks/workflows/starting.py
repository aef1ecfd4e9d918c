"""From an incident to its run: plan, ask the guards, write it down, send the first step.

Whoever wants a run comes through here: detection, a person, another service. Any number may ask at the
same time: unique indexes make one run of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import IdempotencyConflict, PlaybookError, ScopeBusy
from ha_tasks.model.guards import PASSED, Guard, Refusal, Upstream, refusal
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.plan_hash import is_named
from ha_tasks.model.playbook import Acceptance, Plan
from ha_tasks.model.revision import UNREVISED, Standing
from ha_tasks.model.run import GAVE_WAY, Run, RunState, passed_no_return
from ha_tasks.model.verdict import Verdict
from ha_tasks.names import Counter
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Incidents, Journal, NewRun
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.guard_facts import GuardFactsGatherer, Said, acceptance, gives_way
from ha_tasks.workflows.planned_work import is_planned
from ha_tasks.workflows.trying_again import TryingAgain

WAITING = (IncidentState.OPEN, IncidentState.BLOCKED, IncidentState.SUPPRESSED)
"""States in which an incident has no run and waits for one."""

WITH_A_RUN = (IncidentState.AWAITING_APPROVAL, IncidentState.RECOVERING, IncidentState.VERIFYING)
"""States in which an incident goes where its run goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for, and by whom. ``mode``: auto, manual or drill; some guards are not asked of each."""

    incident: Incident
    mode: str
    requested_by: str
    reason: str
    idempotency_key: str
    only: str | None = None
    """Hash (or its beginning) of the only plan that may be run; None: the one of this moment."""
    deadline: datetime | None = None
    """A run that is not begun by then is not begun at all."""
    accepts: Acceptance | None = None
    """What whoever orders it lets be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of an order: a run (``new``: begun by this call), the refusal, or neither (escalated).

    Both: the run is written down and waits for a person, who alone can say yes to what was refused.
    """

    run: Run | None = None
    new: bool = False
    refused: Refusal | None = None
    other: Plan | None = None
    """Nothing was started: this is the plan of this moment, and another one was ordered."""


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
        held: Callable[[], str | None] = lambda: None,
        approval_within_s: float = 3600.0,
        standing: Callable[[], Standing] = lambda: UNREVISED,
    ) -> None:
        """``standing``: under which revision of the inventory this process starts runs."""
        self._planner = planner
        self._guards = guards
        self._orchestrator = orchestrator
        self._incidents = incidents
        self._journal = journal
        self._limits = limits
        self._ledger = ledger
        self._clock = clock
        self._actor = actor
        self._held = held
        self._approval_within_s = approval_within_s
        self._standing = standing
        self._again = TryingAgain(
            incidents=incidents,
            journal=journal,
            clock=clock,
            actor=actor,
            is_away=lambda incident: guards.silent_host(incident) is not None,
        )

    def start(self, order: Order, *, blind: bool, verdicts: Sequence[Verdict]) -> Answer:
        """Starts what the guards allow. Idempotent by the order's key.

        A refusal is recorded; without a playbook the incident is escalated.
        """
        try:
            plan = self._planner.create_recovery_plan(order.incident)
        except PlaybookError as error:
            self._escalate(order.incident, str(error))
            return Answer()
        if order.only is not None and not is_named(plan, order.only):
            return Answer(other=plan)
        held = self._held()
        if held is not None:
            return self._refuse(order.incident, Refusal(guard=Guard.OBSERVE_ONLY, detail=held))
        self._clear_the_way(order.incident)
        said = Said(accepted_bytes=None if order.accepts is None else order.accepts.bytes)
        facts = self._guards.gather(order.incident, plan, blind=blind, verdicts=verdicts, said=said)
        refused = refusal(facts, PASSED.get(order.mode, ()))
        if refused is None:
            self._begun_again(order)
            return self._create(order, replace(plan, accepts=acceptance(order.accepts, facts.possible_loss)))
        self._begun_again(order, state=IncidentState.OPEN)
        if refused.approvable:
            return self._ask(order, plan, refused)
        return self._refuse(order.incident, refused, facts.upstreams)

    def try_again(self, services: Collection[str]) -> None:
        """Opens what failed for good about a standby again, see trying_again.py; not by a held store."""
        if self._held() is None:
            self._again.look(services)

    def _clear_the_way(self, incident: Incident) -> None:
        """What ``gives_way`` says gives way to the failover of its service's primary: that cannot wait."""
        if incident.kind is not IncidentKind.PRIMARY_DOWN:
            return
        for run in self._journal.active():
            if run.incident is not None and gives_way(run, incident, self._incidents.get(run.incident)):
                self._give_way(run, run.incident, f"{GAVE_WAY} I-{incident.id}")

    def _give_way(self, run: Run, incident: int, why: str) -> None:
        now = self._clock.now()
        end = self._journal.break_off if run.fence else self._journal.call_off
        if end(run.id, why, now, self._actor) is not None:
            # A sweeper that finds a run first that had only waited has escalated its incident.
            waited = (*WITH_A_RUN, IncidentState.ESCALATED)
            text = f"run {run.id} {why}"
            self._incidents.move(incident, IncidentState.OPEN, now, self._actor, text, only_from=waited)

    def refused_failovers(self, services: Collection[str]) -> tuple[Incident, ...]:
        """Escalated, and not over: a person who accepts a loss has them begun again."""
        return tuple(
            i
            for i in self._incidents.current()
            if i.kind is IncidentKind.PRIMARY_DOWN
            and i.service in services
            and i.state is IncidentState.ESCALATED
            and i.holds_key
        )

    def _begun_again(self, order: Order, *, state: IncidentState | None = None) -> None:
        """Told, and open again only where its run is refused for now: an observer that finds it open before
        the run is written down would begin one of its own, by which nothing may be lost.
        """
        incident, accepts = order.incident, order.accepts
        if incident.state is not IncidentState.ESCALATED or accepts is None:
            return
        now, by = self._clock.now(), order.requested_by
        text = f"{by} accepts the loss of up to {accepts.bytes} bytes: it is begun again"
        if state is None:
            self._incidents.note(incident.id, now, by, text)
        else:
            self._incidents.move(incident.id, state, now, by, text, only_from=(IncidentState.ESCALATED,))

    def works_on(self, service: str) -> bool:
        """True while planned work goes on there: what it stops on purpose has not failed."""
        return any(run.plan.service == service and is_planned(run) for run in self._journal.active())

    def end_replaced(self, incident: Incident, primary: str) -> None:
        """About the failure of a primary that another one has replaced nothing is begun any more.

        Whoever replaced it (a switchover, another run) is about the service; the node itself is a standby by
        now, whose failure is an incident of its own. Where the incident's own run has promoted, or has left
        something that a person must look at, it stays as it is. Idempotent.
        """
        if incident.kind is not IncidentKind.PRIMARY_DOWN or incident.instance == primary:
            return
        now = self._clock.now()
        why = (
            f"{primary} is the primary now, so the failure of {incident.instance} is no failover's matter "
            "any more"
        )
        if incident.state in WAITING:
            state = IncidentState.RESOLVED
            self._incidents.move(incident.id, state, now, self._actor, why, only_from=WAITING)
        elif incident.state is IncidentState.AWAITING_APPROVAL:
            self.withdraw(incident, why)
        elif incident.state is IncidentState.ESCALATED and incident.holds_key and self._is_undone(incident):
            self._incidents.let_go(incident.id, now, self._actor, why)

    def _is_undone(self, incident: Incident) -> bool:
        run = None if incident.run is None else self._journal.get(incident.run)
        ended = (RunState.ROLLED_BACK, RunState.ABORTED)
        return run is None or (run.state in ended and not passed_no_return(run))

    def withdraw(self, incident: Incident, why: str) -> None:
        """The incident is over before anybody approved its run: it is resolved, the run called off."""
        now, waited = self._clock.now(), (IncidentState.AWAITING_APPROVAL,)
        state = IncidentState.RESOLVED
        ended = self._incidents.move(incident.id, state, now, self._actor, why, only_from=waited)
        if ended.state is state and ended.run is not None:
            self._journal.call_off(ended.run, why, now, self._actor)

    def _ask(self, order: Order, plan: Plan, refused: Refusal) -> Answer:
        """Writes the run down; it holds its scope, and begins when a person approves it."""
        now, incident = self._clock.now(), order.incident
        until = now + timedelta(seconds=self._approval_within_s)
        try:
            run, _ = self._journal.create(self._new_run(order, plan, approval_until=until), now)
        except ScopeBusy as error:
            return self._refuse(incident, Refusal(guard=Guard.ACTIVE_LEASE, detail=str(error)))
        except IdempotencyConflict:
            return self._join(incident)
        if run.state is not RunState.AWAITING_APPROVAL:
            return self._joined(incident, run)
        if self._limits.refused(incident.id, refused.guard, refused.detail, now):
            self._ledger.count(Counter.BLOCKED, {"guard": refused.guard})
        told = run.approval_until or until
        text = (
            f"run {run.id} waits for a person until {told:%H:%M:%S} UTC: {refused.detail}; "
            f"look at it: ha-tasks run {run.id}; then: ha-tasks approve {run.id}"
        )
        state = IncidentState.AWAITING_APPROVAL
        self._incidents.move(incident.id, state, now, self._actor, text, run=run.id, only_from=WAITING)
        return Answer(run=run, refused=refused)

    def _create(self, order: Order, plan: Plan) -> Answer:
        now, incident = self._clock.now(), order.incident
        try:
            run, message = self._journal.create(self._new_run(order, plan), now)
        except ScopeBusy as error:
            return self._refuse(incident, Refusal(guard=Guard.ACTIVE_LEASE, detail=str(error)))
        except IdempotencyConflict:
            return self._join(incident)
        if message is None:
            return self._joined(incident, run)
        text = f"run {run.id} started: {plan.summary}"
        self._incidents.move(incident.id, IncidentState.RECOVERING, now, self._actor, text, run=run.id)
        self._ledger.count(Counter.RECOVERIES, {"recovery_type": plan.recovery_type})
        self._orchestrator.send(message)
        return Answer(run=run, new=True)

    def _join(self, incident: Incident) -> Answer:
        """Another observer has started it, by another version of the playbook or in another situation."""
        run = next((r for r in self._journal.recent() if r.incident == incident.id), None)
        return Answer() if run is None else self._joined(incident, run)

    def _joined(self, incident: Incident, run: Run) -> Answer:
        """Where whoever has started the run died since, this tells the incident."""
        if run.state is RunState.ABORTED and not run.fence:
            self._not_again(incident, run)
            return Answer()
        waits = run.state is RunState.AWAITING_APPROVAL
        state = IncidentState.AWAITING_APPROVAL if waits else IncidentState.RECOVERING
        text = f"run {run.id} {'waits for a person' if waits else 'started'}: {run.plan.summary}"
        now = self._clock.now()
        self._incidents.move(incident.id, state, now, self._actor, text, run=run.id, only_from=WAITING)
        return Answer(run=run)

    def _not_again(self, incident: Incident, run: Run) -> None:
        """It was called off before it began, so its incident is where that has left it.

        Where the incident has not heard of the run, it does now: the next order is a new one.
        """
        now, text = self._clock.now(), f"run {run.id} was called off: {run.error}"
        state = IncidentState.OPEN
        self._incidents.move(incident.id, state, now, self._actor, text, run=run.id, only_from=WAITING)

    def _refuse(self, incident: Incident, refused: Refusal, upstreams: Sequence[Upstream] = ()) -> Answer:
        now = self._clock.now()
        new = self._limits.refused(incident.id, refused.guard, refused.detail, now)
        if new:
            self._ledger.count(Counter.BLOCKED, {"guard": refused.guard})
        text = f"refused by {refused.guard}: {refused.detail}"
        if refused.guard is Guard.UPSTREAM_FIRST and upstreams:
            self._suppress(incident, upstreams[0].incident, text)
        elif incident.state is not IncidentState.BLOCKED:
            state = IncidentState.BLOCKED
            self._incidents.move(incident.id, state, now, self._actor, text, only_from=WAITING)
        elif new:
            self._incidents.note(incident.id, now, self._actor, text)
        return Answer(refused=refused)

    def _suppress(self, incident: Incident, parent: int, text: str) -> None:
        """It is looked at again with every judgement: what it waits for may be over."""
        if incident.state is IncidentState.SUPPRESSED and incident.parent == parent:
            return
        now = self._clock.now()
        self._incidents.attach(incident.id, parent, now, self._actor, text, only_from=WAITING)

    def _escalate(self, incident: Incident, why: str) -> None:
        now = self._clock.now()
        self._incidents.move(incident.id, IncidentState.ESCALATED, now, self._actor, why, only_from=WAITING)

    def _new_run(self, order: Order, plan: Plan, approval_until: datetime | None = None) -> NewRun:
        return NewRun(
            plan=plan,
            incident=order.incident.id,
            mode=order.mode,
            requested_by=order.requested_by,
            reason=order.reason,
            idempotency_key=order.idempotency_key,
            revision=self._standing().own,
            approval_until=approval_until,
            deadline=order.deadline,
        )
