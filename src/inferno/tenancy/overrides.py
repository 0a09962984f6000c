"""Limits that are set for a role or a tenant. Those of users and keys are theirs."""

from __future__ import annotations

from typing import Literal

import msgspec
import sqlalchemy as sa

from inferno.core.errors import InvalidRequest
from inferno.core.tenancy import LimitOverrides, Role
from inferno.storage.tables import limit_overrides as table
from inferno.tenancy.ledger import Ledger
from inferno.tenancy.types import TenantName

Scope = Literal["role", "tenant"]


class Overrides:
    """Limits by role and by tenant.

    Args:
        ledger: where they are written.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def all(self) -> dict[tuple[str, str], LimitOverrides]:
        """Return all overrides by scope and name."""
        async with self._ledger.reading() as connection:
            rows = (await connection.execute(sa.select(table))).mappings().all()
        return {
            (row["scope"], row["name"]): msgspec.convert(row["limits"], LimitOverrides)
            for row in rows
        }

    async def set(self, scope: Scope, name: str, limits: LimitOverrides) -> None:
        """Set the limits of a role or a tenant; empty ones take the override away.

        Raises:
            InvalidRequest: no role or no tenant can have that name.
        """
        _require_possible(scope, name)
        async with self._ledger.writing() as connection:
            here = sa.and_(table.c.scope == scope, table.c.name == name)
            await connection.execute(sa.delete(table).where(here))
            if limits != LimitOverrides():
                row = {"scope": scope, "name": name, "limits": msgspec.to_builtins(limits)}
                await connection.execute(sa.insert(table).values(row))


def _require_possible(scope: Scope, name: str) -> None:
    wanted = Role if scope == "role" else TenantName
    try:
        msgspec.convert(name, wanted)
    except msgspec.ValidationError:
        raise InvalidRequest(f"There is no {scope} '{name}'.", field=scope) from None
