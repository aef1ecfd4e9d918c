"""What the operations of the design document answer."""

from __future__ import annotations

from dataclasses import dataclass

from ha_tasks.model.plain import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryResult:
    """Answer of ``detect_and_recover``. ``recovery_time`` is in seconds, from the first failed probe."""

    success: bool
    message: str = ""
    recovery_time: float | None = None
    services_recovered: tuple[str, ...] = ()
    data_integrity_verified: bool | None = None
    performance_restored: float | None = None
    """Baseline latency over measured latency, at most 1; None when it was not measured."""

    def to_json(self) -> Json:
        """The result as plain JSON."""
        return {
            "success": self.success,
            "message": self.message,
            "recovery_time": self.recovery_time,
            "services_recovered": list(self.services_recovered),
            "data_integrity_verified": self.data_integrity_verified,
            "performance_restored": self.performance_restored,
        }
