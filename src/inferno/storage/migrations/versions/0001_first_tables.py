"""First tables.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables of the first release."""
    _resources()
    _history()
    _accounts()
    op.create_table(
        "meta",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )


def _resources() -> None:
    op.create_table(
        "resources",
        sa.Column("uid", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(320), nullable=False, comment="group/plural"),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_resources"),
        sa.UniqueConstraint("kind", "namespace", "name", name="uq_resources_kind_namespace_name"),
    )
    op.create_table(
        "resource_owners",
        sa.Column("dependent_uid", sa.String(36), nullable=False),
        sa.Column("owner_uid", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("dependent_uid", "owner_uid", name="pk_resource_owners"),
        sa.ForeignKeyConstraint(
            ["dependent_uid"],
            ["resources.uid"],
            name="fk_resource_owners_dependent_uid",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_resource_owners_owner_uid", "resource_owners", ["owner_uid"])
    op.create_table(
        "counters",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )


def _history() -> None:
    op.create_table(
        "resource_events",
        sa.Column(
            "version",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("type", sa.String(8), nullable=False),
        sa.Column("kind", sa.String(320), nullable=False, comment="group/plural"),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_resource_events"),
    )
    op.create_index("ix_resource_events_kind_version", "resource_events", ["kind", "version"])
    op.create_table(
        "resource_history",
        sa.Column("kind", sa.String(320), nullable=False, comment="group/plural"),
        sa.Column("pruned_through", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_resource_history"),
    )


def _accounts() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("email", sa.String(320)),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("updated_at", sa.String(32), nullable=False),
        sa.Column("last_login_at", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("username", name="uq_users_username"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column(
            "prefix", sa.String(32), nullable=False, comment="shown so that a person knows the key"
        ),
        sa.Column("sha256", sa.String(64), nullable=False, comment="hexadecimal"),
        sa.Column("scopes", sa.JSON, nullable=False, comment="list of strings"),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32)),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("last_used_at", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_api_keys_user_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("sha256", name="uq_api_keys_sha256"),
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])
