"""A process of its own that writes to a store: `python -m tests.contract.storage.writer`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from inferno.storage.database import Database
from inferno.storage.resources import SqlResourceStore
from tests.contract.storage.kinds import Widget, widget


async def create(store: SqlResourceStore, name: str) -> None:
    await store.create(widget(name))


async def increment(store: SqlResourceStore, name: str, times: str) -> None:
    def one_more(current: Widget) -> None:
        current.spec.size += 1

    for _ in range(int(times)):
        await store.modify(Widget, name, one_more)


async def endlessly(store: SqlResourceStore, prefix: str) -> None:
    """Create, modify and delete until killed; print each version that was acknowledged."""
    number = 0
    while True:
        number += 1
        name = f"{prefix}-{number}"
        created = await store.create(widget(name, size=number))
        print(name, created.metadata.resource_version, flush=True)
        if number % 3 == 0:
            await store.delete(Widget, name)
            print(name, "deleted", flush=True)


ACTIONS: dict[str, Callable[..., Awaitable[None]]] = {
    "create": create,
    "increment": increment,
    "endlessly": endlessly,
}


async def main(url: str, action: str, *arguments: str) -> None:
    database = await Database.open(url)
    store = await SqlResourceStore.open(database)
    try:
        await ACTIONS[action](store, *arguments)
    finally:
        await store.close()
        await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
