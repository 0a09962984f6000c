import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from inferno.controllers.inference_service import InferenceServiceController
from inferno.controllers.loop import Key, Loop, Source, own_key
from inferno.controllers.queue import WorkQueue
from inferno.core.errors import NotFound
from inferno.core.resources import (
    RUNTIME_FINALIZER,
    InferenceService,
    ObjectMeta,
    Pod,
    PodStatus,
    ServiceState,
)
from inferno.storage.resources import SqlResourceStore


async def test_a_key_waits_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await queue.take(), await queue.take()] == ["a", "b"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 0.01)


async def test_a_failing_key_comes_back_later_and_later() -> None:
    queue: WorkQueue[str] = WorkQueue(first_delay=0.01, max_delay=0.03)
    assert [queue.retry("a") for _ in range(4)] == [0.01, 0.02, 0.03, 0.03]
    assert await asyncio.wait_for(queue.take(), 1) == "a"
    queue.forget("a")
    assert queue.retry("a") == 0.01
    queue.close()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 0.05)


async def test_news_do_not_wait_for_a_retry() -> None:
    queue: WorkQueue[str] = WorkQueue(first_delay=60)
    queue.retry("a")
    queue.add("a")
    assert await asyncio.wait_for(queue.take(), 1) == "a"


@asynccontextmanager
async def _running(loop: Loop) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(loop.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


def _loop(
    store: SqlResourceStore, reconcile: Callable[[Key], Awaitable[None]], resync: float = 30.0
) -> Loop:
    return Loop("test", store, [Source(InferenceService, own_key)], reconcile, resync=resync)


async def _create(store: SqlResourceStore, name: str) -> None:
    await store.create(InferenceService(metadata=ObjectMeta(name=name)))


async def test_what_exists_and_what_comes_is_reconciled(store: SqlResourceStore) -> None:
    seen: asyncio.Queue[Key] = asyncio.Queue()
    await _create(store, "before")
    async with _running(_loop(store, seen.put)), asyncio.timeout(5):
        assert await seen.get() == Key("default", "before")
        await _create(store, "after")
        assert await seen.get() == Key("default", "after")
        await store.delete(InferenceService, "after")
        assert await seen.get() == Key("default", "after")


async def test_failures_are_tried_again_and_others_go_on(store: SqlResourceStore) -> None:
    seen: asyncio.Queue[Key] = asyncio.Queue()

    async def reconcile(key: Key) -> None:
        await seen.put(key)
        if key.name == "bad":
            raise RuntimeError("no")

    await _create(store, "bad")
    await _create(store, "good")
    async with _running(_loop(store, reconcile)), asyncio.timeout(5):
        names = [(await seen.get()).name for _ in range(4)]
    assert names[:2] == ["bad", "good"]
    assert names[2:] == ["bad", "bad"]


async def test_everything_is_looked_at_again(store: SqlResourceStore) -> None:
    seen: asyncio.Queue[Key] = asyncio.Queue()
    await _create(store, "a")
    async with _running(_loop(store, seen.put, resync=0.02)), asyncio.timeout(5):
        for _ in range(3):
            await seen.get()


async def test_a_service_follows_its_pods(store: SqlResourceStore) -> None:
    service = InferenceService(metadata=ObjectMeta(name="m"))
    service.spec.predictor.replicas = 1
    await store.create(service)
    async with _running(InferenceServiceController(store).loop()), asyncio.timeout(5):
        name = await _pod_name(store)
        await _set_ready(store, name)
        await _until_state(store, "Ready")
        await store.modify(InferenceService, "m", _unload)
        await _until_state(store, "Draining")
        assert (await store.get(Pod, name)).metadata.deletion_timestamp
        await store.modify(Pod, name, lambda pod: pod.metadata.finalizers.clear())
        await _until_state(store, "Unloaded")
        with pytest.raises(NotFound):
            await store.get(Pod, name)


def _unload(service: InferenceService) -> None:
    service.spec.predictor.replicas = 0


async def _pod_name(store: SqlResourceStore) -> str:
    while True:
        pods, _ = await store.list(Pod)
        if pods:
            assert pods[0].metadata.finalizers == [RUNTIME_FINALIZER]
            return pods[0].metadata.name
        await asyncio.sleep(0.01)


async def _set_ready(store: SqlResourceStore, name: str) -> None:
    def change(pod: Pod) -> None:
        pod.status = PodStatus(phase="Ready")

    await store.modify(Pod, name, change, status=True)


async def _until_state(store: SqlResourceStore, state: ServiceState) -> None:
    while True:
        service = await store.get(InferenceService, "m")
        if service.status.state == state:
            return
        await asyncio.sleep(0.01)
