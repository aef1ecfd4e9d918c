"""The class that the design document shows for recovery: a thin front over the parts."""

from __future__ import annotations

from typing import Protocol

from ha_tasks.model.results import RecoveryResult
from ha_tasks.recovery.failure_detector import FailureDetector
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.recovery import DetectAndRecover


class BaseRecovery(Protocol):
    """An existing platform's own recovery object, whose answer is asked first."""

    def check_system_health(self) -> object:
        """Anything; a false value means that the platform itself calls its system unhealthy."""
        ...


class HighAvailabilityRecoverySystem:
    """``bootstrap.recovery_system()`` makes one. ``create_system_backup`` comes with the backup parts."""

    def __init__(
        self,
        *,
        failure_detector: FailureDetector,
        recovery_orchestrator: RecoveryOrchestrator,
        detect_and_recover: DetectAndRecover,
        base: BaseRecovery | None = None,
    ) -> None:
        self.failure_detector = failure_detector
        self.recovery_orchestrator = recovery_orchestrator
        self.base = base
        self._detect_and_recover = detect_and_recover

    def detect_and_recover(self, service_name: str | None = None) -> RecoveryResult:
        """See workflows/recovery.py. A base that calls its system unhealthy is never answered "healthy"."""
        base_is_well = self.base is None or bool(self.base.check_system_health())
        result = self._detect_and_recover(service_name)
        if base_is_well or not result.success or result.services_recovered:
            return result
        return RecoveryResult(
            success=False, message="no failure found here, but the platform's own check reports one"
        )
