"""The tables, as SQLAlchemy Core sees them; `migrations/` builds the same schema step by step.

Times are text, RFC 3339 in UTC with a fixed width, so they compare alike in every dialect.
Secrets are never here in clear: `api_keys.sha256` and `users.password_hash` are hashes.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
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

meta = Table(
    "meta",
    metadata,
    Column("key", String(255), nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("key"),
)
"""Facts about this installation."""
