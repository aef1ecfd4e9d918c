"""The classes that the design document shows for recovery and health: thin fronts over the parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ha_tasks.failover.checkup import Checkup
from ha_tasks.model.results import RecoveryResult
from ha_tasks.model.system_health import AreaHealth, SystemHealthStatus
from ha_tasks.recovery.failure_detector import FailureDetector
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.recovery import DetectAndRecover
from ha_tasks.workflows.system_health import BaseHealth, MonitorSystemHealth


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


class ComprehensiveHealthMonitor:
    """``bootstrap.health_system()`` makes one. A ``base`` is asked first, and counts as one check."""

    def __init__(
        self, *, checkup: Checkup, monitor: MonitorSystemHealth, base: BaseHealth | None = None
    ) -> None:
        self.checkup = checkup
        self.base = base
        self._monitor = monitor

    def monitor_system_health(self) -> SystemHealthStatus:
        """See workflows/system_health.py."""
        return self._monitor(self.base)

    def check_all_services_health(self) -> AreaHealth:
        """See failover/checkup.py, as the others."""
        return self.checkup.check_all_services_health()

    def check_infrastructure_health(self) -> AreaHealth:
        """Machines."""
        return self.checkup.check_infrastructure_health()

    def check_database_health(self) -> AreaHealth:
        """Databases from inside."""
        return self.checkup.check_database_health()

    def check_external_dependencies(self) -> AreaHealth:
        """What lies outside."""
        return self.checkup.check_external_dependencies()

    def calculate_health_score(self, areas: Iterable[AreaHealth]) -> float | None:
        """The worst area's; None when nothing is known."""
        return self.checkup.calculate_health_score(areas)
