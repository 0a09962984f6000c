"""The tables, as SQLAlchemy Core sees them; `migrations/` builds the same schema step by step.

Times are text, RFC 3339 in UTC with a fixed width, so they compare alike in every dialect.
Secrets are never here in clear: `api_keys.sha256` and `users.password_hash` are hashes, and
the secrets of webhooks are encrypted.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

resources = Table(
    "resources",
    metadata,
    Column("uid", String(36), nullable=False),
    Column("kind", String(320), nullable=False, comment="group/plural"),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    # Text, not JSONB: what comes back is byte for byte what was checked on the way in.
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("uid"),
    UniqueConstraint("kind", "namespace", "name"),
)
"""The current state of every resource."""

resource_owners = Table(
    "resource_owners",
    metadata,
    Column(
        "dependent_uid", String(36), ForeignKey("resources.uid", ondelete="CASCADE"), nullable=False
    ),
    # No foreign key: a resource may name an owner that lives elsewhere or is gone already.
    Column("owner_uid", String(255), nullable=False),
    PrimaryKeyConstraint("dependent_uid", "owner_uid"),
    Index(None, "owner_uid"),
)
"""Which resources go away with which, by uid."""

resource_events = Table(
    "resource_events",
    metadata,
    Column("version", BigInteger().with_variant(Integer, "sqlite"), autoincrement=False),
    Column("type", String(8), nullable=False),
    Column("kind", String(320), nullable=False, comment="group/plural"),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("document", Text, nullable=False),
    Column("at", String(32), nullable=False),
    PrimaryKeyConstraint("version"),
    Index(None, "kind", "version"),
)
"""The watch history in write order; `version` is the resource version of the write."""

resource_history = Table(
    "resource_history",
    metadata,
    Column("kind", String(320), nullable=False, comment="group/plural"),
    Column("pruned_through", BigInteger, nullable=False),
    PrimaryKeyConstraint("kind"),
)
"""The newest event of each kind that the history has forgotten."""

counters = Table(
    "counters",
    metadata,
    Column("name", String(64), nullable=False),
    Column("value", BigInteger, nullable=False),
    PrimaryKeyConstraint("name"),
)
"""Sequences whose order is the order of commits, which a SQL sequence cannot promise."""

users = Table(
    "users",
    metadata,
    Column("id", String(36), nullable=False),
    Column("username", String(255), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("role", String(64), nullable=False),
    Column("tenant", String(63), nullable=False, server_default="default"),
    Column("limits", JSON, nullable=False, server_default="{}"),
    Column("password_changed_at", String(32)),
    Column("email", String(320)),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("last_login_at", String(32)),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("username"),
)
"""People and services that sign in."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(36), nullable=False),
    Column("user_id", String(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("prefix", String(32), nullable=False, comment="shown so that a person knows the key"),
    Column("sha256", String(64), nullable=False, comment="hexadecimal"),
    Column("scopes", JSON, nullable=False, comment="list of strings"),
    Column("limits", JSON, nullable=False, server_default="{}"),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("disabled", Boolean, nullable=False),
    Column("last_used_at", String(32)),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("sha256"),
    Index(None, "user_id"),
)
"""API keys, known by their hash."""

limit_overrides = Table(
    "limit_overrides",
    metadata,
    Column("scope", String(16), nullable=False, comment="role or tenant"),
    Column("name", String(63), nullable=False),
    Column("limits", JSON, nullable=False),
    PrimaryKeyConstraint("scope", "name"),
)
"""Rate limits of roles and tenants."""

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("jti", String(256), nullable=False, comment="of a token or of a family of tokens"),
    Column("expires_at", String(32), nullable=False),
    Column("revoked_at", String(32), nullable=False),
    PrimaryKeyConstraint("jti"),
)
"""Tokens that ended before they expired."""

audit_events = Table(
    "audit_events",
    metadata,
    Column(
        "seq",
        BigInteger().with_variant(Integer, "sqlite"),
        autoincrement=False,
        nullable=False,
    ),
    Column("at", String(32), nullable=False),
    Column("action", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("actor", String(512), nullable=False),
    Column("actor_id", String(512), nullable=False),
    Column("tenant", String(512), nullable=False),
    Column("target", String(512), nullable=False),
    Column("address", String(512), nullable=False),
    Column("request_id", String(512), nullable=False),
    Column("reason", String(512), nullable=False),
    Column("details", Text, nullable=False, comment="JSON"),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    PrimaryKeyConstraint("seq"),
    Index(None, "at"),
    Index(None, "actor_id", "seq"),
)
"""The audit trail: only ever appended to, each row holding the hash of the one before."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(40), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("owner", String(512), nullable=False, comment="id of the user who made it"),
    Column("owner_is_user", Boolean, nullable=False, comment="a user of ours, not an issuer's"),
    Column("sees_models", Boolean, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", JSON, nullable=False, comment="list of strings"),
    Column("description", String(255), nullable=False),
    Column("secret", Text, nullable=False, comment="encrypted"),
    Column("previous_secret", Text, comment="encrypted"),
    Column("previous_until", String(32)),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", String(255), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    PrimaryKeyConstraint("id"),
    Index(None, "tenant"),
)
"""Subscriptions: who wants to be told of what, and where."""

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(40), nullable=False, comment="begins with the time, so that ids sort"),
    Column("webhook_id", String(40), ForeignKey("webhooks.id", ondelete="CASCADE")),
    Column("tenant", String(255), nullable=False),
    Column("url", Text, comment="where there is no subscription"),
    Column("secret", Text, comment="encrypted; of this delivery alone"),
    Column("endpoint", String(320), nullable=False, comment="what is down when it is down"),
    Column("event", String(64), nullable=False),
    Column("payload", Text, nullable=False, comment="JSON, signed byte for byte"),
    Column("status", String(16), nullable=False, comment="pending, delivered or parked"),
    Column("attempts", Integer, nullable=False),
    Column("waited", Integer, nullable=False, comment="seconds of planned waits"),
    Column("due_at", String(32)),
    Column("claim", String(40), comment="of the process that is sending it"),
    Column("last_status_code", Integer),
    Column("last_error", String(255), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("finished_at", String(32)),
    PrimaryKeyConstraint("id"),
    Index(None, "status", "due_at"),
    Index(None, "tenant", "id"),
    Index(None, "webhook_id", "id"),
)
"""The queue of webhooks, and what has become of each delivery."""

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column(
        "delivery_id",
        String(40),
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("number", Integer, nullable=False, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("status_code", Integer),
    Column("error", String(255), nullable=False),
    PrimaryKeyConstraint("delivery_id", "number"),
)
"""The delivery log."""

webhook_model_states = Table(
    "webhook_model_states",
    metadata,
    Column("model", String(320), nullable=False, comment="namespace/name"),
    Column("state", String(64), nullable=False),
    Column("version", BigInteger, nullable=False, comment="of the store, then"),
    PrimaryKeyConstraint("model"),
)
"""What subscribers were last told of each model."""
files = Table(
    "files",
    metadata,
    Column("id", String(64), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("owner_id", String(512), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("state", String(16), nullable=False, comment="uploading, ready or deleted"),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("touched_at", String(32), nullable=False, comment="when a piece last arrived"),
    Column("expires_at", String(32)),
    Column("batch_id", String(64), comment="whose results it shows; it has no content of its own"),
    Column("batch_part", String(8), comment="which of them: output or error"),
    PrimaryKeyConstraint("id"),
    Index(None, "tenant", "created_at"),
)
"""Files that callers uploaded, and those that show the results of a batch."""

file_pieces = Table(
    "file_pieces",
    metadata,
    # No foreign key: what is large is deleted in steps, not in one transaction.
    Column("file_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("file_id", "number"),
)
"""The content of uploaded files, in order."""

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("owner_id", String(512), nullable=False),
    Column("owner", Text, nullable=False, comment="JSON: as whom its items run"),
    Column("api", String(16), nullable=False, comment="native or openai"),
    Column("endpoint", String(64), nullable=False),
    Column("model", String(253), nullable=False),
    Column("status", String(16), nullable=False),
    Column("details", Text, nullable=False, comment="JSON: what no query asks for"),
    Column("submission", String(255), comment="the caller's Idempotency-Key"),
    Column("input_file_id", String(64)),
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("started_at", String(32)),
    Column("finalizing_at", String(32)),
    Column("cancelling_at", String(32)),
    Column("ended_at", String(32)),
    Column("expires_at", String(32), nullable=False),
    Column("lease_holder", String(255), comment="the process that works on it"),
    Column("lease_until", String(32)),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("tenant", "owner_id", "submission"),
    Index(None, "tenant", "created_at"),
    Index(None, "status"),
)
"""Batches: many requests that were handed in together."""

batch_items = Table(
    "batch_items",
    metadata,
    Column("batch_id", String(64), nullable=False),
    Column("number", Integer, nullable=False, comment="place in the input, from 0"),
    Column("custom_id", Text, nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("body", Text, nullable=False, comment="JSON"),
    PrimaryKeyConstraint("batch_id", "number"),
)
"""The requests of batches, as they were handed in."""

batch_results = Table(
    "batch_results",
    metadata,
    Column("batch_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("body", Text, nullable=False, comment="JSON"),
    PrimaryKeyConstraint("batch_id", "number"),
)
"""The answers; the primary key is what makes each request have one."""

custom_metrics = Table(
    "custom_metrics",
    metadata,
    Column("name", String(128), nullable=False, comment="without a counter's _total"),
    Column("labels_hash", String(64), nullable=False, comment="SHA-256, hexadecimal"),
    Column("labels", JSON, nullable=False),
    Column("kind", String(16), nullable=False, comment="gauge, counter or histogram"),
    Column("help", String(256), nullable=False),
    Column("value", Double, nullable=False, comment="of a histogram, the sum"),
    Column("bounds", JSON, nullable=False, comment="of a histogram's buckets"),
    Column("counts", JSON, nullable=False, comment="observations in each bucket"),
    Column("updated_at", String(32), nullable=False),
    PrimaryKeyConstraint("name", "labels_hash"),
)
"""Metrics that operators' own programs report."""

registry_entries = Table(
    "registry_entries",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), autoincrement=True),
    Column("id", String(128), nullable=False),
    Column("name", String(255), comment="none where it is empty"),
    Column("url", String(2048), comment="the public one; none where it is empty"),
    Column("owner", String(512), nullable=False, comment="tenant/user"),
    Column("state", String(16), nullable=False, comment="active or expired"),
    Column("registered_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("expires_at", String(32), comment="when it expires, or when it did"),
    # Text, not JSONB: what comes back is byte for byte what was checked on the way in.
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id"),
    UniqueConstraint("name"),
    UniqueConstraint("url"),
    Index(None, "owner"),
    Index(None, "registered_at"),
    Index(None, "state", "expires_at"),
    # SQLite would give the number of the last entry, once deleted, to the next.
    sqlite_autoincrement=True,
)
"""Inference servers that somebody registered; `document` has all that is known of one."""

registry_values = Table(
    "registry_values",
    metadata,
    Column(
        "seq",
        BigInteger().with_variant(Integer, "sqlite"),
        ForeignKey("registry_entries.seq", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("path", String(200), nullable=False, comment="dotted; an array's index is left out"),
    # Bytes decide the order, as they do in SQLite and in the query language.
    Column(
        "value",
        String(201).with_variant(String(201, collation="C"), "postgresql"),
        nullable=False,
        comment="a key that sorts as the value does",
    ),
    Column("level", Integer, nullable=False, comment="0 but for what is in arrays"),
    # In this order, so that one entry's values at a path are found without a look at all others.
    PrimaryKeyConstraint("seq", "path", "value"),
    Index(None, "path", "value", "seq", "level"),
    Index(
        "ix_registry_values_in_arrays",
        "path",
        "value",
        "seq",
        "level",
        sqlite_where=text("level > 0"),
        postgresql_where=text("level > 0"),
    ),
    # The primary key is the table: everything that is asked of it comes from an index.
    sqlite_with_rowid=False,
)
"""What is in the documents of registry entries, to find them by."""

registry_changes = Table(
    "registry_changes",
    metadata,
    Column("version", BigInteger().with_variant(Integer, "sqlite"), autoincrement=False),
    Column("entry_id", String(128), nullable=False),
    Column("before", Text, comment="the document; none where the entry is new"),
    Column("after", Text, comment="the document; none where the entry is gone"),
    Column("at", String(32), nullable=False),
    PrimaryKeyConstraint("version"),
)
"""The latest changes of registry entries, in write order."""

meta = Table(
    "meta",
    metadata,
    Column("key", String(255), nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("key"),
)
"""Facts about this installation."""
