"""The tasks: each parses its arguments, calls a workflow, and answers plain JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery import Celery

from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.run import Phase
from ha_tasks.names import ActionName, TaskName, step_task, undo_task
from ha_tasks.tasks.runtime import Runtime

STEP_LIMIT_S = 60
LONG_STEP_LIMIT_S = 240
"""For what moves a whole data directory, or waits until it has caught up."""
LONG_STEPS = frozenset({ActionName.REJOIN_NODE, ActionName.AWAIT_STREAMING})


def register(app: Celery, runtime: Runtime) -> None:
    """Adds every task to the application, and to no other."""
    for action in ActionName:
        limit = LONG_STEP_LIMIT_S if action in LONG_STEPS else STEP_LIMIT_S
        _add(app, step_task(action), _step(runtime, Phase.DO), limit)
        _add(app, undo_task(action), _step(runtime, Phase.UNDO), limit)
    _add(app, TaskName.SWEEP, _sweep(runtime), 10)
    _add(app, TaskName.PROBE_HTTP, _probe(runtime, ServiceKind.HTTP), 10)
    _add(app, TaskName.PROBE_POSTGRES, _probe(runtime, ServiceKind.POSTGRES), 10)
    _add(app, TaskName.PROBE_REDIS, _probe(runtime, ServiceKind.REDIS), 10)
    _add(app, TaskName.CHECK_REPLICATION, _check_replication(runtime), 20)
    _add(app, TaskName.DETECT_AND_RECOVER, _detect_and_recover(runtime), 180)
    _add(app, TaskName.PRUNE, _prune(runtime), 60)


def _add(app: Celery, name: str, work: Callable[..., Json], limit_s: int) -> None:
    app.task(name=str(name), shared=False, time_limit=limit_s, soft_time_limit=limit_s - 5)(work)


def _step(runtime: Runtime, phase: Phase) -> Callable[..., Json]:
    def take(*, run: int, step: int, **_: Any) -> Json:
        """One step of one run; whether it is still to be taken says the journal."""
        return runtime.system().orchestrator.advance(run, step, phase).to_json()

    return take


def _sweep(runtime: Runtime) -> Callable[..., Json]:
    def sweep() -> Json:
        """Sends again what was lost, and tells incidents what a dead executor could not."""
        system = runtime.system()
        sent = system.orchestrator.sweep()
        system.follower.follow_all()
        return {"sent": sent}

    return sweep


def _probe(runtime: Runtime, kind: ServiceKind) -> Callable[..., Json]:
    def probe() -> Json:
        """The safety net below the observers: looks, judges and reacts from this worker."""
        system = runtime.system()
        services = [s for s in system.platform.services.values() if s.kind is kind]
        system.detection.look(services)
        finding = system.detection.react(system.detection.judge(services))
        return {
            "verdicts": {v.target.instance: str(v.state) for v in finding.verdicts},
            "started": [run.id for run in finding.started],
        }

    return probe


def _check_replication(runtime: Runtime) -> Callable[..., Json]:
    def check_replication() -> Json:
        """Who streams from whom; a primary that does not answer is a failed check, not an error."""
        system = runtime.system()
        reports: Json = {}
        for service in system.platform.services.values():
            if service.kind is not ServiceKind.POSTGRES:
                continue
            try:
                report = system.replication.check(service)
            except (ServiceUnreachable, KeyError) as error:
                reports[service.name] = {"ok": False, "error": str(error)}
            else:
                reports[service.name] = report.to_json()
            ok = bool(reports[service.name]["ok"])
            system.store.ledger.integrity("replication", service.name, ok, system.clock.now())
        return reports

    return check_replication


def _detect_and_recover(runtime: Runtime) -> Callable[..., Json]:
    def detect_and_recover(*, service: str | None = None) -> Json:
        """The operation of that name; its answer is a RecoveryResult."""
        return runtime.system().detect_and_recover(service).to_json()

    return detect_and_recover


def _prune(runtime: Runtime) -> Callable[..., Json]:
    def prune() -> Json:
        """Deletes probe outcomes that are older than the policy keeps them; counters stay."""
        system = runtime.system()
        before = system.clock.now() - timedelta(seconds=system.platform.policies.probe_retention_s)
        return {"pruned": system.store.observations.prune(before)}

    return prune
