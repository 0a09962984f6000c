"""The registry over both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from inferno.core.tenancy import ROLE_PERMISSIONS, UNLIMITED, Principal, Role
from inferno.registry.catalog import Catalog
from inferno.registry.finding import Finder
from inferno.storage.database import Database
from tests.contract.registry.corner import corner
from tests.contract.storage.conftest import database, postgres_folder, url

__all__ = ["corner", "database", "postgres_folder", "url"]


def principal(name: str, *, role: Role = Role.USER, tenant: str = "default") -> Principal:
    """Return somebody who calls."""
    return Principal(
        user_id=name,
        username=name,
        tenant=tenant,
        role=role,
        permissions=ROLE_PERMISSIONS[role],
        credential="api_key",
        credential_id=name,
        limits=UNLIMITED,
    )


ADA, BOB = principal("ada"), principal("bob")
ADMIN = principal("root", role=Role.ADMIN)


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return what time it is."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog(database: Database, clock: Clock) -> Catalog:
    return Catalog(database, most=5, clock=clock)


@pytest.fixture
def finder(database: Database) -> Finder:
    return Finder(database)
