"""The latest look at the health of the whole system."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0004."""
    op.create_table(
        "health_picture",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_health_picture"),
    )


def downgrade() -> None:
    """Back to 0004. The next look makes the picture anew."""
    op.drop_table("health_picture")
