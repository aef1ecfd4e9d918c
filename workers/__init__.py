"""Processes: the Celery application, the observer, the host agent, the metrics sidecar."""
