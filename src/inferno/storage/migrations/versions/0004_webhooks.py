"""Webhooks: subscriptions, the queue of deliveries, the delivery log.

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what webhooks keep."""
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("tenant", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(512), nullable=False, comment="id of the user who made it"),
        sa.Column(
            "owner_is_user", sa.Boolean, nullable=False, comment="a user of ours, not an issuer's"
        ),
        sa.Column("sees_models", sa.Boolean, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("events", sa.JSON, nullable=False, comment="list of strings"),
        sa.Column("description", sa.String(255), nullable=False),
        sa.Column("secret", sa.Text, nullable=False, comment="encrypted"),
        sa.Column("previous_secret", sa.Text, comment="encrypted"),
        sa.Column("previous_until", sa.String(32)),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", sa.String(255), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("updated_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_tenant", "webhooks", ["tenant"])
    _queue()
    _log()


def _queue() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column(
            "id", sa.String(40), nullable=False, comment="begins with the time, so that ids sort"
        ),
        sa.Column("webhook_id", sa.String(40)),
        sa.Column("tenant", sa.String(255), nullable=False),
        sa.Column("url", sa.Text, comment="where there is no subscription"),
        sa.Column("secret", sa.Text, comment="encrypted; of this delivery alone"),
        sa.Column(
            "endpoint", sa.String(320), nullable=False, comment="what is down when it is down"
        ),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("payload", sa.Text, nullable=False, comment="JSON, signed byte for byte"),
        sa.Column("status", sa.String(16), nullable=False, comment="pending, delivered or parked"),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("waited", sa.Integer, nullable=False, comment="seconds of planned waits"),
        sa.Column("due_at", sa.String(32)),
        sa.Column("claim", sa.String(40), comment="of the process that is sending it"),
        sa.Column("last_status_code", sa.Integer),
        sa.Column("last_error", sa.String(255), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("finished_at", sa.String(32)),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.id"],
            name="fk_webhook_deliveries_webhook_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    for columns in (["status", "due_at"], ["tenant", "id"], ["webhook_id", "id"]):
        op.create_index(f"ix_webhook_deliveries_{'_'.join(columns)}", "webhook_deliveries", columns)


def _log() -> None:
    op.create_table(
        "webhook_attempts",
        sa.Column("delivery_id", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("error", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["webhook_deliveries.id"],
            name="fk_webhook_attempts_delivery_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_webhook_attempts"),
    )
    op.create_table(
        "webhook_model_states",
        sa.Column("model", sa.String(320), nullable=False, comment="namespace/name"),
        sa.Column("state", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, comment="of the store, then"),
        sa.PrimaryKeyConstraint("model", name="pk_webhook_model_states"),
    )
