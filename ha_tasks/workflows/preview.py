"""A plan before it runs: what each step would change, and how long it will take. Reads only.

Only ``capture`` and ``plan`` of the actions are called, which have no effect by their contract; each
step is shown what the steps before it would hand on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ha_tasks.errors import HaTasksError
from ha_tasks.model.forecast import Forecast, forecast
from ha_tasks.model.incident import Incident
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service
from ha_tasks.model.playbook import Plan, PlannedStep
from ha_tasks.ports.action import Action, Difference, StepContext
from ha_tasks.ports.repositories import Incidents, Journal

LOOK_BACK = 200
"""So many of the latest runs are the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewedStep:
    """A step and what it would change; ``trouble``: why that cannot be told, empty otherwise."""

    planned: PlannedStep
    difference: Difference
    trouble: str = ""


def preview(
    plan: Plan, service: Service, incident: Incident, actions: Mapping[str, Action]
) -> tuple[PreviewedStep, ...]:
    """What each step would change if the plan ran now. Raises nothing of the tree: it is told as trouble."""
    preview = _Preview(plan, service, incident)
    return tuple(preview.of(step, actions[step.action]) for step in plan.steps)


class _Preview:
    """Goes through the steps, and keeps what each would hand on."""

    def __init__(self, plan: Plan, service: Service, incident: Incident) -> None:
        self._plan = plan
        self._service = service
        self._incident = incident
        self._outputs: dict[str, Json] = {}

    def of(self, step: PlannedStep, action: Action) -> PreviewedStep:
        try:
            captured = action.capture(self._context(step, {})) or {}
            said = action.plan(self._context(step, captured))
        except HaTasksError as error:
            return PreviewedStep(planned=step, difference=Difference(text=""), trouble=str(error))
        difference = said if isinstance(said, Difference) else Difference(text=said)
        self._outputs[step.id] = difference.output
        return PreviewedStep(planned=step, difference=difference)

    def _context(self, step: PlannedStep, captured: Json) -> StepContext:
        """What an action is given to say what it would do: no run, no lease, so nothing that it could do."""
        return StepContext(
            run=0,
            step=step.no,
            key="plan",
            service=self._service,
            incident=self._incident,
            args=step.args,
            captured=captured,
            outputs=dict(self._outputs),
            fence=0,
            verify=self._plan.verify,
            remaining_s=lambda: step.timeout_s,
            lost=lambda: False,
            provider=step.provider,
            action=step.action,
            accepts=self._plan.accepts,
        )


def foretold(plan: Plan, journal: Journal, incidents: Incidents) -> Forecast:
    """How long it will take, by the latest runs of this installation."""
    fault_at = {incident.id: incident.fault_at for incident in incidents.recent(LOOK_BACK)}
    return forecast(plan, journal.recent(LOOK_BACK), fault_at)
