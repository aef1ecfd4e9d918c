"""RecoveryPlanner: from an incident to a plan that can be read before it runs."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from ha_tasks.disaster_recovery.playbooks import LOOKUP, specificity
from ha_tasks.errors import PlaybookError
from ha_tasks.model.action import Traits, is_own_name
from ha_tasks.model.fault import closest
from ha_tasks.model.incident import Incident
from ha_tasks.model.led_by_others import refusal
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Service
from ha_tasks.model.playbook import (
    Plan,
    PlannedStep,
    Playbook,
    PlaybookStep,
    UndoPolicy,
)
from ha_tasks.names import ActionName

NOT_OFFERED = Traits(missing="no installed package offers it; install the one that does")
VERIFY_MARGIN_S = 15.0
"""Beyond the health gate's time: what the data gate and the performance gate may take."""


class RecoveryPlanner:
    """The same incident gives the same plan, until platform, playbooks or situation change. Reads only."""

    def __init__(
        self,
        platform: Platform,
        playbooks: Sequence[Playbook],
        own: Mapping[str, Traits] | None = None,
        situation: Callable[[Service], Json] = lambda _: {},
        changed: Callable[[Service, str], bool] = lambda *_: False,
    ) -> None:
        """``own``: one's own actions that are offered here; None: they are not judged.

        ``situation``: what stands in SQL about a service that decides what the steps do.
        ``changed``: whether what a service is served from was changed on the host of that instance.
        """
        self._platform = platform
        self._playbooks = tuple(playbooks)
        self._own = own
        self._situation = situation
        self._changed = changed

    def match(self, incident: Incident) -> Playbook:
        """The most specific playbook for the incident, then the one of the highest priority.

        Raises PlaybookError when there is none, or when the service is not ours to recover.
        """
        service = self._service(incident)
        others = refusal(service)
        if others:
            raise PlaybookError(others)
        fitting = self._fitting(incident, service)
        if not fitting:
            raise PlaybookError(
                f"no playbook is for {incident.kind} of {service.name} ({service.kind}); "
                "recover it by hand, or write one: docs/reference/playbooks.md"
            )
        return max(fitting, key=lambda playbook: (specificity(playbook.match), playbook.priority))

    def _fitting(self, incident: Incident, service: Service) -> list[Playbook]:
        """Whether something was changed is asked of hosts, so only where a playbook wants to know."""
        fitting = [playbook for playbook in self._playbooks if _fits(playbook, incident, service)]
        changed = any(p.match.changed for p in fitting) and self._changed(service, incident.instance)
        return [playbook for playbook in fitting if changed or not playbook.match.changed]

    def create_recovery_plan(self, incident: Incident, playbook: str | None = None) -> Plan:
        """The plan for the incident: every step with its arguments, in order, and verification last.

        ``playbook``: by that one, instead of the one that ``match`` finds. Raises PlaybookError as ``match``
        does, and when that playbook does not exist or is for something else.
        """
        matched = self.match(incident)
        return self.plan_of(matched if playbook is None else self._named(playbook, incident), incident)

    def _named(self, name: str, incident: Incident) -> Playbook:
        known = {playbook.name: playbook for playbook in self._playbooks}
        if name not in known:
            raise PlaybookError(f'there is no playbook "{name}"; {closest(name, known)}')
        if not _fits(known[name], incident, self._service(incident)):
            raise PlaybookError(f"{name} is not for {incident.kind} of {incident.service}")
        return known[name]

    def plan_of(self, playbook: Playbook, incident: Incident) -> Plan:
        """The plan of that playbook for the incident. PlaybookError when it needs an action that is not here.

        No other playbook takes its place then: what the right one would have done, a person decides.
        """
        self._must_be_here(playbook)
        steps = [*in_order(playbook.steps), _verification(playbook)]
        return Plan(
            service=incident.service,
            scope=incident.service,
            playbook=playbook.name,
            version=playbook.version,
            sha256=playbook.sha256,
            recovery_type=playbook.recovery_type,
            targets=(incident.instance,) if incident.instance else (),
            steps=tuple(self._planned(no, step, incident) for no, step in enumerate(steps, start=1)),
            guards=playbook.guards,
            verify=playbook.verify,
            mitigates=playbook.mitigates,
            summary=f"{playbook.name} v{playbook.version} for {incident.instance}: {playbook.summary}",
            situation=self._situation(self._service(incident)),
        )

    def _must_be_here(self, playbook: Playbook) -> None:
        for step in playbook.steps:
            if self._own is None or not is_own_name(step.action):
                continue
            why = self._own.get(step.action, NOT_OFFERED).missing
            if why:
                raise PlaybookError(f"{playbook.name}: step {step.id}: action {step.action}: {why}")

    def _planned(self, no: int, step: PlaybookStep, incident: Incident) -> PlannedStep:
        args: Json = {name: _looked_up(value, incident) for name, value in step.args.items()}
        traits = (self._own or {}).get(step.action)
        return PlannedStep(
            no=no,
            id=step.id,
            action=step.action,
            args=args,
            undo=step.undo,
            timeout_s=step.timeout_s,
            attempts=step.attempts,
            point_of_no_return=step.point_of_no_return,
            provider="" if traits is None else traits.provider,
        )

    def _service(self, incident: Incident) -> Service:
        if incident.service not in self._platform.services:
            raise PlaybookError(
                f"{incident.service} is not in the inventory any more; add it, or acknowledge the incident"
            )
        return self._platform.services[incident.service]


def in_order(steps: Iterable[PlaybookStep]) -> list[PlaybookStep]:
    """Every step after what it needs, otherwise as they stand in the file. CycleError when that cannot be."""
    by_id = {step.id: step for step in steps}
    place = {name: number for number, name in enumerate(by_id)}
    sorter = graphlib.TopologicalSorter({step.id: step.needs for step in by_id.values()})
    sorter.prepare()
    ready: list[str] = list(sorter.get_ready())
    ordered: list[PlaybookStep] = []
    while ready:
        first = min(ready, key=place.__getitem__)
        ready.remove(first)
        ordered.append(by_id[first])
        sorter.done(first)
        ready += sorter.get_ready()
    return ordered


def _fits(playbook: Playbook, incident: Incident, service: Service) -> bool:
    match = playbook.match
    return (
        match.incident is incident.kind
        and match.kind in (None, service.kind)
        and match.service in (None, service.name)
    )


def _verification(playbook: Playbook) -> PlaybookStep:
    """The end of every run: it changes nothing, so there is nothing to undo."""
    return PlaybookStep(
        id=str(ActionName.VERIFY_SERVICE),
        action=ActionName.VERIFY_SERVICE,
        undo=UndoPolicy.KEEP,
        timeout_s=playbook.verify.within_s + VERIFY_MARGIN_S,
    )


def _looked_up(value: str, incident: Incident) -> str:
    """The argument with every ``${incident...}`` replaced; the loader has refused all others."""
    known = {
        "incident.instance": incident.instance,
        "incident.service": incident.service,
        "incident.kind": str(incident.kind),
    }
    return LOOKUP.sub(lambda found: known[found.group(1)], value)
