"""API keys of users: creating, rotating, disabling, revoking."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Conflict, InvalidRequest, NotFound
from inferno.core.tenancy import ROLE_PERMISSIONS, LimitOverrides, Permission
from inferno.identity import api_keys
from inferno.storage.tables import api_keys as table
from inferno.storage.tables import users as users_table
from inferno.tenancy.ledger import Ledger, in_turns, now_text, text_of
from inferno.tenancy.types import ApiKey, ApiKeyChange, NewApiKey, User
from inferno.tenancy.users import find as find_user


class Keys:
    """The API keys of the platform.

    `owner` arguments say whose keys may be seen: a user's id, or None for everybody's. Keys of
    others are not found.

    Args:
        ledger: where they are written.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def all(self, *, owner: str | None = None) -> list[ApiKey]:
        """Return keys, oldest first."""
        async with self._ledger.reading() as connection:
            rows = await connection.execute(_select(owner).order_by(table.c.created_at))
            return [key_of(row) async for row in in_turns(rows.mappings())]

    async def get(self, key_id: str, *, owner: str | None = None) -> ApiKey:
        """Return one key. Raises NotFound."""
        async with self._ledger.reading() as connection:
            return await _find(connection, key_id, owner)

    async def create(
        self, user: str, new: NewApiKey, *, secret: str | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key and return it with the secret, which nobody can be shown again.

        Args:
            user: id or username of its owner.
            new: the key.
            secret: the key itself; generated where not given.

        Raises:
            NotFound: there is no such user.
            InvalidRequest: a permission that its owner does not have.
        """
        secret = secret or api_keys.generate()
        async with self._ledger.writing() as connection:
            owner = await find_user(connection, user, None)
            _require_held(owner, new.permissions)
            key_id = await _insert(connection, owner, new, secret)
            return await _find(connection, key_id, None), secret

    async def rotate(
        self, key_id: str, *, grace_seconds: int, owner: str | None = None
    ) -> tuple[ApiKey, str]:
        """Replace a key by a new one of the same rights; the old one works for a while longer.

        Args:
            key_id: the old key.
            grace_seconds: how long it still works; 0 ends it at once.
            owner: see the class.

        Returns:
            The new key and its secret.

        Raises:
            NotFound: there is no such key.
            Conflict: it does not work, and rotating must not make it work again.
        """
        secret = api_keys.generate()
        ends = datetime.now(UTC) + timedelta(seconds=grace_seconds)
        async with self._ledger.writing() as connection:
            old = await _find(connection, key_id, owner)
            _require_working(old)
            user = await find_user(connection, old.user_id, None)
            new = NewApiKey(name=old.name, permissions=old.permissions, limits=old.limits)
            new_id = await _insert(connection, user, new, secret, expires_at=old.expires_at)
            end = min(filter(None, [old.expires_at, text_of(ends)]))
            written = sa.update(table).where(table.c.id == old.id)
            await connection.execute(written.values(expires_at=end))
            return await _find(connection, new_id, None), secret

    async def change(
        self, key_id: str, change: ApiKeyChange, *, owner: str | None = None
    ) -> ApiKey:
        """Change a key. Raises NotFound."""
        values: dict[str, Any] = {}
        if change.name is not None:
            values["name"] = change.name
        if change.disabled is not None:
            values["disabled"] = change.disabled
        if change.limits is not None:
            values["limits"] = msgspec.to_builtins(change.limits)
        async with self._ledger.writing() as connection:
            key = await _find(connection, key_id, owner)
            if values:
                written = sa.update(table).where(table.c.id == key.id)
                await connection.execute(written.values(**values))
            return await _find(connection, key.id, None)

    async def revoke(self, key_id: str, *, owner: str | None = None) -> ApiKey:
        """Delete a key and return what it was. Raises NotFound."""
        async with self._ledger.writing() as connection:
            key = await _find(connection, key_id, owner)
            await connection.execute(sa.delete(table).where(table.c.id == key.id))
            return key

    async def with_secret(self, secret: str) -> ApiKey | None:
        """Return the key that a secret belongs to, valid or not, or None."""
        digest = api_keys.digest(secret).hex()
        async with self._ledger.reading() as connection:
            rows = await connection.execute(_select(None).where(table.c.sha256 == digest))
            row = rows.mappings().first()
        return None if row is None else key_of(row)

    async def digests(self) -> dict[str, bytes]:
        """Return the SHA-256 of every key, by id."""
        async with self._ledger.reading() as connection:
            rows = (await connection.execute(sa.select(table.c.id, table.c.sha256))).all()
        return {key_id: bytes.fromhex(sha256) for key_id, sha256 in rows}

    async def note_used(self, when: Mapping[str, float]) -> None:
        """Write when keys were last used, by id, in seconds since the epoch.

        It changes nothing that anybody keeps a picture of, so the version stays.
        """
        async with self._ledger.noting() as connection:
            written = sa.update(table).where(table.c.id == sa.bindparam("key"))
            await connection.execute(
                written.values(last_used_at=sa.bindparam("moment")),
                [
                    {"key": key_id, "moment": text_of(datetime.fromtimestamp(moment, UTC))}
                    for key_id, moment in when.items()
                ],
            )


async def _insert(
    connection: AsyncConnection,
    user: User,
    new: NewApiKey,
    secret: str,
    *,
    expires_at: str | None = None,
) -> str:
    key_id = str(uuid.uuid4())
    if new.expires_in_days is not None:
        expires_at = text_of(datetime.now(UTC) + timedelta(days=new.expires_in_days))
    row = {
        "id": key_id,
        "user_id": user.id,
        "name": new.name,
        # Of a short key that somebody chose, most has to stay unseen.
        "prefix": secret[: min(api_keys.SHOWN_CHARACTERS, len(secret) // 3)],
        "sha256": api_keys.digest(secret).hex(),
        "scopes": [permission.value for permission in new.permissions],
        "limits": msgspec.to_builtins(new.limits),
        "created_at": now_text(),
        "expires_at": expires_at,
        "disabled": False,
        "last_used_at": None,
    }
    await connection.execute(sa.insert(table).values(row))
    return key_id


def _require_held(user: User, permissions: list[Permission]) -> None:
    missing = [p.value for p in permissions if p not in ROLE_PERMISSIONS[user.role]]
    if missing:
        raise InvalidRequest(
            f"The role '{user.role}' does not have: {', '.join(missing)}.", field="permissions"
        )


def _require_working(key: ApiKey) -> None:
    if key.disabled:
        raise Conflict("The API key is disabled; enable it before rotating it.")
    if key.expires_at is not None and key.expires_at <= now_text():
        raise Conflict("The API key has expired; create a new one.")


def _select(owner: str | None) -> sa.Select[Any]:
    query = sa.select(table, users_table.c.username).join(
        users_table, users_table.c.id == table.c.user_id
    )
    return query if owner is None else query.where(table.c.user_id == owner)


async def _find(connection: AsyncConnection, key_id: str, owner: str | None) -> ApiKey:
    rows = await connection.execute(_select(owner).where(table.c.id == key_id))
    row = rows.mappings().first()
    if row is None:
        raise NotFound(f"There is no API key '{key_id}'.")
    return key_of(row)


def key_of(row: Any) -> ApiKey:
    """Return a key from its row joined with its owner's name."""
    return ApiKey(
        id=row["id"],
        user_id=row["user_id"],
        username=row["username"],
        name=row["name"],
        prefix=row["prefix"],
        permissions=[Permission(scope) for scope in row["scopes"] or []],
        limits=msgspec.convert(row["limits"] or {}, LimitOverrides),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        disabled=bool(row["disabled"]),
        last_used_at=row["last_used_at"],
    )
