"""Brings the schema of a database up to date."""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select, text

from inferno.core.errors import ConfigurationError
from inferno.storage.tables import metadata

HEAD = "0007"
"""The newest revision in `migrations/versions`; known here so that Alembic need not load."""

# A number of our own choosing, so that two processes that start at once do not both migrate.
_LOCK = 4_611_685_283

_stamps = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def upgrade(connection: Connection) -> None:
    """Create or migrate the tables, in the transaction of `connection`.

    Alembic takes longer to load than all else here, so it does only when there is a step to run.

    Raises:
        ConfigurationError: the database has a revision that this version does not know.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    revision = stored_revision(connection)
    if revision == HEAD:
        return
    if revision is None:
        metadata.create_all(connection)
        _stamps.create(connection, checkfirst=True)
        connection.execute(insert(_stamps).values(version_num=HEAD))
        return
    migrate(connection)


def stored_revision(connection: Connection) -> str | None:
    """Return the revision that the database says it has; None when it is empty."""
    if not inspect(connection).has_table(_stamps.name):
        return None
    return connection.scalar(select(_stamps.c.version_num))


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision`, in the transaction of `connection`.

    Raises:
        ConfigurationError: the database has a revision that this version does not know.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "inferno.storage:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise ConfigurationError(
            "The database was written by a newer version of the platform; upgrade, or use "
            "another database."
        ) from error
