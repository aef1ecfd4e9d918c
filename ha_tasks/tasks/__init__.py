"""The Celery side, thin: parse, call, return JSON."""
