"""Tenants and limits of users and keys, revoked tokens, the audit trail.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what identity, limits and audit keep."""
    with op.batch_alter_table("users") as users:
        users.add_column(
            sa.Column("tenant", sa.String(63), nullable=False, server_default="default")
        )
        users.add_column(sa.Column("limits", sa.JSON, nullable=False, server_default="{}"))
        users.add_column(sa.Column("password_changed_at", sa.String(32)))
    with op.batch_alter_table("api_keys") as keys:
        keys.add_column(sa.Column("limits", sa.JSON, nullable=False, server_default="{}"))
    op.create_table(
        "limit_overrides",
        sa.Column("scope", sa.String(16), nullable=False, comment="role or tenant"),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("scope", "name", name="pk_limit_overrides"),
    )
    op.create_table(
        "revoked_tokens",
        sa.Column(
            "jti", sa.String(256), nullable=False, comment="of a token or of a family of tokens"
        ),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("revoked_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("jti", name="pk_revoked_tokens"),
    )
    _audit()


def _audit() -> None:
    texts = ("actor", "actor_id", "tenant", "target", "address", "request_id", "reason")
    op.create_table(
        "audit_events",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        *(sa.Column(name, sa.String(512), nullable=False) for name in texts),
        sa.Column("details", sa.Text, nullable=False, comment="JSON"),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_at", "audit_events", ["at"])
    op.create_index("ix_audit_events_actor_id_seq", "audit_events", ["actor_id", "seq"])
