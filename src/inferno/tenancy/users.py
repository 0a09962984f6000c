"""Users: creating, changing, deleting, and checking their passwords."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import Conflict, InvalidRequest, NotFound
from inferno.core.tenancy import LimitOverrides, Role
from inferno.identity import passwords
from inferno.storage.tables import users as table
from inferno.tenancy.ledger import Ledger, now_text
from inferno.tenancy.types import NewUser, User, UserChange


class Users:
    """The users of the platform. A user is named by id or by username.

    Args:
        ledger: where they are written.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def is_empty(self) -> bool:
        """Return whether there is none yet: this is the first start."""
        async with self._ledger.reading() as connection:
            return (await connection.execute(sa.select(table.c.id).limit(1))).first() is None

    async def all(self, *, tenant: str | None = None) -> list[User]:
        """Return users by name, of one tenant or of all."""
        query = sa.select(table).order_by(table.c.username)
        if tenant is not None:
            query = query.where(table.c.tenant == tenant)
        async with self._ledger.reading() as connection:
            return [user_of(row) for row in (await connection.execute(query)).mappings()]

    async def get(self, reference: str, *, tenant: str | None = None) -> User:
        """Return one user.

        Args:
            reference: id or username.
            tenant: where it must be; a user of another tenant is not found.

        Raises:
            NotFound: there is none.
        """
        async with self._ledger.reading() as connection:
            return await find(connection, reference, tenant)

    async def create(self, new: NewUser, *, check_password: bool = True) -> User:
        """Create a user.

        Args:
            new: the user.
            check_password: whether a password that is easy to guess is refused.

        Raises:
            InvalidRequest: the password is too easy to guess.
            Conflict: the username is taken.
        """
        if check_password:
            require_strong(new.password)
        now = now_text()
        row: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "username": new.username,
            "password_hash": await asyncio.to_thread(passwords.hash_password, new.password),
            "role": new.role.value,
            "tenant": new.tenant,
            "email": new.email,
            "disabled": False,
            "limits": {},
            "created_at": now,
            "updated_at": now,
            "last_login_at": None,
            "password_changed_at": None,
        }
        async with self._ledger.writing() as connection:
            taken = sa.select(table.c.id).where(table.c.username == new.username)
            if (await connection.execute(taken)).first() is not None:
                raise Conflict(f"The username '{new.username}' is taken.")
            await connection.execute(sa.insert(table).values(row))
        return user_of(row)

    async def change(
        self, reference: str, change: UserChange, *, tenant: str | None = None
    ) -> User:
        """Change a user.

        Raises:
            NotFound: there is none.
            InvalidRequest: the new password is too easy to guess.
            Conflict: no admin would be left.
        """
        values: dict[str, Any] = {
            name: value
            for name, value in msgspec.structs.asdict(change).items()
            if value is not None and name not in ("password", "limits")
        }
        if change.limits is not None:
            values["limits"] = msgspec.to_builtins(change.limits)
        if change.password is not None:
            require_strong(change.password)
            hashed = await asyncio.to_thread(passwords.hash_password, change.password)
            values["password_hash"] = hashed
            values["password_changed_at"] = now_text()
        async with self._ledger.writing() as connection:
            user = await find(connection, reference, tenant)
            written = sa.update(table).where(table.c.id == user.id)
            await connection.execute(written.values(**values, updated_at=now_text()))
            await require_admin(connection)
            return await find(connection, user.id, None)

    async def delete(self, reference: str, *, tenant: str | None = None) -> User:
        """Delete a user with its keys, and return what it was.

        Raises:
            NotFound: there is none.
            Conflict: no admin would be left.
        """
        async with self._ledger.writing() as connection:
            user = await find(connection, reference, tenant)
            await connection.execute(sa.delete(table).where(table.c.id == user.id))
            await require_admin(connection)
            return user

    async def with_password(self, username: str, password: str) -> User | None:
        """Return the user that a name and a password belong to, or None.

        A name that nobody has takes as long as a wrong password, so that the answer does not tell
        which of the two it was.
        """
        async with self._ledger.reading() as connection:
            query = sa.select(table).where(table.c.username == username)
            row = (await connection.execute(query)).mappings().first()
        hashed = row["password_hash"] if row is not None else None
        right = await asyncio.to_thread(passwords.verify_password, hashed, password)
        if row is None or not right or row["disabled"]:
            return None
        return user_of(row)

    async def note_login(self, user_id: str) -> None:
        """Remember that a user has just signed in.

        It changes nothing that anybody keeps a picture of, so the version stays.
        """
        async with self._ledger.noting() as connection:
            written = sa.update(table).where(table.c.id == user_id)
            await connection.execute(written.values(last_login_at=now_text()))


async def find(connection: AsyncConnection, reference: str, tenant: str | None) -> User:
    """Return one user by id or username. Raises NotFound."""
    is_id = table.c.id == reference
    query = sa.select(table).where(sa.or_(is_id, table.c.username == reference))
    # A user may be called as another one's id is spelt; the id is the one that cannot be chosen.
    query = query.order_by(sa.case((is_id, 0), else_=1))
    if tenant is not None:
        query = query.where(table.c.tenant == tenant)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise NotFound(f"There is no user '{reference}'.")
    return user_of(row)


async def require_admin(connection: AsyncConnection) -> None:
    """Refuse to leave the platform without anybody who can administer it. Raises Conflict."""
    query = sa.select(table.c.id).where(
        table.c.role == Role.ADMIN.value, table.c.disabled.is_(False)
    )
    if (await connection.execute(query.limit(1))).first() is None:
        raise Conflict("The last admin cannot be deleted, disabled or given another role.")


def is_outdated(user: User, issued_at: int) -> bool:
    """Return whether a token from that time, in seconds since the epoch, is no longer accepted.

    A new password ends all sessions: whoever had the old one may have had them too.
    """
    changed = user.password_changed_at
    return changed is not None and issued_at < int(datetime.fromisoformat(changed).timestamp())


def require_strong(password: str) -> None:
    """Refuse passwords that are easy to guess. Raises InvalidRequest."""
    if passwords.is_weak(password):
        raise InvalidRequest(
            f"The password is too easy to guess: use at least {passwords.MIN_LENGTH} characters "
            "that are no well-known password.",
            field="password",
        )


def user_of(row: Any) -> User:
    """Return a user from its row."""
    return User(
        id=row["id"],
        username=row["username"],
        role=Role(row["role"]),
        tenant=row["tenant"],
        email=row["email"],
        disabled=bool(row["disabled"]),
        limits=msgspec.convert(row["limits"] or {}, LimitOverrides),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_login=row["last_login_at"],
        password_changed_at=row["password_changed_at"],
    )
