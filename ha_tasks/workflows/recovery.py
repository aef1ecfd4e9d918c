"""What the end of a step means for its incident; and the operation ``detect_and_recover``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from ha_tasks.model.cooldown import cool_down_after
from ha_tasks.model.incident import Incident, IncidentState, failures
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Service
from ha_tasks.model.results import RecoveryResult
from ha_tasks.model.run import GAVE_WAY, TERMINAL, Phase, Run, RunState, StepState
from ha_tasks.model.verdict import Verdict
from ha_tasks.names import ActionName, Counter, Histogram, RecoveryType
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Incidents, Journal
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.detection import Detection
from ha_tasks.workflows.starting import WAITING, WITH_A_RUN


class IncidentFollower:
    """Keeps incidents in step with their runs. Idempotent: a run may be followed any number of times."""

    def __init__(
        self,
        *,
        incidents: Incidents,
        journal: Journal,
        limits: Limits,
        ledger: Ledger,
        clock: Clock,
        actor: str,
    ) -> None:
        self._incidents = incidents
        self._journal = journal
        self._limits = limits
        self._ledger = ledger
        self._clock = clock
        self._actor = actor

    def settled(self, before: Run, run: Run) -> None:
        """Called by the executor after each attempt that it has written down."""
        self._tell(before, run)
        self.follow(run)

    def follow_all(self) -> None:
        """For what an executor that died could not tell: incidents whose run has moved on."""
        for incident in self._incidents.current():
            if incident.state in WITH_A_RUN and incident.run is not None:
                self.follow(self._journal.get(incident.run))

    def follow(self, run: Run) -> None:
        """Moves the run's incident to where the run says it is."""
        if run.incident is None:
            return
        incident = self._incidents.get(run.incident)
        if run.fence and incident.state in WAITING and run.id > (incident.run or 0):
            # Whoever started it died before the incident was told.
            incident = self._told(incident, run)
        if incident.state not in WITH_A_RUN or incident.run != run.id:
            return
        if run.state in TERMINAL:
            self._end(incident, run)
        elif incident.state is IncidentState.AWAITING_APPROVAL and run.approved_by is not None:
            # Whoever approved it died before the incident was told.
            text = f"run {run.id} started, {run.approved_by} said yes"
            self._move(incident, IncidentState.RECOVERING, text)
        elif run.state is RunState.VERIFYING and incident.state is IncidentState.RECOVERING:
            self._move(incident, IncidentState.VERIFYING, "verifying through the balancer")

    def _told(self, incident: Incident, run: Run) -> Incident:
        now, text = self._clock.now(), f"run {run.id} started: {run.plan.summary}"
        state = IncidentState.RECOVERING
        return self._incidents.move(incident.id, state, now, self._actor, text, run=run.id, only_from=WAITING)

    def _end(self, incident: Incident, run: Run) -> None:
        if run.state is RunState.SUCCEEDED:
            self._succeed(incident, run)
            return
        if _missed_its_deadline(run):
            text = f"run {run.id} {run.state}: {run.error}; the failure itself is recovered as any other"
            self._move(incident, IncidentState.OPEN, text)
            return
        if run.error.startswith(GAVE_WAY):
            self._move(incident, IncidentState.OPEN, f"run {run.id} {run.error}")
            return
        if run.approval_until is None or run.approved_by is not None:
            self._ledger.count(Counter.RECOVERY_FAILURES, {"recovery_type": run.plan.recovery_type})
            self._count_failover(run, "aborted" if run.state is RunState.ROLLED_BACK else "failed")
        text = f"run {run.id} {run.state}: {run.error}"
        self._move(incident, IncidentState.ESCALATED, text)

    def _succeed(self, incident: Incident, run: Run) -> None:
        ended_at = run.ended_at or self._clock.now()
        took = (ended_at - incident.fault_at).total_seconds()
        self._cool(run, incident, ended_at)
        self._ledger.observe(Histogram.RECOVERY_TIME, {"recovery_type": run.plan.recovery_type}, took)
        self._count_failover(run, "promoted")
        state = IncidentState.MITIGATED if run.plan.mitigates else IncidentState.RESOLVED
        more = "; redundancy is not back yet" if run.plan.mitigates else ""
        self._move(incident, state, f"verified {took:.1f} s after the fault{more}")

    def _cool(self, run: Run, incident: Incident, ended_at: datetime) -> None:
        scope, playbook = run.plan.scope, run.plan.playbook
        cool = cool_down_after(
            run.plan.guards.cooldown_s,
            self._limits.cooldown(scope, playbook),
            fault_at=incident.fault_at,
            ended_at=ended_at,
        )
        self._limits.cool(scope, playbook, cool.until, length_s=cool.length_s)

    def _count_failover(self, run: Run, outcome: str) -> None:
        if run.plan.recovery_type is RecoveryType.FAILOVER:
            self._ledger.count(Counter.FAILOVERS, {"cluster": run.plan.service, "outcome": outcome})

    def _move(self, incident: Incident, state: IncidentState, text: str) -> None:
        now = self._clock.now()
        self._incidents.move(incident.id, state, now, self._actor, text, only_from=WITH_A_RUN)

    def _tell(self, before: Run, run: Run) -> None:
        """A line in the incident's timeline for each step that ended. What was aborted was not begun."""
        if run.incident is None or run.state is RunState.ABORTED:
            return
        done = run.position != before.position or run.phase != before.phase or run.state in TERMINAL
        if not done:
            return
        step, back = run.step(before.position), before.phase is Phase.UNDO
        text = f"{'undid' if back else 'did'} {step.planned.id}"
        loss = step.output.get("possible_loss")
        if loss is not None and not step.error and not back:
            accepted = f"{loss['bytes']} bytes may be lost (accepted: {loss['accepted']})"
            text = f"{text}: {accepted}, and {loss['unknown']}"
        # One that was undone still bears the error for which it was.
        if step.error and step.state is not StepState.UNDONE:
            text = f"{'undoing ' if back else ''}{step.planned.id} failed: {step.error}"
        self._incidents.note(run.incident, self._clock.now(), self._actor, text)


class DetectAndRecover:
    """The operation of that name."""

    def __init__(
        self,
        *,
        platform: Platform,
        detection: Detection,
        orchestrator: RecoveryOrchestrator,
        incidents: Incidents,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._platform = platform
        self._detection = detection
        self._orchestrator = orchestrator
        self._incidents = incidents
        self._journal = journal
        self._clock = clock

    def __call__(
        self,
        service: str | None = None,
        *,
        judge_within_s: float = 5.0,
        within_s: float = 120.0,
        only: str | None = None,
    ) -> RecoveryResult:
        """Looks, judges, and takes what it finds through to its verified end, in this process.

        Works without a broker, and beside workers that take the same steps. KeyError for an unknown
        service. A healthy system: success, "System healthy". ``only``: hash of the one plan that may begin.
        """
        services = self._services(service)
        deadline = self._clock.now() + timedelta(seconds=within_s)
        verdicts = self._judge(services, judge_within_s)
        finding = self._detection.react(verdicts, only=only)
        names = {s.name for s in services}
        runs = [r for r in self._journal.active() if r.plan.service in names]
        if not runs and not finding.started:
            return self._nothing_done(names, verdicts)
        ended = [self._orchestrator.drive(r.id, deadline) for r in (*runs, *finding.started)]
        return self._result({r.id: r for r in ended})

    def _services(self, service: str | None) -> Sequence[Service]:
        return (
            list(self._platform.services.values()) if service is None else [self._platform.services[service]]
        )

    def _judge(self, services: Sequence[Service], within_s: float) -> tuple[Verdict, ...]:
        """Looks until nothing is left in doubt, or the time is over."""
        ends = self._clock.monotonic() + within_s
        while True:
            self._detection.look(services)
            verdicts = self._detection.judge(services)
            if not any(v.is_unsettled for v in verdicts) or self._clock.monotonic() >= ends:
                return verdicts
            self._clock.pause(0.5)

    def _nothing_done(self, names: set[str], verdicts: Sequence[Verdict]) -> RecoveryResult:
        still = [
            f"{i.summary} ({i.state})"
            for i in failures(self._incidents.current())
            if i.service in names and i.state is not IncidentState.MITIGATED and i.holds_key
        ]
        doubt = [f"{v.target.instance}: {v.evidence}" for v in verdicts if v.is_doubtful]
        if still or doubt:
            return RecoveryResult(success=False, message="; ".join([*still, *doubt]))
        return RecoveryResult(success=True, message="System healthy")

    def _result(self, runs: dict[int, Run]) -> RecoveryResult:
        good = [r for r in runs.values() if r.state is RunState.SUCCEEDED]
        verified = [_gates(r) for r in good]
        integrity = [v["data_integrity"] for v in verified if v.get("data_integrity") is not None]
        performance = [v["performance"] for v in verified if v.get("performance") is not None]
        return RecoveryResult(
            success=len(good) == len(runs),
            message="; ".join(_said(r) for r in runs.values()),
            recovery_time=max((self._took(r) for r in runs.values()), default=None),
            services_recovered=tuple(sorted({r.plan.service for r in good})),
            data_integrity_verified=all(integrity) if integrity else None,
            performance_restored=min(performance) if performance else None,
        )

    def _took(self, run: Run) -> float:
        since = run.created_at if run.incident is None else self._incidents.get(run.incident).fault_at
        return ((run.ended_at or self._clock.now()) - since).total_seconds()


def _missed_its_deadline(run: Run) -> bool:
    """True for one that was not begun by when whoever asked for it wanted it; the failure may well stand."""
    late = run.deadline is not None and run.ended_at is not None and run.ended_at >= run.deadline
    return late and run.state is RunState.ABORTED and not any(step.begun for step in run.steps)


def _gates(run: Run) -> Json:
    for step in run.steps:
        if step.action is ActionName.VERIFY_SERVICE:
            return dict(step.output)
    return {}


def _said(run: Run) -> str:
    return f"run {run.id} ({run.plan.playbook}) {run.state}" + (f": {run.error}" if run.error else "")
