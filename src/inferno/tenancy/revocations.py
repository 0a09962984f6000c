"""Tokens that were revoked before they expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.core.errors import AuthenticationFailed, Conflict
from inferno.storage.tables import revoked_tokens as table
from inferno.tenancy.ledger import Ledger, now_text, text_of

KEEP_AFTER = timedelta(hours=1)
"""A revocation outlives its token by that: a clock set back must not bring the token back."""


class Revocations:
    """The ids of revoked tokens, each kept until its token would have expired anyway.

    Args:
        ledger: where they are written.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def revoke(self, jti: str, *, until: float) -> None:
        """Revoke a token; of two ends given for it, the later one holds.

        Args:
            jti: its id.
            until: when it would have expired, in seconds since the epoch.
        """
        row = _row(jti, until)
        async with self._ledger.writing() as connection:
            await _forget_expired(connection)
            known = sa.select(table.c.expires_at).where(table.c.jti == jti)
            held = (await connection.execute(known)).scalar_one_or_none()
            if held is None:
                await connection.execute(sa.insert(table).values(row))
            elif held < row["expires_at"]:
                written = sa.update(table).where(table.c.jti == jti)
                await connection.execute(written.values(expires_at=row["expires_at"]))

    async def spend(self, jti: str, *, until: float) -> None:
        """Revoke a token that may be used once, in the same step as seeing that it was not.

        Whether it was is looked up here alone, so pictures in memory stay as they are.

        Raises:
            AuthenticationFailed: it was used before.
        """
        async with self._ledger.noting() as connection:
            await _forget_expired(connection)
            try:
                await connection.execute(sa.insert(table).values(_row(jti, until)))
            except Conflict:
                raise AuthenticationFailed("The refresh token was used before.") from None

    async def all(self) -> dict[str, float]:
        """Return when each revoked token would have expired, by id."""
        async with self._ledger.reading() as connection:
            rows = (await connection.execute(sa.select(table))).mappings().all()
        return {row["jti"]: datetime.fromisoformat(row["expires_at"]).timestamp() for row in rows}


def _row(jti: str, until: float) -> dict[str, str]:
    expires = text_of(datetime.fromtimestamp(until, UTC))
    return {"jti": jti, "expires_at": expires, "revoked_at": now_text()}


async def _forget_expired(connection: AsyncConnection) -> None:
    edge = text_of(datetime.now(UTC) - KEEP_AFTER)
    await connection.execute(sa.delete(table).where(table.c.expires_at < edge))
