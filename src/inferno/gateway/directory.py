"""The data plane's picture of what is served, kept fresh by watching the store.

It holds no truth: services and pods are the store's. The lines follow them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from inferno.core.errors import (
    InfernoError,
    ModelLoadFailed,
    ModelNotFound,
    ModelNotLoaded,
    Overloaded,
)
from inferno.core.resources import (
    DEFAULT_NAMESPACE,
    LOAD_REQUESTED_ANNOTATION,
    InferenceService,
    Pod,
    Resource,
)
from inferno.gateway.endpoints import Endpoint
from inferno.gateway.following import follow, join_place, place_of, split_place
from inferno.gateway.lines import Line, LineTable
from inferno.gateway.upstream import Address
from inferno.storage.base import ResourceStore

R = TypeVar("R", bound=Resource)


class Directory:
    """Services and pods by their places, and the endpoints that follow from them.

    Args:
        store: where they are watched.
        lines: the table to keep.
        key_of: the key that opens a replica, by pod uid.
    """

    def __init__(
        self, store: ResourceStore, lines: LineTable, *, key_of: Callable[[str], str]
    ) -> None:
        self._store = store
        self._lines = lines
        self._key_of = key_of
        self.services: dict[str, InferenceService] = {}
        self.pods: dict[str, Pod] = {}
        self.adapters: dict[str, str] = {}
        """The places of models by those of their LoRA adapters."""
        self._with_adapters: dict[str, InferenceService] = {}
        self._changed = asyncio.Event()
        self._draining = False

    def service(self, model: str) -> InferenceService:
        """Return a served model.

        Raises:
            ModelNotFound: there is none of that name; lists those there are.
        """
        service = self.services.get(model)
        if service is None:
            raise ModelNotFound(model, sorted(self.services))
        return service

    def place(self, model: str, tenant: str) -> str:
        """Return the place of the model that a tenant means by a name: its own comes first.

        Raises:
            ModelNotFound: it can reach none of that name; lists those that it can.
        """
        for place in (join_place(tenant, model), model):
            if place in self.services and "/" not in model:
                return place
        raise ModelNotFound(model, self.names(tenant))

    def place_of_adapter(self, name: str, tenant: str) -> str | None:
        """Return the place of the model whose LoRA adapter a tenant means by a name, if any."""
        if "/" in name:
            return None
        own = self.adapters.get(join_place(tenant, name))
        return own or self.adapters.get(name)

    def has_name(self, model: str) -> bool:
        """Return whether a name is that of a model's place, or of an adapter's."""
        return model in self.services or model in self.adapters

    def names(self, tenant: str) -> list[str]:
        """Return the names of the models that a tenant can reach."""
        return _reached(self.services, tenant)

    def adapter_names(self, tenant: str) -> list[str]:
        """Return the names of the LoRA adapters that a tenant can reach."""
        return _reached(self.adapters, tenant)

    def adapter_failure(self, model: str, adapter: str) -> ModelLoadFailed | None:
        """Return why the replicas of a model lack one of its adapters, if they do."""
        pods = self.pods_of(model)
        if any(adapter in pod.status.adapters for pod in pods):
            return None
        problems = (pod.status.adapter_problems.get(adapter) for pod in pods)
        found = next(filter(None, problems), None)
        if found is None:
            return None
        return ModelLoadFailed(adapter, reason="AdapterUnusable", message=found)

    def line(self, model: str) -> Line:
        """Return the line of a served model.

        Raises:
            ModelNotFound: names that are no model's have none.
        """
        self.service(model)
        return self._lines.line(model)

    def pods_of(self, model: str) -> list[Pod]:
        """Return the replicas of a model, ready or not."""
        return [pod for pod in self.pods.values() if service_of(pod) == model]

    def is_loaded(self, model: str) -> bool:
        """Return whether a replica of the model can answer."""
        return any(pod.status.phase == "Ready" for pod in self.pods_of(model))

    def load_failure(self, model: str) -> ModelLoadFailed | None:
        """Return why a model that is wanted cannot be loaded, if it was tried and failed.

        Only replicas made for the service as it now is, and for the latest request to load it,
        speak for it.
        """
        service = self.services.get(model)
        if service is None:
            return None
        tried = [pod for pod in self.pods_of(model) if _made_for(pod, service)]
        failed = [pod for pod in tried if pod.status.phase == "Failed"]
        if not failed or len(failed) < len(tried):
            return None
        status = failed[-1].status
        return ModelLoadFailed(model, reason=status.reason, message=status.message)

    def endpoint_of(self, pod: Pod) -> Endpoint | None:
        """Return the endpoint of a replica that can answer."""
        return self._lines.line(service_of(pod)).endpoints.get(pod.metadata.name)

    async def noticed(self) -> None:
        """Wait until anything changes, whether we are shutting down or not."""
        await self._changed.wait()

    async def changed(self) -> None:
        """Wait until anything changes.

        Raises:
            Overloaded: the platform is shutting down; what is waited for will not come.
        """
        if not self._draining:
            await self._changed.wait()
        if self._draining:
            raise shutting_down()

    @property
    def draining(self) -> bool:
        """Whether the platform is shutting down."""
        return self._draining

    def drain(self) -> None:
        """Refuse those who wait for a model that is not loaded: it will not be any more.

        Requests that a replica works on, or will come to, go on.
        """
        self._draining = True
        for line in self._lines.lines():
            if not line.endpoints:
                line.fail(shutting_down)
        self._notify()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Keep the picture fresh while the block runs; it is complete when the block begins."""
        ready = [asyncio.Event(), asyncio.Event()]
        async with asyncio.TaskGroup() as tasks:
            followers = [
                tasks.create_task(
                    follow(
                        self._store,
                        InferenceService,
                        self.services,
                        self._changing(self._on_service),
                        ready[0],
                    )
                ),
                tasks.create_task(
                    follow(self._store, Pod, self.pods, self._changing(self._on_pod), ready[1])
                ),
            ]
            for event in ready:
                await event.wait()
            yield
            for follower in followers:
                follower.cancel()

    def _changing(self, on_change: Callable[[R, bool], None]) -> Callable[[R, bool], None]:
        """Return what handles a change and then wakes those who wait for one."""

        def changed(resource: R, gone: bool) -> None:
            on_change(resource, gone)
            self._notify()

        return changed

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_service(self, service: InferenceService, gone: bool) -> None:
        name = place_of(service)
        self._mind_adapters(name, None if gone else service)
        if gone:
            self._lines.drop(name, lambda: ModelNotFound(name, sorted(self.services)))
        else:
            self._refuse_in_vain(name)

    def _mind_adapters(self, place: str, service: InferenceService | None) -> None:
        """Take in which adapters a model has; of models that want one name the oldest has it."""
        before = self._with_adapters.pop(place, None)
        if service is not None and service.spec.predictor.model.lora.adapters:
            self._with_adapters[place] = service
        elif before is None:
            return
        self.adapters = {}
        for each in sorted(self._with_adapters.values(), key=_age):
            for adapter in each.spec.predictor.model.adapters:
                own = join_place(each.metadata.namespace, adapter)
                self.adapters.setdefault(own, place_of(each))

    def _on_pod(self, pod: Pod, gone: bool) -> None:
        name, place = pod.metadata.name, service_of(pod)
        line = self._lines.line(place)
        present = line.endpoints.get(name)
        usable = not gone and pod.status.phase == "Ready" and not pod.metadata.deletion_timestamp
        address = Address(pod.status.host, pod.status.port) if usable else None
        if present is not None and present.address != address:
            line.remove(name)
            present = None
        if address is not None and present is None:
            line.add(self._endpoint(pod, address))
        self._refuse_in_vain(place)

    def _refuse_in_vain(self, model: str) -> None:
        """Refuse those who wait for a model that will not come of itself."""
        line, service = self._lines.line(model), self.services.get(model)
        if line.endpoints or service is None:
            return
        if service.spec.predictor.replicas == 0:
            line.fail(lambda: ModelNotLoaded(model))
        elif self.load_failure(model) is not None:
            line.fail(lambda: self._failure_or_retry(model))

    def _failure_or_retry(self, model: str) -> InfernoError:
        return self.load_failure(model) or Overloaded(f"Model '{model}' is being loaded again.")

    def _endpoint(self, pod: Pod, address: Address) -> Endpoint:
        key = self._key_of(pod.metadata.uid)
        return Endpoint(
            name=pod.metadata.name,
            model=service_of(pod),
            address=address,
            authorization=b"Bearer " + key.encode("ascii"),
            # Twice the slots: the engine always has the next request at hand, and what waits
            # longer waits here, where leaving costs the engine nothing.
            capacity=max(2, 2 * pod.status.parallel),
            slots=max(1, pod.status.parallel),
            context_size=pod.status.context_size,
            capabilities=frozenset(pod.status.capabilities),
            serves=frozenset({pod.spec.service, *pod.status.adapters}),
            adapters={name: number for number, name in enumerate(pod.status.adapters)},
        )


def _reached(places: Iterable[str], tenant: str) -> list[str]:
    spaces = (tenant, DEFAULT_NAMESPACE)
    return sorted({name for space, name in map(split_place, places) if space in spaces})


def _age(service: InferenceService) -> tuple[str, str]:
    return service.metadata.creation_timestamp, place_of(service)


def service_of(pod: Pod) -> str:
    """Return the place of the service that a replica belongs to."""
    return join_place(pod.metadata.namespace, pod.spec.service)


def shutting_down() -> Overloaded:
    """Return the error for what a platform that is shutting down no longer does."""
    return Overloaded("The platform is shutting down; try again in a while.", retry_after=5)


def _made_for(pod: Pod, service: InferenceService) -> bool:
    """Whether a replica was made for the service's present model and latest load request."""
    asked = service.metadata.annotations.get(LOAD_REQUESTED_ANNOTATION)
    answered = pod.metadata.annotations.get(LOAD_REQUESTED_ANNOTATION)
    wanted = service.spec.predictor.model
    return pod.spec.model.template == wanted.template and asked == answered
