"""Alembic's entry: runs migrations on the connection that `schema.migrate` hands over."""

from __future__ import annotations

from alembic import context

from inferno.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
# No context.begin_transaction(): the caller's transaction holds the whole upgrade.
context.run_migrations()
