"""Every class, method, field and default of the design document: here, or with the issue that brings it.

A row whose place is a number waits for that issue; when the thing appears, the row must name its place,
or the test says that the table is behind.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import pytest

from ha_tasks.model.results import RecoveryResult
from ha_tasks.model.system_health import SystemHealthStatus

BACKUPS, MONITORING, TRAFFIC, TUNING, CONTINUITY = 6, 7, 5, 8, 9

PARTS = {
    "FailureDetector": "ha_tasks.recovery.failure_detector",
    "RecoveryOrchestrator": "ha_tasks.recovery.recovery_orchestrator",
    "BackupManager": BACKUPS,
    "RollbackController": "ha_tasks.recovery.rollback_controller",
    "PrometheusIntegration": "ha_tasks.monitoring.prometheus",
    "GrafanaDashboards": MONITORING,
    "AlertManager": MONITORING,
    "MetricsCollector": "ha_tasks.monitoring.metrics_collector",
    "HealthMonitor": "ha_tasks.failover.health_monitor",
    "LoadBalancer": "ha_tasks.failover.load_balancer",
    "ServiceRegistry": "ha_tasks.failover.service_discovery",
    "TrafficRouter": "ha_tasks.failover.traffic_router",
    "ResourceMonitor": TUNING,
    "PerformanceTuner": TUNING,
    "CacheOptimizer": TUNING,
    "QueryOptimizer": TUNING,
    "BackupScheduler": BACKUPS,
    "DataReplication": "ha_tasks.disaster_recovery.data_replication",
    "RecoveryPlanner": "ha_tasks.disaster_recovery.recovery_planner",
    "BusinessContinuity": CONTINUITY,
    # the classes that it shows, as thin facades
    "HighAvailabilityRecoverySystem": "ha_tasks.workflows.facades",
    "AdvancedPrometheusIntegration": MONITORING,
    "CustomMetricsRegistry": MONITORING,
    "AlertRulesManager": MONITORING,
    "ComprehensiveHealthMonitor": "ha_tasks.workflows.facades",
    "PerformanceOptimizer": TUNING,
    # its result types
    "RecoveryResult": "ha_tasks.model.results",
    "SystemBackup": BACKUPS,
    "BackupType": BACKUPS,
    "SystemHealthStatus": "ha_tasks.model.system_health",
    "MonitoringConfig": MONITORING,
    "OptimizationResult": TUNING,
}

METHODS = {
    "HighAvailabilityRecoverySystem.detect_and_recover": "ha_tasks.workflows.facades",
    "HighAvailabilityRecoverySystem.create_system_backup": BACKUPS,
    "FailureDetector.analyze_system_state": "ha_tasks.recovery.failure_detector",
    "RecoveryPlanner.create_recovery_plan": "ha_tasks.disaster_recovery.recovery_planner",
    # execute_recovery_plan and validate_recovery: a run's steps, and its last one
    "RecoveryOrchestrator.advance": "ha_tasks.recovery.recovery_orchestrator",
    "VerifyService.do": "ha_tasks.workflows.actions.verify",
    "BackupManager.backup_database": BACKUPS,
    "BackupManager.backup_files": BACKUPS,
    "BackupManager.backup_configurations": BACKUPS,
    "BackupManager.backup_user_data": BACKUPS,
    "BackupManager.verify_backup_integrity": BACKUPS,
    "AdvancedPrometheusIntegration.setup_comprehensive_monitoring": MONITORING,
    "CustomMetricsRegistry.register_gauge": MONITORING,
    "CustomMetricsRegistry.register_histogram": MONITORING,
    "AlertRulesManager.update_rules": MONITORING,
    "ComprehensiveHealthMonitor.monitor_system_health": "ha_tasks.workflows.facades",
    "ComprehensiveHealthMonitor.handle_service_failure": TRAFFIC,
    "ComprehensiveHealthMonitor.check_all_services_health": "ha_tasks.workflows.facades",
    "ComprehensiveHealthMonitor.check_infrastructure_health": "ha_tasks.workflows.facades",
    "ComprehensiveHealthMonitor.check_database_health": "ha_tasks.workflows.facades",
    "ComprehensiveHealthMonitor.check_external_dependencies": "ha_tasks.workflows.facades",
    "ComprehensiveHealthMonitor.calculate_health_score": "ha_tasks.workflows.facades",
    "LoadBalancer.remove_unhealthy_instance": "ha_tasks.failover.load_balancer",
    "LoadBalancer.add_healthy_instance": "ha_tasks.failover.load_balancer",
    "ServiceRegistry.get_backup_instance": "ha_tasks.failover.service_discovery",
    "PerformanceOptimizer.optimize_system_performance": TUNING,
    "ResourceMonitor.analyze_resource_usage": TUNING,
    "CacheOptimizer.optimize_cache_strategy": TUNING,
    "QueryOptimizer.optimize_slow_queries": TUNING,
}

METRICS = {
    "system_availability_percentage": ((), "gauge"),
    "service_health_score": (("service_name",), "gauge"),
    "recovery_time_seconds": (("recovery_type",), "histogram"),
    "data_integrity_score": ((), "gauge"),
}


def found(place: object, name: str) -> object | None:
    if not isinstance(place, str):
        return None
    thing: object = importlib.import_module(place)
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize(("name", "place"), [*PARTS.items(), *METHODS.items()])
def test_what_the_document_names_is_in_its_place_or_waits_for_a_named_issue(name, place):
    if isinstance(place, int):
        assert place in {BACKUPS, MONITORING, TRAFFIC, TUNING, CONTINUITY}
        return

    thing = found(place, name)

    assert inspect.isclass(thing) or callable(thing)
    assert inspect.getdoc(thing)


def test_the_result_of_a_recovery_has_the_fields_and_defaults_of_the_document():
    fields = {f.name: f.default for f in dataclasses.fields(RecoveryResult)}

    assert fields["success"] is dataclasses.MISSING
    assert set(fields) == {
        "success",
        "message",
        "recovery_time",
        "services_recovered",
        "data_integrity_verified",
        "performance_restored",
    }
    assert RecoveryResult(success=True, message="System healthy").services_recovered == ()


def test_the_health_of_the_system_has_the_fields_of_the_document():
    fields = {f.name for f in dataclasses.fields(SystemHealthStatus)}

    assert fields >= {
        "overall_score",
        "service_health",
        "infrastructure_health",
        "database_health",
        "external_dependencies",
        "last_check",
        "is_healthy",
    }


def test_the_operation_takes_all_services_by_default():
    system = found(PARTS["HighAvailabilityRecoverySystem"], "HighAvailabilityRecoverySystem")
    signature = inspect.signature(system.detect_and_recover)

    assert signature.parameters["service_name"].default is None


@pytest.mark.parametrize(("name", "shape"), METRICS.items())
def test_the_four_metrics_are_in_the_catalogue_verbatim(name, shape):
    from ha_tasks.monitoring.prometheus import CATALOGUE

    labels, kind = shape
    metric = next(m for m in CATALOGUE if m.name == name)
    assert tuple(metric.labels) == labels
    assert str(metric.kind) == kind
