"""The course of one drill: what is known of it while it goes on, and the report made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ha_tasks.model.drill import DrillReport, DrillVerdict, Observed, Served, judge_drill
from ha_tasks.model.incident import ENDED, Incident
from ha_tasks.model.load import LoadReport, ended_at, longest_gap_s, lost, outage_s, stale
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Role, Service
from ha_tasks.model.run import TERMINAL, Run, RunState, Step
from ha_tasks.model.scenario import Scenario, expected_of

NO_LOAD = LoadReport(acks=(), misses=(), present=None)


@dataclass(slots=True, kw_only=True)
class Course:
    """One drill on one service. ``injected_at`` moves to the last fault's moment."""

    scenario: Scenario
    service: Service
    injected_at: datetime
    acknowledged: tuple[str, ...]
    before: Json = field(default_factory=dict)
    after: Json = field(default_factory=dict)
    load: LoadReport = NO_LOAD
    application: LoadReport | None = None
    incident: Incident | None = None
    run: Run | None = None
    told: list[tuple[datetime, str]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def victim(self) -> str:
        """The instance that a drill on an HTTP service hits; '' for others."""
        active = (i.name for i in self.service.instances if i.role is Role.ACTIVE)
        return next(active, "")

    def run_has_ended(self) -> bool:
        """False without a run."""
        return self.run is not None and self.run.state in TERMINAL

    def incident_has_ended(self) -> bool:
        """False without an incident."""
        return self.incident is not None and self.incident.state in ENDED

    def since(self, moment: datetime | None) -> float | None:
        """Seconds from the fault to the moment."""
        return None if moment is None else (moment - self.injected_at).total_seconds()

    def judged(self) -> DrillReport:
        """The report with the verdict of what was seen."""
        acks, at = self.load.acks, self.injected_at
        seen = Observed(
            incident=self.incident.state if self.incident else None,
            run=self.run.state if self.run else None,
            outage_s=self._outage_s(),
            rto_s=self.service.rto_s,
            acked_after=sum(a.acked_at > at for a in acks),
            failed=self._failed(),
            lost=lost(self.load),
            stale=stale(acks),
            before=self.before,
            after=self.after,
            missed=tuple(self.missed),
            left=tuple(self.left),
        )
        return self.report(*judge_drill(expected_of(self.scenario, self.service.name, self.victim), seen))

    def report(self, verdict: DrillVerdict, reasons: tuple[str, ...]) -> DrillReport:
        """Everything that was measured, under a verdict."""
        return DrillReport(
            scenario=self.scenario.name,
            verdict=verdict,
            reasons=reasons,
            injected_at=self.injected_at,
            outage_s=self._outage_s(),
            acked=len(self.load.acks),
            lost=lost(self.load),
            stale=stale(self.load.acks),
            failed=self._failed(),
            rto_objective_s=self.service.rto_s,
            rpo_objective_s=self.service.rpo_s,
            incident=self.incident.id if self.incident else None,
            run=self.run.id if self.run else None,
            acknowledged_cooldowns=self.acknowledged,
            served=self._served(),
            timeline=tuple({"at_s": self.since(at), "text": text} for at, text in self.told),
            left=tuple(self.left),
            extra={"evidence": {"before": self.before, "after": self.after}},
            **self._timings(),
        )

    def _outage_s(self) -> float | None:
        return outage_s(self.load.acks, self.injected_at, ended_at(self.load))

    def _failed(self) -> int:
        return sum(m.failed_at > self.injected_at for m in self.load.misses)

    def _served(self) -> Served | None:
        if self.application is None:
            return None
        failed = sum(m.failed_at > self.injected_at for m in self.application.misses)
        answered = sum(a.acked_at > self.injected_at for a in self.application.acks)
        gap = longest_gap_s(self.application, self.injected_at)
        return Served(requests=answered + failed, failed=failed, longest_gap_s=gap)

    def _timings(self) -> dict[str, Any]:
        """Seconds since the injection, by part."""
        run, incident = self.run, self.incident
        acting = [s.ended_at for s in run.steps[:-1] if s.ended_at] if run else []
        succeeded = run is not None and run.state is RunState.SUCCEEDED
        return {
            "detected_s": self.since(incident.detected_at if incident else None),
            "decided_s": self.since(run.created_at if run else None),
            "acted_s": self.since(max(acting, default=None)),
            "verified_s": self.since(run.ended_at if run and succeeded else None),
            "steps": tuple(_step_json(s) for s in run.steps) if run else (),
        }


def _step_json(step: Step) -> Json:
    took = (
        (step.ended_at - step.started_at).total_seconds()
        if step.started_at is not None and step.ended_at is not None
        else None
    )
    return {"action": str(step.action), "state": str(step.state), "seconds": took}
