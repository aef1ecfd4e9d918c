"""The state store as it began: runs, incidents, limits, observations, the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A revision stands by itself: what these types are later must not change what it did.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.BigInteger()
WORDS = sa.Text()
JSON = sa.JSON()


def upgrade() -> None:
    """From a database without tables."""
    op.create_table(
        "availability_interval",
        sa.Column("id", ID, nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_availability_interval"),
    )
    op.create_index("ix_availability_interval_service_since", "availability_interval", ["service", "since"])
    op.create_index("ix_availability_interval_until", "availability_interval", ["until"])
    op.create_index(
        "uq_availability_interval_service_open",
        "availability_interval",
        ["service"],
        unique=True,
        sqlite_where=sa.text("until IS NULL"),
        postgresql_where=sa.text("until IS NULL"),
    )
    op.create_table(
        "cluster",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("primary", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("sets", JSON, nullable=False),
        sa.Column("unfinished", JSON, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cluster"),
    )
    op.create_table(
        "cooldown",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("playbook", sa.String(), nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("acknowledged_at", MOMENT, nullable=True),
        sa.Column("acknowledged_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("scope", "playbook", name="pk_cooldown"),
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("labels", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", name="pk_counter"),
    )
    op.create_table(
        "drill",
        sa.Column("id", ID, nullable=False),
        sa.Column("scenario", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("reported_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drill"),
    )
    op.create_table(
        "histogram",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("labels", sa.String(), nullable=False),
        sa.Column("observations", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", name="pk_histogram"),
    )
    op.create_table(
        "histogram_bucket",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("labels", sa.String(), nullable=False),
        sa.Column("bound", sa.Double(), nullable=False),
        sa.Column("observations", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", "bound", name="pk_histogram_bucket"),
    )
    op.create_table(
        "incident",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("holds_key", sa.Boolean(), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("summary", WORDS, nullable=False),
        sa.Column("fault_at", MOMENT, nullable=False),
        sa.Column("detected_at", MOMENT, nullable=False),
        sa.Column("mitigated_at", MOMENT, nullable=True),
        sa.Column("resolved_at", MOMENT, nullable=True),
        sa.Column("run", ID, nullable=True),
        sa.Column("evidence", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_incident"),
    )
    op.create_index("ix_incident_state", "incident", ["state"])
    op.create_index(
        "uq_incident_key_held",
        "incident",
        ["key"],
        unique=True,
        sqlite_where=sa.text("holds_key"),
        postgresql_where=sa.text("holds_key"),
    )
    op.create_table(
        "integrity_check",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("detail", WORDS, nullable=False),
        sa.Column("checked_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", "target", name="pk_integrity_check"),
    )
    op.create_table(
        "probe_outcome",
        sa.Column("id", ID, nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("vantage", sa.String(), nullable=False),
        sa.Column("probe", sa.String(), nullable=False),
        sa.Column("sent_at", MOMENT, nullable=False),
        sa.Column("known_at", MOMENT, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("rtt_s", sa.Double(), nullable=False),
        sa.Column("detail", WORDS, nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_probe_outcome"),
    )
    op.create_index("ix_probe_outcome_sent_at", "probe_outcome", ["sent_at"])
    op.create_index("ix_probe_outcome_service_sent_at", "probe_outcome", ["service", "sent_at"])
    op.create_table(
        "schedule_entry",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("succeeded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_schedule_entry"),
    )
    op.create_table(
        "sequence",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sequence"),
    )
    op.create_table(
        "service_score",
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("judged_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("service", name="pk_service_score"),
    )
    op.create_table(
        "switch",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("engaged", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", WORDS, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_switch"),
    )
    op.create_table(
        "wanted_server",
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("reason", WORDS, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("backend", "server", name="pk_wanted_server"),
    )
    op.create_table(
        "worker",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("queues", JSON, nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("heartbeat_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_worker"),
    )
    op.create_table(
        "incident_event",
        sa.Column("id", ID, nullable=False),
        sa.Column("incident", ID, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("text", WORDS, nullable=False),
        sa.ForeignKeyConstraint(
            ["incident"], ["incident.id"], name="fk_incident_event_incident_incident", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_incident_event"),
    )
    op.create_index("ix_incident_event_incident_at", "incident_event", ["incident", "at"])
    op.create_table(
        "refusal",
        sa.Column("incident", ID, nullable=False),
        sa.Column("guard", sa.String(), nullable=False),
        sa.Column("detail", WORDS, nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("first_at", MOMENT, nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["incident"], ["incident.id"], name="fk_refusal_incident_incident", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("incident", "guard", name="pk_refusal"),
    )
    op.create_table(
        "run",
        sa.Column("id", ID, nullable=False),
        sa.Column("incident", ID, nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("playbook", sa.String(), nullable=False),
        sa.Column("plan", JSON, nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("reason", WORDS, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.Column("due", MOMENT, nullable=True),
        sa.Column("error", WORDS, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["incident"], ["incident.id"], name="fk_run_incident_incident"),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.UniqueConstraint("idempotency_key", name="uq_run_idempotency_key"),
    )
    op.create_index("ix_run_created_at", "run", ["created_at"])
    op.create_index("ix_run_incident", "run", ["incident"])
    op.create_index(
        "uq_run_scope_active",
        "run",
        ["scope"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "attempt",
        sa.Column("fence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run", ID, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("error", WORDS, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name="fk_attempt_run_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("fence", name="pk_attempt"),
    )
    op.create_index("ix_attempt_run", "attempt", ["run"])
    op.create_table(
        "outbox",
        sa.Column("id", ID, nullable=False),
        sa.Column("run", ID, nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("kwargs", JSON, nullable=False),
        sa.Column("offered_at", MOMENT, nullable=True),
        sa.Column("sent_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name="fk_outbox_run_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("run", name="uq_outbox_run"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "step",
        sa.Column("run", ID, nullable=False),
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("captured", JSON, nullable=True),
        sa.Column("output", JSON, nullable=False),
        sa.Column("error", WORDS, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name="fk_step_run_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "no", name="pk_step"),
    )


def downgrade() -> None:
    """Back to a database without tables."""
    for table in (
        "step",
        "outbox",
        "attempt",
        "run",
        "refusal",
        "incident_event",
        "worker",
        "wanted_server",
        "switch",
        "service_score",
        "sequence",
        "schedule_entry",
        "probe_outcome",
        "integrity_check",
        "incident",
        "histogram_bucket",
        "histogram",
        "drill",
        "counter",
        "cooldown",
        "cluster",
        "availability_interval",
    ):
        op.drop_table(table)
