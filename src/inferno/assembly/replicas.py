"""The controllers, and the runtime that makes replicas of what they want."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

from inferno.cluster import kinds, node
from inferno.controllers.events import EventController
from inferno.controllers.inference_model import InferenceModelController
from inferno.controllers.inference_objective import InferenceObjectiveController
from inferno.controllers.inference_pool import InferencePoolController
from inferno.controllers.inference_service import InferenceServiceController
from inferno.controllers.model_server import ModelServerController
from inferno.controllers.models_folder import ModelsFolderController
from inferno.controllers.namespace import NamespaceController
from inferno.data_dir import DataDir
from inferno.engines import bundled, engine
from inferno.models.folder import ModelsFolder
from inferno.runtimes.local import LocalRuntime
from inferno.runtimes.replica import Timings
from inferno.settings import Settings
from inferno.storage.base import ResourceStore


@asynccontextmanager
async def replicas(
    settings: Settings, data_dir: DataDir, store: ResourceStore, secret: bytes
) -> AsyncIterator[LocalRuntime]:
    """Run the controllers and the local runtime while the block runs; then drain all replicas."""
    folder = ModelsFolderController(
        store,
        ModelsFolder(settings.models_path),
        bundled=bundled.model_path() if settings.bundled_model else None,
        options_of=settings.engine_options,
        is_pinned=settings.pinned,
    )
    settings.models_path.mkdir(parents=True, exist_ok=True)
    await folder.reconcile(first=True)
    controllers = (
        InferenceServiceController(store),
        InferencePoolController(store),
        InferenceModelController(store),
        InferenceObjectiveController(store),
        ModelServerController(store),
        NamespaceController(store, list(kinds.catalog(node.node_name()).stored_kinds())),
        EventController(store),
    )
    runtime = LocalRuntime(
        store,
        engine=engine,
        secret=secret,
        data_dir=data_dir.path,
        timings=Timings(grace=settings.grace_period),
    )
    async with AsyncExitStack() as loops:
        await loops.enter_async_context(running(runtime.run))
        for controller in controllers:
            await loops.enter_async_context(running(controller.loop().run))
        await loops.enter_async_context(running(folder.run))
        yield runtime


@asynccontextmanager
async def running(
    loop: Callable[[asyncio.Event], Coroutine[None, None, None]],
) -> AsyncIterator[None]:
    """Run a loop that takes a stop event while the block runs; then stop it and wait for it."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(loop(stop))
        try:
            yield
        finally:
            stop.set()
