"""Which models are in memory: loading on demand, ceilings, idle time.

The decisions are pure functions over `Resident`s; `Residency` acts on them by writing how many
replicas are wanted, and controllers and runtimes do the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from inferno.core.errors import (
    DeadlineExceeded,
    InfernoError,
    ModelLoadFailed,
    ModelNotFound,
    ModelNotLoaded,
    NotFound,
    Overloaded,
)
from inferno.core.resources import (
    LOAD_REQUESTED_ANNOTATION,
    EngineOptions,
    InferenceService,
    Pod,
    PredictorModel,
)
from inferno.gateway.directory import Directory
from inferno.gateway.following import place_of, split_place
from inferno.gateway.lines import LineTable
from inferno.storage.base import ResourceStore

log = structlog.get_logger(__name__)

LOADED_OVER_FILE_SIZE = 1.2
"""Memory of a loaded model over its file's size, until the replica's memory is measured."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be in memory.

    Args:
        models: loaded models at most; 0 for any number.
        memory_bytes: memory of all replicas at most; 0 for any amount.
        idle_seconds: a model unused for so long is unloaded; 0 for never.
    """

    models: int
    memory_bytes: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory.

    Args:
        name: the model's name.
        memory_bytes: measured memory of its replicas, or what they are expected to take.
        last_used: monotonic time of its last request.
        busy: whether a request is with it or waits for it, or it is being loaded.
        pinned: whether it has to stay.
    """

    name: str
    memory_bytes: int
    last_used: float
    busy: bool
    pinned: bool

    @property
    def can_go(self) -> bool:
        """Whether it may be evicted."""
        return not (self.busy or self.pinned)


def plan_idle(residents: Sequence[Resident], *, now: float, limits: Limits) -> list[str]:
    """Return the models that nobody has used for long enough."""
    if not limits.idle_seconds:
        return []
    return [r.name for r in residents if r.can_go and now - r.last_used >= limits.idle_seconds]


def plan_room(
    residents: Sequence[Resident], *, needed_bytes: int, limits: Limits
) -> list[str] | None:
    """Return the models to evict, least recently used first, so that one more fits.

    Args:
        residents: what is in memory, without the model that is to be loaded.
        needed_bytes: memory that the new model is expected to take.
        limits: the ceilings.

    Returns:
        Names to unload, possibly none; None when even unloading all that may go is not enough.
        A model larger than the whole ceiling is let in alone: the operator asked for it.
    """
    staying = sorted(residents, key=lambda r: r.last_used)
    evicted: list[str] = []

    def fits() -> bool:
        count_fits = not limits.models or len(staying) < limits.models
        used = sum(r.memory_bytes for r in staying)
        memory_fits = not limits.memory_bytes or used + needed_bytes <= limits.memory_bytes
        return count_fits and (memory_fits or not staying)

    while not fits():
        victim = next((r for r in staying if r.can_go), None)
        if victim is None:
            return None
        staying.remove(victim)
        evicted.append(victim.name)
    return evicted


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What a finished load measured: memory in bytes, time in milliseconds, sizes in tokens."""

    memory_bytes: int
    load_time_ms: int
    context_size: int


class Residency:
    """Loads and unloads models.

    Args:
        store: where desired state is written.
        directory: what is there now.
        lines: who is using it.
        limits: ceilings and idle time.
        load_on_demand: whether a request may load a model.
        load_timeout: seconds that a load may take.
    """

    def __init__(
        self,
        store: ResourceStore,
        directory: Directory,
        lines: LineTable,
        *,
        limits: Limits,
        load_on_demand: bool,
        load_timeout: float,
    ) -> None:
        self._store = store
        self._directory = directory
        self._lines = lines
        self._limits = limits
        self._load_on_demand = load_on_demand
        self._load_timeout = load_timeout
        self._one_at_a_time = asyncio.Lock()

    def check_exists(self, model: str) -> None:
        """Raise ModelNotFound where there is no such model."""
        self._directory.service(model)

    async def news(self) -> None:
        """Wait until anything changes about any model."""
        await self._directory.noticed()

    async def ensure_wanted(self, model: str, target: str = "") -> None:
        """See to it that a model which a request asks for is loaded or on its way.

        Args:
            model: its place.
            target: the LoRA adapter that is asked for, if any.

        Raises:
            ModelNotFound: no such model.
            ModelNotLoaded: it would have to be loaded, and loading on demand is off.
            ModelLoadFailed: it was tried and failed; a new try needs an explicit load.
            Overloaded: there is no room, and nothing idle can make any.
        """
        service = self._directory.service(model)
        if service.spec.predictor.replicas > 0:
            self._raise_failure(model)
            lacking = self._directory.adapter_failure(model, target)
            if lacking is not None:
                raise lacking
            return
        if not self._load_on_demand:
            raise ModelNotLoaded(model)
        async with self._one_at_a_time:
            stored = await self._stored(model)
            if stored.spec.predictor.replicas == 0:
                await self._want(stored, None)

    async def load(self, model: str, options: EngineOptions | None) -> LoadedModel:
        """Load a model and wait until it can answer.

        Args:
            model: its name.
            options: fields that are set override the model's present ones.

        Raises:
            ModelNotFound: no such model.
            ModelLoadFailed: no replica could be started; says why.
            ModelNotLoaded: somebody unloaded it meanwhile.
            Overloaded: there is no room.
            DeadlineExceeded: loading took longer than it may.
        """
        self._directory.service(model)
        try:
            async with asyncio.timeout(self._load_timeout):
                async with self._one_at_a_time:
                    stored = await self._want(await self._stored(model), options)
                return _measured(await self._loaded(stored))
        except TimeoutError:
            raise DeadlineExceeded(
                f"Model '{model}' was not loaded within {self._load_timeout:g} seconds; "
                "loading goes on."
            ) from None

    async def unload(self, model: str) -> None:
        """Unload a model and wait until its replicas have drained and gone.

        Raises:
            ModelNotFound: no such model.
        """
        self._directory.service(model)
        async with self._one_at_a_time:
            await self._set_replicas(model, 0)
        while self._directory.pods_of(model):
            await self._directory.changed()

    async def unload_idle(self, *, every: float = 1.0) -> None:
        """Unload idle models for ever, looking every so many seconds."""
        while True:
            await asyncio.sleep(every)
            idle = plan_idle(self._residents(), now=time.monotonic(), limits=self._limits)
            for name in idle:
                await self._unload_idle_one(name)

    async def _unload_idle_one(self, model: str) -> None:
        """Unload a model; one that cannot be unloaded now is looked at again in a while."""
        log.info("model_idle", model=model)
        try:
            await self._set_replicas(model, 0)
        except InfernoError as error:  # gone meanwhile, or the store is away
            log.warning("model_not_unloaded", model=model, error=error.message)

    async def _stored(self, model: str) -> InferenceService:
        """Return the service as the store has it now."""
        try:
            namespace, name = split_place(model)
            return await self._store.get(InferenceService, name, namespace)
        except NotFound:
            raise ModelNotFound(model, sorted(self._directory.services)) from None

    async def _want(
        self, service: InferenceService, options: EngineOptions | None
    ) -> InferenceService:
        """Make room and write that the model is wanted, with what is new in its options."""
        model = place_of(service)
        service.spec.predictor.model.options = merged(service.spec.predictor.model.options, options)
        self._check_context(service)
        if service.spec.predictor.replicas == 0:
            await self._make_room(service)
        requested = datetime.now(UTC).isoformat()

        def change(stored: InferenceService) -> None:
            predictor = stored.spec.predictor
            predictor.model.options = merged(predictor.model.options, options)
            predictor.replicas = max(1, predictor.replicas, predictor.min_replicas)
            stored.metadata.annotations[LOAD_REQUESTED_ANNOTATION] = requested

        log.info("model_wanted", model=model)
        self._lines.line(model).touch()  # a model just asked for is not idle
        return await self._write(model, change)

    async def _write(
        self, model: str, change: Callable[[InferenceService], None]
    ) -> InferenceService:
        """Change a service, and wait until the directory shows it: the next plan counts on that."""
        namespace, name = split_place(model)
        written = await self._store.modify(InferenceService, name, change, namespace=namespace)
        services = self._directory.services
        while model in services and not _reflects(services[model], written):
            await self._directory.changed()
        return written

    def _check_context(self, service: InferenceService) -> None:
        """Refuse contexts that no memory holds: the engine takes minutes to find that out.

        Only what the engine has to set aside counts; weights that do not fit are slow, not
        impossible.
        """
        cache = service.spec.predictor.model.cache_bytes
        if self._limits.memory_bytes and cache > self._limits.memory_bytes:
            raise ModelLoadFailed(
                service.metadata.name,
                reason="OutOfMemory",
                message=f"its contexts alone would take {cache:,} bytes, and all replicas may take "
                f"{self._limits.memory_bytes:,}. Use a smaller context_size or fewer parallel "
                "requests.",
            )

    async def _make_room(self, service: InferenceService) -> None:
        name = place_of(service)
        needed = expected_bytes(service.spec.predictor.model)
        others = [r for r in self._residents() if r.name != name]
        evicted = plan_room(others, needed_bytes=needed, limits=self._limits)
        if evicted is None:
            raise Overloaded(
                f"There is no room to load model '{name}': every loaded model is in use or pinned.",
                loaded_models=sorted(r.name for r in others),
            )
        for victim in evicted:
            log.info("model_evicted", model=victim, in_favour_of=name)
            await self._set_replicas(victim, 0)
        for victim in evicted:
            while self._directory.pods_of(victim):
                await self._directory.changed()

    async def _set_replicas(self, model: str, replicas: int) -> None:
        def change(stored: InferenceService) -> None:
            stored.spec.predictor.replicas = replicas

        await self._write(model, change)

    async def _loaded(self, asked: InferenceService) -> list[Pod]:
        """Wait for Ready replicas of the service as it was asked for, or as it became since."""
        name = place_of(asked)
        while True:
            present = self._directory.service(name)
            is_known = _reflects(present, asked)
            service = present if is_known else asked
            wanted = service.spec.predictor
            template = wanted.model.template
            pods = [p for p in self._directory.pods_of(name) if p.spec.model.template == template]
            ready = [p for p in pods if p.status.phase == "Ready"]
            if ready:
                return ready
            if is_known and wanted.replicas == 0:
                raise ModelNotLoaded(name)
            if is_known:
                self._raise_failure(name)
            await self._directory.changed()

    def _raise_failure(self, model: str) -> None:
        failure = self._directory.load_failure(model)
        if failure is not None:
            raise failure

    def _residents(self) -> list[Resident]:
        return [
            self._resident(service)
            for service in self._directory.services.values()
            if service.spec.predictor.replicas > 0
        ]

    def _resident(self, service: InferenceService) -> Resident:
        name = place_of(service)
        measured = sum(pod.status.memory_bytes for pod in self._directory.pods_of(name))
        expected = expected_bytes(service.spec.predictor.model)
        line = self._lines.line(name)
        starting = any(pod.status.phase == "Starting" for pod in self._directory.pods_of(name))
        return Resident(
            name=name,
            memory_bytes=measured or expected,
            last_used=line.last_used,
            busy=line.busy or starting,
            pinned=service.spec.pinned,
        )


def expected_bytes(model: PredictorModel) -> int:
    """Return the memory that a replica is expected to take, until it has been measured."""
    adapters = sum(adapter.size_bytes for adapter in model.lora.adapters)
    return int(model.info.size_bytes * LOADED_OVER_FILE_SIZE) + adapters + model.cache_bytes


def merged(present: EngineOptions, given: EngineOptions | None) -> EngineOptions:
    """Return the options with those that are given replaced."""
    if given is None:
        return present
    fields = EngineOptions.__struct_fields__
    return EngineOptions(
        **{f: getattr(present if getattr(given, f) is None else given, f) for f in fields}
    )


def _reflects(present: InferenceService, asked: InferenceService) -> bool:
    """Whether what the directory shows is what was written, or came after it."""
    if present.metadata.uid != asked.metadata.uid:
        return True
    return present.metadata.generation >= asked.metadata.generation and _requested_at(
        present
    ) >= _requested_at(asked)


def _requested_at(service: InferenceService) -> str:
    return service.metadata.annotations.get(LOAD_REQUESTED_ANNOTATION, "")


def _measured(pods: Sequence[Pod]) -> LoadedModel:
    return LoadedModel(
        memory_bytes=sum(pod.status.memory_bytes for pod in pods),
        load_time_ms=max(pod.status.load_time_ms for pod in pods),
        context_size=min(pod.status.context_size for pod in pods),
    )
