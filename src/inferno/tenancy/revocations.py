"""Tokens that were revoked before they expired."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from inferno.core.errors import AuthenticationFailed
from inferno.storage.tables import revoked_tokens as table
from inferno.tenancy.ledger import Ledger, now_text, text_of


class Revocations:
    """The ids of revoked tokens, each kept until its token would have expired anyway.

    Args:
        ledger: where they are written.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def revoke(self, jti: str, *, until: float) -> None:
        """Revoke a token; doing it again changes nothing.

        Args:
            jti: its id.
            until: when it would have expired, in seconds since the epoch.
        """
        async with self._ledger.writing() as connection:
            await connection.execute(sa.delete(table).where(table.c.expires_at < now_text()))
            known = sa.select(table.c.jti).where(table.c.jti == jti)
            if (await connection.execute(known)).first() is None:
                expires = text_of(datetime.fromtimestamp(until, UTC))
                row = {"jti": jti, "expires_at": expires, "revoked_at": now_text()}
                await connection.execute(sa.insert(table).values(row))

    async def spend(self, jti: str, *, until: float) -> None:
        """Revoke a token that may be used once, in the same step as seeing that it was not.

        Raises:
            AuthenticationFailed: it was used before.
        """
        async with self._ledger.writing() as connection:
            known = sa.select(table.c.jti).where(table.c.jti == jti)
            if (await connection.execute(known)).first() is not None:
                raise AuthenticationFailed("The refresh token was used before.")
            expires = text_of(datetime.fromtimestamp(until, UTC))
            row = {"jti": jti, "expires_at": expires, "revoked_at": now_text()}
            await connection.execute(sa.insert(table).values(row))

    async def all(self) -> dict[str, float]:
        """Return when each revoked token would have expired, by id."""
        async with self._ledger.reading() as connection:
            rows = (await connection.execute(sa.select(table))).mappings().all()
        return {row["jti"]: datetime.fromisoformat(row["expires_at"]).timestamp() for row in rows}
