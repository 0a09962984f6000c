from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from tests.contract.runtimes.machine import Machine
from tests.contract.runtimes.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny model.gguf")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlResourceStore]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/platform.db")
    store = await SqlResourceStore.open(database)
    yield store
    await store.close()
    await database.close()


@pytest.fixture
async def machine(store: SqlResourceStore, tmp_path: Path) -> AsyncIterator[Machine]:
    async with Machine(store, tmp_path) as machine:
        yield machine
