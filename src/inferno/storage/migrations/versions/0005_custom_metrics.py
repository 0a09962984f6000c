"""Metrics that operators' own programs report.

Revision: 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their table."""
    op.create_table(
        "custom_metrics",
        sa.Column("name", sa.String(128), nullable=False, comment="without a counter's _total"),
        sa.Column("labels_hash", sa.String(64), nullable=False, comment="SHA-256, hexadecimal"),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False, comment="gauge, counter or histogram"),
        sa.Column("help", sa.String(256), nullable=False),
        sa.Column("value", sa.Double, nullable=False, comment="of a histogram, the sum"),
        sa.Column("bounds", sa.JSON, nullable=False, comment="of a histogram's buckets"),
        sa.Column("counts", sa.JSON, nullable=False, comment="observations in each bucket"),
        sa.Column("updated_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels_hash", name="pk_custom_metrics"),
    )
