"""ha_tasks: a high-availability control plane on Celery and SQL."""

__version__ = "0.1.0"
