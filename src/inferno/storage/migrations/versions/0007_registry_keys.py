"""The registry's index has one key for each value, in the order of values of all types.

What is in it follows from the entries: the registry fills it when it starts.

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
BYTEWISE = sa.String(201).with_variant(sa.String(201, collation="C"), "postgresql")
IN_ARRAYS = sa.text("level > 0")


def upgrade() -> None:
    """Put the new index in the place of the old one."""
    op.drop_table("registry_values")
    op.create_table(
        "registry_values",
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column(
            "path",
            sa.String(200),
            nullable=False,
            comment="dotted; an array's index is left out",
        ),
        sa.Column("value", BYTEWISE, nullable=False, comment="a key that sorts as the value does"),
        sa.Column("level", sa.Integer, nullable=False, comment="0 but for what is in arrays"),
        sa.PrimaryKeyConstraint("seq", "path", "value", name="pk_registry_values"),
        sa.ForeignKeyConstraint(
            ["seq"],
            ["registry_entries.seq"],
            name="fk_registry_values_seq",
            ondelete="CASCADE",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_registry_values_path_value_seq_level",
        "registry_values",
        ["path", "value", "seq", "level"],
    )
    op.create_index(
        "ix_registry_values_in_arrays",
        "registry_values",
        ["path", "value", "seq", "level"],
        sqlite_where=IN_ARRAYS,
        postgresql_where=IN_ARRAYS,
    )
