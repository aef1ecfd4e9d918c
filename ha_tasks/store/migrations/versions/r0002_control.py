"""What people and other services say to the control plane: revisions, approvals, maintenance, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A revision stands by itself: what these types are later must not change what it did.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.BigInteger()
WORDS = sa.Text()
JSON = sa.JSON()

EVERYTHING = ""
"""The scope of a switch that was engaged before switches had scopes."""


def upgrade() -> None:
    """From 0001."""
    _new_tables()
    with op.batch_alter_table("run") as batch:
        batch.add_column(sa.Column("revision", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("approval_until", MOMENT, nullable=True))
        batch.add_column(sa.Column("approved_by", sa.String(), nullable=True))
        batch.add_column(sa.Column("deadline", MOMENT, nullable=True))
    with op.batch_alter_table("worker") as batch:
        batch.add_column(sa.Column("revision", sa.Integer(), nullable=True))
    with op.batch_alter_table("incident") as batch:
        batch.add_column(sa.Column("parent", ID, nullable=True))
    with op.batch_alter_table("cooldown") as batch:
        batch.add_column(sa.Column("length_s", sa.Double(), nullable=True))
    _exchange_switch(scoped=True)


def downgrade() -> None:
    """Back to 0001. A switch of one scope, maintenance, the audit chain: what 0001 cannot say is lost."""
    _exchange_switch(scoped=False)
    with op.batch_alter_table("cooldown") as batch:
        batch.drop_column("length_s")
    with op.batch_alter_table("incident") as batch:
        batch.drop_column("parent")
    with op.batch_alter_table("worker") as batch:
        batch.drop_column("revision")
    with op.batch_alter_table("run") as batch:
        for name in ("deadline", "approved_by", "approval_until", "revision"):
            batch.drop_column(name)
    for name in (
        "identity",
        "event_cursor",
        "audit_head",
        "audit_entry",
        "schedule_tick",
        "leadership",
        "recovery_request",
        "maintenance",
        "inventory_revision",
    ):
        op.drop_table(name)


def _new_tables() -> None:
    op.create_table(
        "inventory_revision",
        sa.Column("no", ID, autoincrement=False, nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("changes", JSON, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", WORDS, nullable=False),
        sa.Column("applied_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_inventory_revision"),
    )
    op.create_table(
        "maintenance",
        sa.Column("id", ID, nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("starts_at", MOMENT, nullable=True),
        sa.Column("ends_at", MOMENT, nullable=True),
        sa.Column("rule", JSON, nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", WORDS, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("ended_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_maintenance"),
    )
    op.create_index("ix_maintenance_ended_at", "maintenance", ["ended_at"])
    op.create_table(
        "recovery_request",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("answer", JSON, nullable=True),
        sa.Column("run", ID, nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_recovery_request"),
    )
    op.create_table(
        "leadership",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leadership"),
    )
    op.create_table(
        "schedule_tick",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_schedule_tick"),
    )
    op.create_table(
        "audit_entry",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", WORDS, nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("object", WORDS, nullable=False),
        sa.Column("before", JSON, nullable=True),
        sa.Column("after", JSON, nullable=True),
        sa.Column("prev_hash", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_entry"),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    op.create_table(
        "event_cursor",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("error", WORDS, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_event_cursor"),
    )
    op.create_table(
        "identity",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_identity"),
    )


def _exchange_switch(*, scoped: bool) -> None:
    """Makes the table anew with another key; what both forms can say is carried over."""
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT * FROM switch")).mappings().all()
    op.drop_table("switch")
    key = ["name", "scope"] if scoped else ["name"]
    made = op.create_table(
        "switch",
        sa.Column("name", sa.String(), nullable=False),
        *([sa.Column("scope", sa.String(), nullable=False)] if scoped else []),
        sa.Column("engaged", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", WORDS, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint(*key, name="pk_switch"),
    )
    names = [column.name for column in made.columns]
    kept = [
        {name: {"scope": EVERYTHING, **row}[name] for name in names} | {"engaged": bool(row["engaged"])}
        for row in rows
        if scoped or row["scope"] == EVERYTHING
    ]
    if kept:
        op.bulk_insert(made, kept)
