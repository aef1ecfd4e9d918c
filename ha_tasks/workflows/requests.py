"""RecoveryDesk: requests of other services, each answered once by its key.

Whatever dies between two lines of it, the same request again comes to the same run: the book knows the
key, the journal knows the run by it, and an incident is opened or joined by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import PlaybookError
from ha_tasks.model.fault import closest
from ha_tasks.model.guards import PASSED, Guard, Refusal, refusal
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState, incident_key
from ha_tasks.model.plain import Facts, Json
from ha_tasks.model.platform import Platform, Service
from ha_tasks.model.playbook import Plan
from ha_tasks.model.request import (
    AnswerState,
    DeskRule,
    RecoveryRequest,
    Wrong,
    parse_request,
    parse_status,
)
from ha_tasks.model.run import TERMINAL
from ha_tasks.model.verdict import Verdict, VerdictState
from ha_tasks.names import Counter, Histogram
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import Incidents, Journal
from ha_tasks.ports.requests import KeptRequest, RequestBook, order_key
from ha_tasks.workflows.detection import Detection
from ha_tasks.workflows.guard_facts import GuardFactsGatherer
from ha_tasks.workflows.request_answers import answer, of_run, planned
from ha_tasks.workflows.request_targets import Aim, Denied, aim, without_playbook
from ha_tasks.workflows.starting import Order, RunStarter

JUDGE_WITHIN_S = 3.0
LOOK_EVERY_S = 0.2
MODE = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A request with what was found out about it."""

    asked: RecoveryRequest
    service: Service
    aim: Aim
    verdicts: tuple[Verdict, ...]
    incident: Incident
    plan: Plan

    @property
    def blind(self) -> bool:
        return any(v.state is VerdictState.BLIND for v in self.verdicts)


class RecoveryDesk:
    """Where other services ask for recoveries. Every answer is plain JSON, and none bears a secret."""

    def __init__(
        self,
        *,
        platform: Platform,
        detection: Detection,
        planner: RecoveryPlanner,
        guards: GuardFactsGatherer,
        starter: RunStarter,
        book: RequestBook,
        incidents: Incidents,
        journal: Journal,
        ledger: Ledger,
        clock: Clock,
        actor: str,
        held: Callable[[], str | None] = lambda: None,
    ) -> None:
        """``held``: why nothing may be started from this process at all, as for RunStarter."""
        self._platform = platform
        self._detection = detection
        self._planner = planner
        self._guards = guards
        self._starter = starter
        self._book = book
        self._incidents = incidents
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._actor = actor
        self._held = held

    def request(self, body: Facts) -> Json:
        """Opens or joins an incident and starts its run, once per key. Idempotent.

        StoreUnreachable: nothing was answered; the same request again is right.
        """
        asked, wrong = parse_request(body)
        if asked is None:
            return self._counted(_invalid(*wrong))
        stranger = self._stranger(asked)
        if stranger is not None:
            return self._counted(_invalid(stranger))
        if asked.dry_run:
            return self._counted(self._rehearsed(asked))
        return self._once(asked)

    def status(self, body: Facts) -> Json:
        """What became of a request or a run. Reads only."""
        question, wrong = parse_status(body)
        if question is None:
            return _invalid(*wrong)
        try:
            if question.run is not None:
                return of_run(self._journal.get(question.run))
            return self._now(self._book.get(str(question.idempotency_key)))
        except KeyError:
            return answer(AnswerState.UNKNOWN)

    def _once(self, asked: RecoveryRequest) -> Json:
        kept, new = self._book.receive(
            key=asked.idempotency_key,
            sha256=asked.sha256(),
            body=asked.to_json(),
            requested_by=asked.requested_by,
            now=self._clock.now(),
        )
        if kept.sha256 != asked.sha256():
            return self._counted(answer(AnswerState.CONFLICT, duplicate=True))
        if kept.answer is not None or kept.run is not None:
            return self._counted(self._now(kept) | {"duplicate": True})
        made = self._acted(asked, kept.received_at)
        self._book.answer(asked.idempotency_key, made, made["run"])
        if made["run"] is None:
            # Another worker may have the same message: what was refused here by its run was no refusal.
            made = self._now(self._book.get(asked.idempotency_key))
        return self._counted(made | {"duplicate": not new})

    def _now(self, kept: KeptRequest) -> Json:
        """The answer to a request as it is by now."""
        if kept.run is not None:
            return of_run(self._journal.get(kept.run))
        return kept.answer or answer(AnswerState.RECEIVED)

    def _stranger(self, asked: RecoveryRequest) -> Wrong | None:
        """A name that the inventory does not have. Not written down: with the right one the key is free."""
        service = self._platform.services.get(asked.service)
        if service is None:
            mending = closest(asked.service, self._platform.services)
            return Wrong(field="service", problem="there is no such service", mending=mending)
        names = [each.name for each in service.instances]
        if asked.scope not in (None, *names):
            mending = closest(str(asked.scope), names)
            return Wrong(field="scope", problem=f"{service.name} has no such instance", mending=mending)
        return None

    def _rehearsed(self, asked: RecoveryRequest) -> Json:
        case = self._case(asked)
        if not isinstance(case, _Case):
            return case
        refused = self._refusal(case)
        return answer(
            AnswerState.REHEARSED,
            incident=case.incident.id or None,
            refused=None if refused is None else _told(refused),
            plan=planned(case.plan),
        )

    def _acted(self, asked: RecoveryRequest, received_at: datetime) -> Json:
        case = self._case(asked)
        if not isinstance(case, _Case):
            return case
        deadline = None if asked.deadline_s is None else received_at + timedelta(seconds=asked.deadline_s)
        if deadline is not None and self._clock.now() > deadline:
            # The store or the worker was away meanwhile.
            detail = f"it could not begin within {asked.deadline_s:g} s of its receipt"
            return _denied(Denied(rule=DeskRule.DEADLINE, detail=detail))
        if case.incident.id and case.incident.run is not None:
            joined = self._journal.get(case.incident.run)
            if joined.state not in TERMINAL:
                return of_run(joined)
        refused = self._refusal(case)
        if refused is not None and not refused.approvable and not case.incident.id:
            # Nothing stands open, so nothing is opened: a request that is refused leaves no incident.
            self._ledger.count(Counter.BLOCKED, {"guard": refused.guard})
            return answer(AnswerState.REFUSED, refused=_told(refused))
        return self._started(case, deadline)

    def _case(self, asked: RecoveryRequest) -> _Case | Json:
        """Everything about the request, or the answer that ends it. Reads, and looks at the service."""
        service = self._platform.services[asked.service]
        never = without_playbook(asked, service)
        if never is not None:
            return _denied(never)
        verdicts = self._judged(service)
        found = aim(asked, service, self._detection.primary_of(service), verdicts)
        if isinstance(found, Wrong):
            return _invalid(found)
        if isinstance(found, Denied):
            return _denied(found)
        return self._aimed(asked, service, found, verdicts)

    def _aimed(
        self, asked: RecoveryRequest, service: Service, found: Aim, verdicts: tuple[Verdict, ...]
    ) -> _Case | Json:
        standing = self._standing(service, found)
        if standing is not None and standing.state is IncidentState.ESCALATED:
            return _called(standing)
        incident = standing or _imagined(asked, service, found, self._clock.now())
        try:
            plan = self._planner.create_recovery_plan(incident)
        except PlaybookError as error:
            return _denied(Denied(rule=DeskRule.NO_PLAYBOOK, detail=str(error)))
        if asked.playbook not in (None, plan.playbook):
            detail = f"it would be {plan.playbook}, not the playbook that was named"
            return _denied(Denied(rule=DeskRule.OTHER_PLAYBOOK, detail=detail))
        return _Case(asked=asked, service=service, aim=found, verdicts=verdicts, incident=incident, plan=plan)

    def _judged(self, service: Service) -> tuple[Verdict, ...]:
        """Looks until nothing is in doubt, or for three seconds."""
        ends = self._clock.monotonic() + JUDGE_WITHIN_S
        while True:
            self._detection.look([service])
            verdicts = self._detection.judge([service])
            if not any(v.is_unsettled for v in verdicts) or self._clock.monotonic() >= ends:
                return verdicts
            self._clock.pause(LOOK_EVERY_S)

    def _standing(self, service: Service, found: Aim) -> Incident | None:
        """The incident of this very failure, also one that is a person's by now."""
        key = incident_key(service.name, found.instance, found.kind)
        return next((i for i in self._incidents.current() if i.key == key and i.holds_key), None)

    def _refusal(self, case: _Case) -> Refusal | None:
        held = self._held()
        if held is not None:
            return Refusal(guard=Guard.OBSERVE_ONLY, detail=held)
        facts = self._guards.gather(case.incident, case.plan, blind=case.blind, verdicts=case.verdicts)
        return refusal(facts, PASSED[MODE])

    def _started(self, case: _Case, deadline: datetime | None) -> Json:
        incident = case.incident if case.incident.id else self._opened(case)
        asked = case.asked
        order = Order(
            incident=incident,
            mode=MODE,
            requested_by=asked.requested_by,
            reason=asked.reason,
            idempotency_key=order_key(asked.idempotency_key),
            deadline=deadline,
        )
        said = self._starter.start(order, blind=case.blind, verdicts=case.verdicts)
        if said.run is not None:
            # With a refusal: the run waits for a person, who alone can say yes to what was refused.
            return of_run(said.run) | {"refused": None if said.refused is None else _told(said.refused)}
        if said.refused is not None:
            return answer(AnswerState.REFUSED, incident=incident.id, refused=_told(said.refused))
        return self._passed_by(incident)

    def _passed_by(self, incident: Incident) -> Json:
        """Neither run nor refusal: another has just started it, or it was escalated."""
        now = self._incidents.get(incident.id)
        if now.run is not None:
            return of_run(self._journal.get(now.run))
        return _called(now)

    def _opened(self, case: _Case) -> Incident:
        imagined, asked = case.incident, case.asked
        verdict = case.aim.verdict
        incident, new = self._incidents.open(
            key=imagined.key,
            service=imagined.service,
            instance=imagined.instance,
            kind=imagined.kind,
            severity=imagined.severity,
            summary=imagined.summary,
            fault_at=imagined.fault_at,
            now=imagined.detected_at,
            actor=self._actor,
            evidence={
                "request": asked.idempotency_key,
                "requested_by": asked.requested_by,
                "verdict": verdict.evidence if verdict else "",
                "reported": dict(asked.evidence),
            },
        )
        if new:
            delay_s = (incident.detected_at - incident.fault_at).total_seconds()
            labels = {"service_name": case.service.name, "severity": incident.severity}
            self._ledger.count(Counter.INCIDENTS, labels)
            self._ledger.observe(Histogram.DETECTION_DELAY, {"detector": case.service.kind}, delay_s)
        return incident

    def _counted(self, said: Json) -> Json:
        self._ledger.count(Counter.REQUESTS, {"answer": _kind_of_answer(said)})
        return said


def _kind_of_answer(said: Json) -> str:
    """A word of ``names.RequestAnswer``."""
    if said["state"] in (AnswerState.INVALID, AnswerState.CONFLICT, AnswerState.REHEARSED):
        return str(said["state"])
    if said["duplicate"]:
        return "duplicate"
    return "accepted" if said["run"] is not None else "refused"


def _told(refused: Refusal) -> Json:
    return {"guard": str(refused.guard), "detail": refused.detail}


def _invalid(*wrong: Wrong) -> Json:
    return answer(AnswerState.INVALID, errors=wrong)


def _denied(no: Denied, incident: int | None = None) -> Json:
    refused = {"guard": str(no.rule), "detail": no.detail}
    return answer(AnswerState.REFUSED, incident=incident, refused=refused)


def _called(incident: Incident) -> Json:
    """What was given up, or refused by a person, is not begun anew for whoever asks next."""
    detail = (
        f"I-{incident.id} is {incident.state}: a person was called; "
        f"when mended: ha-tasks ack I-{incident.id}; then ask with a new key"
    )
    return _denied(Denied(rule=DeskRule.ESCALATED, detail=detail), incident=incident.id)


def _imagined(asked: RecoveryRequest, service: Service, found: Aim, now: datetime) -> Incident:
    """The incident as it would be opened (``id`` 0)."""
    verdict = found.verdict
    failed = verdict is not None and verdict.state is VerdictState.FAILED
    evidence = verdict.evidence if failed and verdict else "asked for"
    return Incident(
        id=0,
        key=incident_key(service.name, found.instance, found.kind),
        service=service.name,
        instance=found.instance,
        kind=found.kind,
        state=IncidentState.SUSPECT,
        severity=_severity(found.kind, failed=failed),
        summary=f"{found.instance} of {service.name}: {evidence} ({asked.kind}, {asked.requested_by})",
        fault_at=(verdict.failing_since if failed and verdict else None) or now,
        detected_at=now,
    )


def _severity(kind: IncidentKind, *, failed: bool) -> str:
    if kind is IncidentKind.PRIMARY_DOWN:
        return "critical"
    return "warning" if failed else "info"
