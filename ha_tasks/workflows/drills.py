"""Drills: a steady load, a fault, and then only watching; what came of it is measured and judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ha_tasks.errors import DeadlineExceeded, UsageError
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.drill import DrillReport, DrillVerdict, Expected, Observed, judge_drill
from ha_tasks.model.incident import ENDED, Incident, IncidentKind, IncidentState, failures
from ha_tasks.model.load import LoadReport, ended_at, lost, outage_s, stale
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Role, Service, ServiceKind
from ha_tasks.model.run import TERMINAL, Run, RunState, Step
from ha_tasks.names import ActionName
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.faults import Faults, Load, Loads
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Clusters, DrillBook, Incidents, Journal, Observations
from ha_tasks.workflows.waiting import wait_until

HEALTHY_WITHIN_S = 60.0
ENDS_WITHIN_S = 150.0
DRILL_SWITCH = "drill"
"""While it is engaged, runs are recorded as of a drill and do not count towards the hourly rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One rehearsed disaster."""

    name: str
    summary: str
    kind: ServiceKind
    incident: IncidentKind


SCENARIOS = {
    s.name: s
    for s in (
        Scenario(
            name="crash-web",
            summary="kill -9 of one HTTP instance",
            kind=ServiceKind.HTTP,
            incident=IncidentKind.INSTANCE_DOWN,
        ),
        Scenario(
            name="crash-primary",
            summary="kill -9 of the primary's postmaster",
            kind=ServiceKind.POSTGRES,
            incident=IncidentKind.PRIMARY_DOWN,
        ),
        Scenario(
            name="lose-primary",
            summary="kill -9 of everything on the primary's node, its agent too",
            kind=ServiceKind.POSTGRES,
            incident=IncidentKind.PRIMARY_DOWN,
        ),
        Scenario(
            name="lose-worker",
            summary="crash-primary, and kill -9 of the Celery worker that recovers it",
            kind=ServiceKind.POSTGRES,
            incident=IncidentKind.PRIMARY_DOWN,
        ),
        Scenario(
            name="refused-promotion",
            summary="crash-primary while a standby cannot be revoked: nothing may be promoted",
            kind=ServiceKind.POSTGRES,
            incident=IncidentKind.PRIMARY_DOWN,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillTools:
    """What a drill watches with."""

    platform: Platform
    clusters: Clusters
    incidents: Incidents
    journal: Journal
    limits: Limits
    observations: Observations
    drills: DrillBook
    clock: Clock
    faults: Faults
    loads: Loads
    actor: str


NO_LOAD = LoadReport(acks=(), misses=(), present=None)


@dataclass(slots=True, kw_only=True)
class _Course:
    """What is known of a drill while it goes on."""

    injected_at: datetime
    acknowledged: tuple[str, ...]
    before: Json = field(default_factory=dict)
    after: Json = field(default_factory=dict)
    load: LoadReport = NO_LOAD
    incident: Incident | None = None
    run: Run | None = None


class Drills:
    """Runs scenarios, one at a time."""

    def __init__(self, tools: DrillTools, tell: Callable[[str], None]) -> None:
        self._tools = tools
        self._tell = tell

    def run(self, name: str) -> DrillReport:
        """UsageError for an unknown scenario. Whatever happens, every fault is released again."""
        scenario = SCENARIOS.get(name)
        if scenario is None:
            raise UsageError(f"no drill {name!r}; there are: {', '.join(SCENARIOS)}")
        service = self._service(scenario.kind)
        tools, now = self._tools, self._tools.clock.now
        acknowledged = self._acknowledge(service)
        tools.limits.set_switch(DRILL_SWITCH, True, tools.actor, f"drill {name}", now())
        try:
            report = self._rehearse(scenario, service, acknowledged)
        finally:
            tools.faults.release()
            tools.limits.set_switch(DRILL_SWITCH, False, tools.actor, f"drill {name} ended", now())
        tools.drills.add(name, report.verdict, report.to_json(), now())
        return report

    def _rehearse(self, scenario: Scenario, service: Service, acknowledged: tuple[str, ...]) -> DrillReport:
        course = _Course(injected_at=self._tools.clock.now(), acknowledged=acknowledged)
        try:
            wait_until(
                lambda: self._whole(service),
                clock=self._tools.clock,
                within_s=HEALTHY_WITHIN_S,
                what=f"{service.name} is whole before the fault",
                every_s=0.25,
            )
        except DeadlineExceeded as error:
            return _report(scenario, service, course, (DrillVerdict.INCONCLUSIVE, (str(error),)))
        course.before = self._tools.faults.evidence()
        load = self._load(service)
        load.start()
        self._tell(f"load is on: {load.acknowledged()} acknowledged; injecting {scenario.summary}")
        try:
            course.injected_at = self._inject(scenario, service)
            self._watch(scenario, service, course)
        except DeadlineExceeded as error:
            # What was reached until then is judged; the report says what was not.
            self._tell(str(error))
        finally:
            self._tools.faults.release()
            course.load = load.stop()
        course.after = self._tools.faults.evidence()
        return _report(scenario, service, course, _judged(scenario, service, course))

    def _inject(self, scenario: Scenario, service: Service) -> datetime:
        faults = self._tools.faults
        if scenario.kind is ServiceKind.HTTP:
            active = next(i for i in service.instances if i.role is Role.ACTIVE)
            return faults.kill_process(active.name)
        cluster = self._tools.clusters.get(service.name)
        if scenario.name == "refused-promotion":
            faults.freeze_agent(cluster.sets[0].members[-1])
        if scenario.name == "lose-primary":
            return faults.kill_node(cluster.primary)
        return faults.kill_postmaster(cluster.primary)

    def _watch(self, scenario: Scenario, service: Service, course: _Course) -> None:
        """Follows the incident to its end, telling each turn."""
        self._until(lambda: self._find(scenario, service, course), 30.0, "an incident is opened")
        self._told(course, f"detected: {course.incident.summary if course.incident else ''}")
        self._until(lambda: self._refresh(course) and course.run is not None, 30.0, "a run starts")
        self._told(course, f"decided: {course.run.plan.summary if course.run else ''}")
        if scenario.name == "lose-worker":
            self._kill_the_worker(course)
        self._until(lambda: self._refresh(course) and _run_ended(course), ENDS_WITHIN_S, "the run ends")
        self._told(course, f"run {course.run.state if course.run else ''}")
        if scenario.name == "lose-primary":
            self._tools.faults.release()
        self._until(lambda: self._refresh(course) and _ended(course), ENDS_WITHIN_S, "the incident ends")
        self._told(course, f"incident {course.incident.state if course.incident else ''}")

    def _kill_the_worker(self, course: _Course) -> None:
        """In the middle of the revocation: the step that takes longest before anything is promoted."""
        killed: list[str] = []

        def kill() -> bool:
            self._refresh(course)
            run = course.run
            if run is None or run.lease_owner is None:
                return False
            if run.current.action is not ActionName.REVOKE_STANDBYS:
                return False
            process = run.lease_owner.split("/")[1]
            self._tools.faults.kill_process(process)
            killed.append(process)
            return True

        self._until(kill, 20.0, "a worker is in the middle of the run", every_s=0.005)
        self._told(course, f"killed {killed[0]} while it was at step {_position(course)}")

    def _find(self, scenario: Scenario, service: Service, course: _Course) -> bool:
        for incident in self._tools.incidents.recent(20):
            fits = incident.service == service.name and incident.kind is scenario.incident
            if fits and incident.detected_at >= course.injected_at:
                course.incident = incident
                return True
        return False

    def _refresh(self, course: _Course) -> bool:
        if course.incident is not None:
            course.incident = self._tools.incidents.get(course.incident.id)
            if course.incident.run is not None:
                course.run = self._tools.journal.get(course.incident.run)
        return True

    def _whole(self, service: Service) -> bool:
        """Nothing is open about the service, every instance answers, the synchronous set is full."""
        current = failures(self._tools.incidents.current())
        if any(i.service == service.name and i.holds_key for i in current):
            return False
        if any(r.plan.service == service.name for r in self._tools.journal.active()):
            return False
        return self._answering(service) and self._redundant(service)

    def _answering(self, service: Service) -> bool:
        latest = {
            o.target.instance: o for o in self._tools.observations.since(self._just_now(), service.name)
        }
        return all(i.name in latest and latest[i.name].ok for i in service.instances)

    def _just_now(self) -> datetime:
        return self._tools.clock.now() - timedelta(seconds=2.5)

    def _redundant(self, service: Service) -> bool:
        if service.kind is not ServiceKind.POSTGRES:
            return True
        cluster = self._tools.clusters.get(service.name)
        others = {i.name for i in service.instances} - {cluster.primary}
        return (
            cluster.state is ClusterState.STEADY
            and len(cluster.sets) == 1
            and set(cluster.sets[0].members) == others
        )

    def _acknowledge(self, service: Service) -> tuple[str, ...]:
        """Earlier drills' cool-downs and escalated incidents are acknowledged, and that is recorded."""
        tools, now = self._tools, self._tools.clock.now()
        done = [f"cool-down of {p}" for p in tools.limits.acknowledge(service.name, now, tools.actor)]
        for incident in tools.incidents.current():
            if incident.service == service.name and incident.state is IncidentState.ESCALATED:
                tools.incidents.acknowledge(incident.id, now, tools.actor)
                done.append(f"incident {incident.id}")
        return tuple(done)

    def _service(self, kind: ServiceKind) -> Service:
        for service in self._tools.platform.services.values():
            if service.kind is kind:
                return service
        raise UsageError(f"the inventory has no service of kind {kind} to rehearse on")

    def _load(self, service: Service) -> Load:
        loads = self._tools.loads
        if service.kind is ServiceKind.POSTGRES:
            return loads.writes(service.name)
        return loads.gets(service.name)

    def _until(
        self, condition: Callable[[], bool], within_s: float, what: str, every_s: float = 0.05
    ) -> None:
        wait_until(condition, clock=self._tools.clock, within_s=within_s, what=what, every_s=every_s)

    def _told(self, course: _Course, text: str) -> None:
        since = (self._tools.clock.now() - course.injected_at).total_seconds()
        self._tell(f"T+{since:5.2f}  {text}")


def _judged(scenario: Scenario, service: Service, course: _Course) -> tuple[DrillVerdict, tuple[str, ...]]:
    acks, at = course.load.acks, course.injected_at
    seen = Observed(
        incident=course.incident.state if course.incident else None,
        run=course.run.state if course.run else None,
        outage_s=outage_s(acks, at, ended_at(course.load)),
        rto_s=service.rto_s,
        acked_after=sum(a.acked_at > at for a in acks),
        failed=_failed(course),
        lost=lost(course.load),
        stale=stale(acks),
        before=course.before,
        after=course.after,
    )
    return judge_drill(expected_of(scenario, service), seen)


def _failed(course: _Course) -> int:
    return sum(m.failed_at > course.injected_at for m in course.load.misses)


def _report(
    scenario: Scenario,
    service: Service,
    course: _Course,
    judged: tuple[DrillVerdict, tuple[str, ...]],
) -> DrillReport:
    return DrillReport(
        scenario=scenario.name,
        verdict=judged[0],
        reasons=judged[1],
        injected_at=course.injected_at,
        outage_s=outage_s(course.load.acks, course.injected_at, ended_at(course.load)),
        acked=len(course.load.acks),
        lost=lost(course.load),
        stale=stale(course.load.acks),
        failed=_failed(course),
        rto_objective_s=service.rto_s,
        rpo_objective_s=service.rpo_s,
        incident=course.incident.id if course.incident else None,
        run=course.run.id if course.run else None,
        acknowledged_cooldowns=course.acknowledged,
        extra={"evidence": {"before": course.before, "after": course.after}},
        **_timings(course),
    )


def expected_of(scenario: Scenario, service: Service) -> Expected:
    """What a scenario must come to, in states and in the resources' own evidence."""
    if scenario.kind is ServiceKind.HTTP:
        active = next(i for i in service.instances if i.role is Role.ACTIVE)
        return Expected(
            incident=IncidentState.RESOLVED,
            run=RunState.SUCCEEDED,
            zero_failed=True,
            grown_by_one=(f"starts.{active.name}",),
        )
    timeline = f"timeline.{service.name}"
    if scenario.name == "refused-promotion":
        return Expected(
            incident=IncidentState.ESCALATED,
            run=RunState.ROLLED_BACK,
            unchanged=(timeline, f"primary.{service.name}"),
        )
    return Expected(incident=IncidentState.RESOLVED, run=RunState.SUCCEEDED, grown_by_one=(timeline,))


def _timings(course: _Course) -> dict[str, Any]:
    """Seconds since the injection, by part."""

    def since(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - course.injected_at).total_seconds()

    run, incident = course.run, course.incident
    acting = [s.ended_at for s in run.steps[:-1] if s.ended_at] if run else []
    succeeded = run is not None and run.state is RunState.SUCCEEDED
    return {
        "detected_s": since(incident.detected_at if incident else None),
        "decided_s": since(run.created_at if run else None),
        "acted_s": since(max(acting, default=None)),
        "verified_s": since(run.ended_at if run and succeeded else None),
        "steps": tuple(_step_json(s) for s in run.steps) if run else (),
    }


def _step_json(step: Step) -> Json:
    took = (
        (step.ended_at - step.started_at).total_seconds()
        if step.started_at is not None and step.ended_at is not None
        else None
    )
    return {"action": str(step.action), "state": str(step.state), "seconds": took}


def _run_ended(course: _Course) -> bool:
    return course.run is not None and course.run.state in TERMINAL


def _ended(course: _Course) -> bool:
    return course.incident is not None and course.incident.state in ENDED


def _position(course: _Course) -> int:
    return course.run.position if course.run else 0
