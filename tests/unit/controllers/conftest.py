from collections.abc import AsyncIterator

import pytest

from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore


@pytest.fixture
async def store() -> AsyncIterator[SqlResourceStore]:
    database = await Database.open("sqlite+aiosqlite:///:memory:")
    store = await SqlResourceStore.open(database)
    yield store
    await store.close()
    await database.close()
