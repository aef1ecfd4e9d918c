"""Detecting, running, compensating: detector, orchestrator, backups, rollback."""
