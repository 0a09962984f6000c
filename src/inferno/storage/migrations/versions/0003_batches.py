"""Files, batches, their requests and their results.

Revision: 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what files and batches keep."""
    _files()
    _batches()
    _items()


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(255), nullable=False),
        sa.Column("owner_id", sa.String(512), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, comment="uploading, ready or deleted"),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("touched_at", sa.String(32), nullable=False, comment="when a piece last arrived"),
        sa.Column("expires_at", sa.String(32)),
        sa.Column(
            "batch_id",
            sa.String(64),
            comment="whose results it shows; it has no content of its own",
        ),
        sa.Column("batch_part", sa.String(8), comment="which of them: output or error"),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
    )
    op.create_index("ix_files_tenant_created_at", "files", ["tenant", "created_at"])
    op.create_table(
        "file_pieces",
        sa.Column("file_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("file_id", "number", name="pk_file_pieces"),
    )


def _batches() -> None:
    counts = ("total", "completed", "failed")
    sums = ("prompt_tokens", "completion_tokens", "input_bytes")
    times = ("started_at", "finalizing_at", "cancelling_at", "ended_at")
    op.create_table(
        "batches",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(255), nullable=False),
        sa.Column("owner_id", sa.String(512), nullable=False),
        sa.Column("owner", sa.Text, nullable=False, comment="JSON: as whom its items run"),
        sa.Column("api", sa.String(16), nullable=False, comment="native or openai"),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("model", sa.String(253), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("details", sa.Text, nullable=False, comment="JSON: what no query asks for"),
        sa.Column("submission", sa.String(255), comment="the caller's Idempotency-Key"),
        *(
            sa.Column(name, sa.String(64))
            for name in ("input_file_id", "output_file_id", "error_file_id")
        ),
        *(sa.Column(name, sa.Integer, nullable=False) for name in counts),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
        sa.Column("created_at", sa.String(32), nullable=False),
        *(sa.Column(name, sa.String(32)) for name in times),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("lease_holder", sa.String(255), comment="the process that works on it"),
        sa.Column("lease_until", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.UniqueConstraint(
            "tenant", "owner_id", "submission", name="uq_batches_tenant_owner_id_submission"
        ),
    )
    op.create_index("ix_batches_tenant_created_at", "batches", ["tenant", "created_at"])
    op.create_index("ix_batches_status", "batches", ["status"])


def _items() -> None:
    op.create_table(
        "batch_items",
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, comment="place in the input, from 0"),
        sa.Column("custom_id", sa.Text, nullable=False),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_batch_items"),
    )
    op.create_table(
        "batch_results",
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("status_code", sa.Integer, nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_batch_results"),
    )
