"""Drills: a steady load, a fault, and then only watching; what came of it is measured and judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ha_tasks.errors import DeadlineExceeded, ServiceUnreachable, UsageError
from ha_tasks.model.drill import DrillReport, DrillVerdict, merged
from ha_tasks.model.platform import Platform, ServiceKind
from ha_tasks.model.scenario import Deed, Fault, Outcome, Scenario, Victim
from ha_tasks.model.scenarios import SCENARIOS
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.faults import Applications, Faults, Load, Loads
from ha_tasks.ports.limits import Limits
from ha_tasks.ports.repositories import Clusters, DrillBook, Incidents, Journal, Observations
from ha_tasks.workflows.drills.course import Course
from ha_tasks.workflows.drills.site import Site, service_of, targets_of
from ha_tasks.workflows.waiting import wait_until

HEALTHY_WITHIN_S = 60.0
BEGINS_WITHIN_S = 30.0
ENDS_WITHIN_S = 150.0
AFTERMATH_S = 3.0
"""What a healed fault may still set off is waited for, before it is said that nothing came of it."""
DRILL_SWITCH = "drill"
"""While it is engaged, runs are recorded as of a drill and do not count towards the hourly rate."""
FOLLOWED = frozenset({Outcome.FAILOVER, Outcome.REFUSED, Outcome.RESTARTED, Outcome.TAKEN_BACK})
"""Outcomes with an incident and a run, that are followed to their ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillTools:
    """What a drill watches with. ``applications`` None: none can run here."""

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
    applications: Applications | None
    actor: str


class Drills:
    """Runs scenarios, one at a time."""

    def __init__(self, tools: DrillTools, tell: Callable[[str], None]) -> None:
        self._tools = tools
        self._tell = tell

    def run(self, name: str) -> DrillReport:
        """UsageError for an unknown scenario; Refused where others lead what it is about, for then it is
        they who would be rehearsed. Whatever happens, every fault is healed again.
        """
        scenario = SCENARIOS.get(name)
        if scenario is None:
            raise UsageError(f"no drill {name!r}; there are: {', '.join(SCENARIOS)}")
        tools, now = self._tools, self._tools.clock.now
        service_of(tools.platform, scenario.kind)
        tools.faults.release()
        tools.limits.set_switch(DRILL_SWITCH, True, tools.actor, f"drill {name}", now())
        try:
            report = self._every_round(scenario)
        finally:
            tools.faults.release()
            tools.limits.set_switch(DRILL_SWITCH, False, tools.actor, f"drill {name} ended", now())
        tools.drills.add(name, report.verdict, report.to_json(), now())
        return report

    def _every_round(self, scenario: Scenario) -> DrillReport:
        if not scenario.rounds:
            return self._rehearse(scenario)
        reports: list[DrillReport] = []
        for number, first in enumerate(scenario.rounds, 1):
            self._tell(f"round {number} of {len(scenario.rounds)}: {first.boundary}")
            reports.append(self._rehearse(replace(scenario, faults=(first, *scenario.faults))))
        return merged(scenario.name, reports)

    def _rehearse(self, scenario: Scenario) -> DrillReport:
        tools = self._tools
        site = self._site(scenario.kind)
        course = Course(
            scenario=scenario,
            service=site.service,
            injected_at=tools.clock.now(),
            acknowledged=site.acknowledge(tools.actor),
        )
        lacks = self._lacks(scenario) or self._not_whole(site)
        if lacks:
            return course.report(DrillVerdict.INCONCLUSIVE, (lacks,))
        course.before = tools.faults.evidence()
        load, application = self._load(site), self._application(site)
        load.start()
        try:
            if application:
                application.start()
            self._tell(f"load is on: {load.acknowledged()} acknowledged; injecting: {scenario.summary}")
            _Watch(tools, site, course, self._tell).whole()
        except (DeadlineExceeded, ServiceUnreachable) as error:
            # What was reached until then is judged, and never a pass.
            course.missed.append(str(error))
            self._tell(str(error))
        finally:
            course.missed += tools.faults.release()
            if application:
                course.application = application.stop()
            course.load = load.stop()
        course.after = tools.faults.evidence()
        return course.judged()

    def _lacks(self, scenario: Scenario) -> str | None:
        deeds = [fault.deed for fault in (*scenario.faults, *scenario.mid_run)]
        return next(filter(None, map(self._tools.faults.missing, deeds)), None)

    def _not_whole(self, site: Site) -> str | None:
        def whole() -> bool:
            return not site.unwell()

        try:
            wait_until(
                whole,
                clock=self._tools.clock,
                within_s=HEALTHY_WITHIN_S,
                what=f"{site.service.name} is whole before the fault",
                every_s=0.25,
            )
        except DeadlineExceeded as error:
            return "; ".join((str(error), *site.unwell()))
        return None

    def _site(self, kind: ServiceKind) -> Site:
        tools = self._tools
        return Site(
            service_of(tools.platform, kind),
            clusters=tools.clusters,
            incidents=tools.incidents,
            journal=tools.journal,
            limits=tools.limits,
            observations=tools.observations,
            clock=tools.clock,
        )

    def _load(self, site: Site) -> Load:
        loads, name = self._tools.loads, site.service.name
        return loads.writes(name) if site.service.kind is ServiceKind.POSTGRES else loads.gets(name)

    def _application(self, site: Site) -> Load | None:
        applications = self._tools.applications
        if applications is None or site.service.kind is not ServiceKind.POSTGRES:
            return None
        return applications.requests(site.service.name)


class _Watch:
    """Injects, follows, heals, telling each turn. Raises DeadlineExceeded at what does not come."""

    def __init__(self, tools: DrillTools, site: Site, course: Course, tell: Callable[[str], None]) -> None:
        self._tools = tools
        self._site = site
        self._course = course
        self._tell = tell
        self._victims = site.victims()

    def whole(self) -> None:
        """From the first fault until all is as before."""
        for fault in self._course.scenario.faults:
            self._inject(fault)
        if self._course.scenario.outcome in FOLLOWED:
            self._follow()
        else:
            self._endure()
        self._settle()

    def _inject(self, fault: Fault) -> None:
        for target in targets_of(fault, self._victims):
            moment = self._tools.faults.inject(fault.deed, target)
            if fault.deed is not Deed.ARM:
                self._course.injected_at = moment
            self._say(f"injected: {fault.deed} {target}".rstrip())

    def _follow(self) -> None:
        """The incident and its run, to their ends."""
        course, scenario = self._course, self._course.scenario
        self._until(self._found, BEGINS_WITHIN_S, "an incident is opened")
        self._say(f"detected: {course.incident.summary if course.incident else ''}")
        self._until(lambda: self._refreshed().run is not None, BEGINS_WITHIN_S, "a run starts")
        self._say(f"decided: {course.run.plan.summary if course.run else ''}")
        for fault in scenario.mid_run:
            self._hit_in_the_run(fault)
        if scenario.lasts_s is not None:
            self._last(scenario.lasts_s)
        self._until(lambda: self._refreshed().run_has_ended(), ENDS_WITHIN_S, "the run ends")
        self._say(f"run {course.run.state if course.run else ''}")
        self._heal()
        self._until(lambda: self._refreshed().incident_has_ended(), ENDS_WITHIN_S, "the incident ends")
        self._say(f"incident {course.incident.state if course.incident else ''}")

    def _endure(self) -> None:
        """The fault lasts, is healed, and what came of it is looked up."""
        self._last(self._course.scenario.lasts_s or 0.0)
        self._tools.clock.pause(AFTERMATH_S)
        if self._found():
            self._refreshed()
            self._say(f"incident: {self._course.incident.summary if self._course.incident else ''}")

    def _last(self, seconds: float) -> None:
        self._tools.clock.pause(seconds)
        self._heal()

    def _heal(self) -> None:
        self._course.missed += self._tools.faults.release()
        self._say("every fault is healed")

    def _settle(self) -> None:
        """Redundancy comes back, or the report says what is left."""
        look = self._site.missing
        if self._course.scenario.outcome is not Outcome.REFUSED:
            look = self._site.unwell

        def as_before() -> bool:
            self._course.left[:] = look()
            return not self._course.left

        try:
            self._until(as_before, ENDS_WITHIN_S, "all is as before", every_s=0.25)
        except DeadlineExceeded:
            self._say(f"left behind: {'; '.join(self._course.left)}")
        else:
            self._say("all is as before")
        self._refreshed()

    def _hit_in_the_run(self, fault: Fault) -> None:
        course, step = self._course, self._course.scenario.mid_step

        def hit() -> bool:
            run = self._refreshed().run
            if run is None or run.lease_owner is None or run.current.action is not step:
                return False
            self._victims[Victim.WORKER] = (run.lease_owner.split("/")[1],)
            for target in targets_of(fault, self._victims):
                self._tools.faults.inject(fault.deed, target)
            return True

        self._until(hit, 20.0, f"the run is at {step}", every_s=0.005)
        position = course.run.position if course.run else 0
        hit_ones = ", ".join(targets_of(fault, self._victims))
        self._say(f"injected: {fault.deed} {hit_ones} at step {position}")

    def _found(self) -> bool:
        """What breaks several instances opens as many incidents, of which one gets the run: that one, or the
        first for as long as none has.
        """
        course = self._course
        mine = [
            i
            for i in self._tools.incidents.recent(20)
            if i.service == course.service.name
            and i.kind is course.scenario.incident
            and i.detected_at >= course.injected_at
        ]
        course.incident = min(mine, key=lambda i: (i.run is None, i.id), default=None)
        return course.incident is not None

    def _refreshed(self) -> Course:
        course = self._course
        if course.run is None:
            self._found()
        if course.incident is not None:
            course.incident = self._tools.incidents.get(course.incident.id)
            if course.incident.run is not None:
                course.run = self._tools.journal.get(course.incident.run)
        return course

    def _until(
        self, condition: Callable[[], bool], within_s: float, what: str, every_s: float = 0.05
    ) -> None:
        wait_until(condition, clock=self._tools.clock, within_s=within_s, what=what, every_s=every_s)

    def _say(self, text: str) -> None:
        now = self._tools.clock.now()
        self._course.told.append((now, text))
        self._tell(f"T+{self._course.since(now) or 0.0:5.2f}  {text}")
