"""The corpus in a database of each kind, made once for all tests that only read it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
import pytest

from inferno.registry.finding import Finder, Page, Query
from inferno.storage.database import Database
from tests.contract.registry.corpus import entries
from tests.contract.registry.filling import fill


class Corner:
    """The corpus, in a loop of its own, for tests that are no coroutines.

    Args:
        url: of an empty database.
    """

    def __init__(self, url: str) -> None:
        self._loop = asyncio.Runner()
        self.run = self._loop.run
        self.database: Database = self.run(Database.open(url))
        self.finder = Finder(self.database)
        self.documents = entries()
        self.run(fill(self.database, self.documents))

    def find(self, query: Query) -> Page:
        """Return what the database answers."""
        return self.run(self.finder.find(query))

    def close(self) -> None:
        """Close the database."""
        self.run(self.database.close())
        self._loop.close()


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def corner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Corner]:
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('corner')}/inferno.db"
    else:
        url = asyncio.run(_new_database(request.getfixturevalue("postgres_folder")))
    corner = Corner(url)
    yield corner
    corner.close()


async def _new_database(folder: str) -> str:
    """Make a database that other tests do not empty."""
    admin = await asyncpg.connect(host=folder, user="postgres", database="postgres")
    await admin.execute("CREATE DATABASE corner")
    await admin.close()
    return f"postgresql+asyncpg://postgres@/corner?host={folder}"
