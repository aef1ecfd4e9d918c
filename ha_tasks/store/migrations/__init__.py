"""Alembic's migrations of the state store; run by ha_tasks/store/migration.py."""
