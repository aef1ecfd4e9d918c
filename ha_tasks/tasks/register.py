"""The tasks: each parses its arguments, calls a workflow, and answers plain JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery import Celery

from ha_tasks.bootstrap.actions import limit_s
from ha_tasks.bootstrap.own_actions import OWN_LIMIT_S, offered
from ha_tasks.bootstrap.replication import replication_watch_of
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.run import Phase
from ha_tasks.names import ActionName, TaskName, step_task, undo_task
from ha_tasks.tasks.contract import register_contract
from ha_tasks.tasks.runtime import Runtime
from ha_tasks.workflows.witness import verify

log = logging.getLogger("ha_tasks.audit")


def register(app: Celery, runtime: Runtime) -> None:
    """Adds every task to the application, and to no other."""
    for action in ActionName:
        limit = limit_s(action)
        _add(app, step_task(action), _step(runtime, Phase.DO), limit)
        _add(app, undo_task(action), _step(runtime, Phase.UNDO), limit)
    # By name only: their code is not imported before the fork. One that cannot be loaded is registered
    # too, so that its step fails with the reason instead of waiting for a worker that takes it.
    for own in offered()[0]:
        _add(app, step_task(own), _step(runtime, Phase.DO), OWN_LIMIT_S)
        _add(app, undo_task(own), _step(runtime, Phase.UNDO), OWN_LIMIT_S)
    _add(app, TaskName.SWEEP, _sweep(runtime), 10)
    _add(app, TaskName.PROBE_HTTP, _probe(runtime, ServiceKind.HTTP), 10)
    _add(app, TaskName.PROBE_POSTGRES, _probe(runtime, ServiceKind.POSTGRES), 10)
    _add(app, TaskName.PROBE_REDIS, _probe(runtime, ServiceKind.REDIS), 10)
    _add(app, TaskName.CHECK_REPLICATION, _check_replication(runtime), 20)
    _add(app, TaskName.MONITOR_SYSTEM_HEALTH, _monitor_system_health(runtime), 20)
    _add(app, TaskName.DETECT_AND_RECOVER, _detect_and_recover(runtime), 180)
    _add(app, TaskName.PRUNE, _prune(runtime), 60)
    _add(app, TaskName.VERIFY_AUDIT, _verify_audit(runtime), 120)
    register_contract(app, runtime)


def _add(app: Celery, name: str, work: Callable[..., Json], limit_s: int) -> None:
    app.task(name=str(name), shared=False, time_limit=limit_s, soft_time_limit=limit_s - 5)(work)


def _step(runtime: Runtime, phase: Phase) -> Callable[..., Json]:
    def take(*, run: int, step: int, **_: Any) -> Json:
        """One step of one run; whether it is still to be taken says the journal."""
        return runtime.system().orchestrator.advance(run, step, phase).to_json()

    return take


def _sweep(runtime: Runtime) -> Callable[..., Json]:
    def sweep() -> Json:
        """Sends again what was lost, tells incidents what the dead could not, ends what is too late."""
        system = runtime.system()
        sent = system.orchestrator.sweep()
        system.approver.expire()
        system.follower.follow_all()
        system.witness.look()
        return {"sent": sent}

    return sweep


def _probe(runtime: Runtime, kind: ServiceKind) -> Callable[..., Json]:
    def probe() -> Json:
        """The safety net below the observers: looks, judges and reacts from this worker."""
        system = runtime.system()
        services = [s for s in system.platform.services.values() if s.kind is kind]
        system.detection.look(services)
        finding = system.detection.react(system.detection.judge(services))
        system.led.watch.look()
        return {
            "verdicts": {v.target.instance: str(v.state) for v in finding.verdicts},
            "started": [run.id for run in finding.started],
        }

    return probe


def _check_replication(runtime: Runtime) -> Callable[..., Json]:
    def check_replication() -> Json:
        """Who streams from whom, and what is wrong about it; who does not answer is part of the picture."""
        system = runtime.system()
        databases = [s for s in system.platform.services.values() if s.replicates]
        watch = replication_watch_of(system)
        return {service.name: watch.look(service) for service in databases}

    return check_replication


def _monitor_system_health(runtime: Runtime) -> Callable[..., Json]:
    def monitor_system_health() -> Json:
        """The operation of that name; its answer is a SystemHealthStatus, and the latest is kept."""
        return runtime.system().monitor_system_health().to_json()

    return monitor_system_health


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


def _verify_audit(runtime: Runtime) -> Callable[..., Json]:
    def verify_audit() -> Json:
        """Walks the audit chain; what is wrong with it lowers the score of data integrity."""
        system = runtime.system()
        found = verify(system.store.audit, system.audit_heads)
        problem = "" if found.broken is None else f"entry {found.broken.seq} {found.broken.problem}"
        system.store.ledger.integrity("audit_chain", "store", found.ok, system.clock.now(), problem)
        if problem:
            log.critical("the audit chain is broken: %s; see: ha-tasks audit verify", problem)
        return {"ok": found.ok, "entries": found.entries, "problem": problem}

    return verify_audit
