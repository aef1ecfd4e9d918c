"""The latest picture of each cluster's replication."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0002."""
    op.create_table(
        "replication_picture",
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("service", name="pk_replication_picture"),
    )


def downgrade() -> None:
    """Back to 0002. The next look makes the picture anew."""
    op.drop_table("replication_picture")
