"""Alembic's entry: runs in the connection, and so in the transaction, that it is handed."""

from __future__ import annotations

from alembic import context

from ha_tasks.store import control_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=control_tables.inventory_revision.metadata,
    compare_type=True,
    # SQLite can alter little of a table: a batch makes a new one and moves the rows.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
