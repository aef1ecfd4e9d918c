"""A person's yes or no to a run that waits for it; and the end of those that nobody answered in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import PlaybookError, Refused, UsageError
from ha_tasks.model.data_risk import Loss
from ha_tasks.model.guards import PASSED, refusal
from ha_tasks.model.incident import Incident, IncidentState
from ha_tasks.model.plan_hash import plan_changes, plan_hash
from ha_tasks.model.platform import Policies
from ha_tasks.model.playbook import Acceptance, Plan
from ha_tasks.model.revision import UNREVISED, Standing
from ha_tasks.model.run import Run, RunState, overdue
from ha_tasks.model.verdict import Verdict
from ha_tasks.names import Counter
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import Incidents, Journal, NewRun
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.guard_facts import GuardFactsGatherer, Said, acceptance

WAITED = (IncidentState.AWAITING_APPROVAL, IncidentState.ESCALATED)
"""Where the incident of a waiting run may be; escalated by a sweeper that saw the run ended first."""
_MOVED_ON = "run {0} does not wait any more; see: ha-tasks run {0}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A person's yes. ``by``: who; ``accepted_bytes``: so much data may be lost for it."""

    by: str
    reason: str = ""
    accepted_bytes: int | None = None
    off: tuple[str, ...] = ()
    """Nodes that this person says are switched off."""

    @property
    def text(self) -> str:
        """For the stories that it is told in."""
        loss = "" if self.accepted_bytes is None else f", accepting the loss of {self.accepted_bytes} bytes"
        return f"approved by {self.by}{loss}" + (f": {self.reason}" if self.reason else "")


class Approver:
    """Answers for runs in AWAITING_APPROVAL; everybody else leaves them alone."""

    def __init__(
        self,
        *,
        policies: Policies,
        planner: RecoveryPlanner,
        guards: GuardFactsGatherer,
        orchestrator: RecoveryOrchestrator,
        incidents: Incidents,
        journal: Journal,
        ledger: Ledger,
        clock: Clock,
        actor: str,
        followed: Callable[[Run], None],
        standing: Callable[[], Standing] = lambda: UNREVISED,
    ) -> None:
        """``followed``: is told of each run that was ended here. ``standing``: as for RunStarter."""
        self._policies = policies
        self._planner = planner
        self._guards = guards
        self._orchestrator = orchestrator
        self._incidents = incidents
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._actor = actor
        self._followed = followed
        self._standing = standing

    def waiting(self, run_id: int) -> Run:
        """The run, if it waits. UsageError when there is none, Refused when it does not wait."""
        try:
            run = self._journal.get(run_id)
        except KeyError:
            raise UsageError(f"there is no run {run_id}; see: ha-tasks run") from None
        if run.state is not RunState.AWAITING_APPROVAL:
            raise Refused(f"run {run.id} is {run.state}: it waits for nobody")
        late = overdue(run, self._clock.now())
        if late is not None:
            self._end(run, late, self._actor)
            raise Refused(f"run {run.id} is over: {late}")
        return run

    def approve(self, run: Run, consent: Consent, *, blind: bool, verdicts: Sequence[Verdict]) -> Run:
        """The run may begin, if everything else still lets it: the guards are asked again, and the plan.

        Refused leaves it waiting; where the plan of this moment is another one, that waits in its place.
        """
        if self._policies.four_eyes and consent.by == run.requested_by:
            raise Refused(f"{consent.by} has asked for run {run.id}, so somebody else must approve it")
        incident, accepts = self._incident(run), None
        if incident is not None:
            self._must_be_the_same(run, incident)
            loss = self._must_be_allowed(run, incident, consent, blind=blind, verdicts=verdicts)
            given = consent.accepted_bytes
            accepts = acceptance(None if given is None else Acceptance(bytes=given, off=consent.off), loss)
        return self._begin(run, consent, accepts)

    def reject(self, run: Run, by: str, reason: str) -> Run:
        """A person says no: the run ends, and its incident is a person's."""
        return self._end(run, f"rejected by {by}" + (f": {reason}" if reason else ""), by)

    def expire(self) -> tuple[Run, ...]:
        """Ends what nobody approved in time, or began before its deadline, or needs any more.

        Any number may do it at once.
        """
        now = self._clock.now()
        active = [(run, overdue(run, now) or self._unneeded(run)) for run in self._journal.active()]
        late = [(run, why) for run, why in active if why is not None]
        ended = [self._journal.call_off(run.id, why, now, self._actor) for run, why in late]
        for run in filter(None, ended):
            self._followed(run)
        return tuple(run for run in ended if run is not None)

    def _unneeded(self, run: Run) -> str | None:
        """Why a run that waits is waiting in vain: whoever saw its incident end died, or came in between.

        It would hold its scope, and with it the next recovery, until its time is over.
        """
        if run.state is not RunState.AWAITING_APPROVAL or run.incident is None:
            return None
        return None if self._incidents.get(run.incident).holds_key else f"I-{run.incident} is over"

    def _incident(self, run: Run) -> Incident | None:
        if run.incident is None:
            return None
        incident = self._incidents.get(run.incident)
        if incident.state is IncidentState.RESOLVED:
            why = f"I-{incident.id} is over"
            self._end(run, why, self._actor)
            raise Refused(f"run {run.id} is not needed any more: {why}")
        return incident

    def _must_be_the_same(self, run: Run, incident: Incident) -> None:
        """What a person has looked at is what runs, or nothing."""
        try:
            plan = self._planner.create_recovery_plan(incident)
        except PlaybookError as error:
            raise Refused(f"run {run.id} cannot be planned any more: {error}") from error
        if plan_hash(plan) == plan_hash(run.plan):
            return
        changes = "; ".join(f"{what}: {old} -> {new}" for what, old, new in plan_changes(run.plan, plan))
        again = self._ask_again(run, incident, plan, f"the situation has changed ({changes})")
        raise Refused(
            f"the situation has changed since run {run.id} was planned ({changes}); "
            f"run {again.id} waits in its place: ha-tasks run {again.id}; then: ha-tasks approve {again.id}"
        )

    def _ask_again(self, run: Run, incident: Incident, plan: Plan, why: str) -> Run:
        now = self._clock.now()
        if self._journal.call_off(run.id, why, now, self._actor) is None:
            raise Refused(_MOVED_ON.format(run.id))
        new = NewRun(
            plan=plan,
            incident=incident.id,
            mode=run.mode,
            requested_by=run.requested_by,
            reason=run.reason,
            idempotency_key=f"again-after-run-{run.id}",
            revision=self._standing().own,
            approval_until=self._until(now),
            deadline=run.deadline,
        )
        again, _ = self._journal.create(new, now)
        text, state = f"run {again.id} waits in the place of run {run.id}: {why}", WAITED[0]
        self._incidents.move(incident.id, state, now, self._actor, text, run=again.id, only_from=WAITED)
        self._incidents.note(incident.id, now, self._actor, f"{text}; ha-tasks approve {again.id}")
        return again

    def _until(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._policies.approval_within_s)

    def _must_be_allowed(
        self, run: Run, incident: Incident, consent: Consent, *, blind: bool, verdicts: Sequence[Verdict]
    ) -> Loss | None:
        """What may be lost by it."""
        said = Said(approved=True, accepted_bytes=consent.accepted_bytes)
        facts = self._guards.gather(incident, run.plan, blind=blind, verdicts=verdicts, said=said)
        refused = refusal(facts, PASSED.get(run.mode, ()))
        loss = facts.possible_loss
        if refused is None:
            return loss
        more = ""
        if refused.approvable and loss is not None:
            more = f"; to accept it: ha-tasks approve {run.id} --accept-data-loss={loss.bytes}"
        raise Refused(f"refused by {refused.guard}: {refused.detail}{more}; run {run.id} goes on waiting")

    def _begin(self, run: Run, consent: Consent, accepts: Acceptance | None) -> Run:
        now = self._clock.now()
        message = self._journal.approve(run.id, consent.by, now, consent.text, accepts)
        if message is None:
            raise Refused(_MOVED_ON.format(run.id))
        if run.incident is not None:
            text = f"run {run.id} started, {consent.text}"
            state = IncidentState.RECOVERING
            self._incidents.move(run.incident, state, now, consent.by, text, run=run.id, only_from=WAITED)
        self._ledger.count(Counter.RECOVERIES, {"recovery_type": run.plan.recovery_type})
        self._orchestrator.send(message)
        return self._journal.get(run.id)

    def _end(self, run: Run, why: str, by: str) -> Run:
        ended = self._journal.call_off(run.id, why, self._clock.now(), by)
        if ended is None:
            raise Refused(_MOVED_ON.format(run.id))
        self._followed(ended)
        return ended
