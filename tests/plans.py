"""Plans for tests: short, valid, with whatever a test wants different."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ha_tasks.model.playbook import GuardSettings, Plan, PlannedStep, UndoPolicy, VerifySettings
from ha_tasks.names import ActionName, RecoveryType
from ha_tasks.ports.repositories import NewRun

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """The moment that many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def planned(
    no: int,
    action: ActionName = ActionName.TAKE_OUT,
    *,
    undo: UndoPolicy = UndoPolicy.RUN,
    attempts: int = 2,
    point_of_no_return: bool = False,
) -> PlannedStep:
    """A step."""
    return PlannedStep(
        no=no,
        id=f"step-{no}",
        action=action,
        args={"instance": "web1"},
        undo=undo,
        timeout_s=15.0,
        attempts=attempts,
        point_of_no_return=point_of_no_return,
    )


def plan_of(*steps: PlannedStep, scope: str = "web/web1") -> Plan:
    """A plan of these steps; of three ordinary ones when none is given."""
    return Plan(
        service="web",
        scope=scope,
        playbook="http-instance-down",
        version=1,
        sha256="0" * 64,
        recovery_type=RecoveryType.RESTART,
        targets=("web1",),
        steps=steps
        or (
            planned(1),
            planned(2, ActionName.RESTART_INSTANCE),
            planned(3, ActionName.VERIFY_SERVICE),
        ),
        guards=GuardSettings(),
        verify=VerifySettings(),
        mitigates=False,
        summary="web1 is restarted",
    )


def new_run(plan: Plan | None = None, *, key: str = "key-1", mode: str = "auto") -> NewRun:
    """A request for a run that belongs to no incident."""
    return NewRun(
        plan=plan or plan_of(),
        incident=None,
        mode=mode,
        requested_by="test",
        reason="a test wants it",
        idempotency_key=key,
    )


def on_scope(scope: str, *, key: str) -> NewRun:
    """A request for an ordinary run on that scope."""
    return new_run(replace(plan_of(), scope=scope), key=key)
