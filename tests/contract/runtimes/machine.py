"""A runtime at work over a real store, and what tests ask of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from inferno.core.errors import NotFound
from inferno.core.resources import EngineOptions, ObjectMeta, Pod, PodSpec, PredictorModel
from inferno.engines import engine
from inferno.engines.base import Engine
from inferno.runtimes.keys import replica_key
from inferno.runtimes.local import LocalRuntime
from inferno.runtimes.replica import Timings
from inferno.runtimes.restarts import RestartPolicy
from inferno.storage.resources import SqlResourceStore

SECRET = b"a secret of the platform"
PATIENCE = 20.0
QUICK = Timings(
    grace=10.0,
    probe_interval=0.1,
    probe_timeout=0.3,
    probe_failures=2,
    restarts=RestartPolicy(first_delay=0.05, delay=0.1),
)


class Machine:
    """Runs one `LocalRuntime`; use as an async context manager."""

    def __init__(
        self,
        store: SqlResourceStore,
        data_dir: Path,
        *,
        engines: Callable[[str], Engine] = engine,
        timings: Timings = QUICK,
    ) -> None:
        self.store = store
        self.runtime = LocalRuntime(
            store, engine=engines, secret=SECRET, data_dir=data_dir, timings=timings
        )
        self.stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Machine:
        self._task = asyncio.create_task(self.runtime.run(self.stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut_down()

    async def shut_down(self) -> None:
        self.stop.set()
        assert self._task is not None
        async with asyncio.timeout(PATIENCE):
            await self._task

    async def create(self, name: str, model: str | Path, **options: int) -> Pod:
        uri = model.as_uri() if isinstance(model, Path) else model
        spec = PodSpec(
            service="tiny",
            engine="llama_cpp",
            model=PredictorModel(storage_uri=uri, options=EngineOptions(**options)),
        )
        return await self.store.create(Pod(metadata=ObjectMeta(name=name), spec=spec))

    async def until(self, name: str, condition: Callable[[Pod], bool]) -> Pod:
        """Wait until a pod meets a condition."""
        pod: Pod | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    pod = await self.store.get(Pod, name)
                    if condition(pod):
                        return pod
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"still waiting: {pod}") from None

    async def until_phase(self, name: str, phase: str) -> Pod:
        return await self.until(name, lambda pod: pod.status.phase == phase)

    async def until_gone(self, name: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.store.get(Pod, name)
                except NotFound:
                    return
                await asyncio.sleep(0.02)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def ask(
    pod: Pod, path: str, body: dict[str, Any] | None = None, *, key: str | None = None
) -> tuple[int, Any]:
    """Send a request to a replica; blocks."""
    key = key or replica_key(SECRET, pod.metadata.uid)
    connection = http.client.HTTPConnection(pod.status.host, pod.status.port, timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request(
            "POST" if body else "GET", path, json.dumps(body) if body else None, headers
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def dies_within(pid: int, seconds: float) -> bool:
    """Wait for the end of a process; blocks."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return True
        time.sleep(0.01)
    return False
