"""Figures and alerts: PrometheusIntegration, GrafanaDashboards, AlertManager, MetricsCollector."""
