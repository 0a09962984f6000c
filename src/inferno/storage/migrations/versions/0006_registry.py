"""The registry of inference servers.

Revision: 0006, after 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
BYTEWISE = sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")


def upgrade() -> None:
    """Add its tables."""
    op.create_table(
        "registry_entries",
        sa.Column("seq", NUMBER, autoincrement=True),
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("name", sa.String(255), comment="none where it is empty"),
        sa.Column("url", sa.String(2048), comment="the public one; none where it is empty"),
        sa.Column("owner", sa.String(512), nullable=False, comment="tenant/user"),
        sa.Column("state", sa.String(16), nullable=False, comment="active or expired"),
        sa.Column("registered_at", sa.String(32), nullable=False),
        sa.Column("updated_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32), comment="when it expires, or when it did"),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_registry_entries"),
        sa.UniqueConstraint("id", name="uq_registry_entries_id"),
        sa.UniqueConstraint("name", name="uq_registry_entries_name"),
        sa.UniqueConstraint("url", name="uq_registry_entries_url"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_registry_entries_owner", "registry_entries", ["owner"])
    op.create_index("ix_registry_entries_registered_at", "registry_entries", ["registered_at"])
    op.create_index(
        "ix_registry_entries_state_expires_at", "registry_entries", ["state", "expires_at"]
    )
    op.create_table(
        "registry_values",
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column(
            "path",
            sa.String(200),
            nullable=False,
            comment="dotted; an array's index is left out",
        ),
        sa.Column("value", BYTEWISE, comment="a text's beginning"),
        sa.Column("number", sa.Double, comment="a number, or a boolean as 0 or 1"),
        sa.Column("place", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("seq", "path", "place", name="pk_registry_values"),
        sa.ForeignKeyConstraint(
            ["seq"],
            ["registry_entries.seq"],
            name="fk_registry_values_seq",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_registry_values_path_value_seq", "registry_values", ["path", "value", "seq"]
    )
    op.create_index(
        "ix_registry_values_path_number_seq", "registry_values", ["path", "number", "seq"]
    )
    op.create_table(
        "registry_changes",
        sa.Column("version", NUMBER, autoincrement=False),
        sa.Column("entry_id", sa.String(128), nullable=False),
        sa.Column("before", sa.Text, comment="the document; none where the entry is new"),
        sa.Column("after", sa.Text, comment="the document; none where the entry is gone"),
        sa.Column("at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_registry_changes"),
    )
