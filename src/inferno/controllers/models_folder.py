"""Puts up what the models folder and the package hold: one InferenceService per model file.

A file that appears is served, one that is replaced is another model, one that goes is taken
down. `plan` decides; `ModelsFolderController` looks, decides and writes, again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

import structlog

from inferno.core.errors import InfernoError, InvalidRequest
from inferno.core.resources import (
    MAX_ADAPTERS,
    EngineOptions,
    InferenceService,
    InferenceServiceSpec,
    LoRA,
    LoRAAdapter,
    ModelInfo,
    ObjectMeta,
    Predictor,
    PredictorModel,
)
from inferno.models.folder import FileError, ModelFile, ModelsFolder
from inferno.models.gguf import kv_cache_bytes_per_token
from inferno.models.names import safe_name
from inferno.storage.base import ResourceStore

SOURCE_LABEL = "inferno.dev/source"
"""Label on services that names who put them up; this controller touches only its own."""

FOLDER = "models-folder"
RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that should be served.

    Args:
        name: its name.
        model: file, options and what the file says.
        pinned: whether it is loaded at the start and stays.
        preload: whether it is loaded when it is first put up.
        folder: URI of the folder whose adapters are all in `model`.
    """

    name: str
    model: PredictorModel
    pinned: bool
    preload: bool = False
    folder: str = ""


@dataclass(slots=True)
class Plan:
    """What to write: services to create and to replace, names to delete."""

    create: list[InferenceService] = field(default_factory=list)
    update: list[InferenceService] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)


def plan(offers: Sequence[Offer], services: Sequence[InferenceService], *, first: bool) -> Plan:
    """Decide what to write so that just the offers are put up.

    Args:
        offers: the models there are.
        services: all services, those of others among them.
        first: whether this is the first look since the start. Then options of earlier load calls
            give way to the settings, and pinned models are loaded; later, options and the number
            of replicas are left to whoever set them.
    """
    wanted = {offer.name: offer for offer in offers}
    known = {service.metadata.name: service for service in services}
    decided = Plan()
    for name, offer in wanted.items():
        present = known.get(name)
        if present is None:
            decided.create.append(_service(offer))
        elif _is_ours(present):
            changed = _changed(present, offer, first=first)
            if changed is not None:
                decided.update.append(changed)
    decided.delete = [n for n, s in known.items() if _is_ours(s) and n not in wanted]
    return decided


def _is_ours(service: InferenceService) -> bool:
    return service.metadata.labels.get(SOURCE_LABEL) == FOLDER


def _service(offer: Offer) -> InferenceService:
    replicas = 1 if offer.pinned or offer.preload else 0
    return InferenceService(
        metadata=ObjectMeta(name=offer.name, labels={SOURCE_LABEL: FOLDER}),
        spec=InferenceServiceSpec(
            predictor=Predictor(replicas=replicas, model=offer.model), pinned=offer.pinned
        ),
    )


def _changed(present: InferenceService, offer: Offer, *, first: bool) -> InferenceService | None:
    """Return the service as it should be, or None where it is so already."""
    old = present.spec.predictor
    options = offer.model.options if first else old.model.options
    model = PredictorModel(
        model_format=offer.model.model_format,
        storage_uri=offer.model.storage_uri,
        options=options,
        info=offer.model.info,
        lora=LoRA(adapters=[*offer.model.lora.adapters, *_declared(old.model, offer)]),
    )
    replicas = max(1, old.replicas) if first and offer.pinned else old.replicas
    if (model, replicas, offer.pinned) == (old.model, old.replicas, present.spec.pinned):
        return None
    predictor = Predictor(
        min_replicas=old.min_replicas,
        max_replicas=old.max_replicas,
        replicas=replicas,
        model=model,
    )
    spec = InferenceServiceSpec(predictor=predictor, pinned=offer.pinned)
    return InferenceService(metadata=present.metadata, spec=spec, status=present.status)


def _declared(model: PredictorModel, offer: Offer) -> list[LoRAAdapter]:
    """Return the adapters that somebody gave a model besides those of the folder."""
    known = set(offer.model.adapters)
    return [
        adapter
        for adapter in model.lora.adapters
        if adapter.name not in known and not _is_of_folder(adapter.uri, offer.folder)
    ]


def _is_of_folder(uri: str, folder: str) -> bool:
    before, _, name = uri.rpartition("/")
    return f"{before}/" == folder and "+" in unquote(name)


def offer_of(
    file: ModelFile, *, options: EngineOptions, pinned: bool, preload: bool = False
) -> Offer:
    """Return the offer for a model file.

    A file that cannot be served is put up too: asking for it says what is wrong with it.
    """
    return Offer(
        name=file.name,
        model=PredictorModel(
            storage_uri=file.path.absolute().as_uri(), options=options, info=_info(file)
        ),
        pinned=pinned,
        preload=preload,
    )


def _info(file: ModelFile) -> ModelInfo:
    header = file.header
    if header is None:
        return ModelInfo(
            size_bytes=file.size_bytes,
            modified_ns=file.mtime_ns,
            problem_reason=file.error.reason if file.error else "",
            problem=file.error.message if file.error else "",
        )
    return ModelInfo(
        display_name=header.name,
        architecture=header.architecture,
        quantization=header.file_type,
        license=header.license,
        size_bytes=file.size_bytes,
        parameters=header.parameter_count,
        context_length=header.context_length,
        embedding_length=header.embedding_length,
        vocabulary_size=header.vocabulary_size,
        cache_bytes_per_token=kv_cache_bytes_per_token(header),
        modified_ns=file.mtime_ns,
        capabilities=["text-generation", "embeddings"],
    )


class ModelsFolderController:
    """Keeps the services of model files true to the files.

    Args:
        store: where services are written.
        folder: the watched folder.
        bundled: the model that comes with the package; None where it is not served.
        options_of: how the engine runs a model, by name.
        is_pinned: whether a model stays loaded, by name.
    """

    def __init__(
        self,
        store: ResourceStore,
        folder: ModelsFolder,
        *,
        bundled: Path | None,
        options_of: Callable[[str], EngineOptions],
        is_pinned: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._folder = folder
        self._bundled = None if bundled is None else ModelsFolder(bundled.parent)
        self._options_of = options_of
        self._is_pinned = is_pinned

    async def run(self, stop: asyncio.Event) -> None:
        """Look again whenever the folder changes, until told to stop."""
        async for _ in self._folder.watch(stop):
            await self._reconcile_or_retry(stop)

    async def reconcile(self, *, first: bool = False) -> None:
        """Look once and write what has to be written."""
        offers = await asyncio.to_thread(self._offers)
        services, _ = await self._store.list(InferenceService)
        decided = plan(offers, services, first=first)
        for service in decided.create:
            await self._store.create(service)
            log.info("model_added", model=service.metadata.name)
        for service in decided.update:
            await self._store.update(service)
            log.info("model_changed", model=service.metadata.name)
        for name in decided.delete:
            await self._store.delete(InferenceService, name)
            log.info("model_removed", model=name)

    async def _reconcile_or_retry(self, stop: asyncio.Event) -> None:
        """Reconcile; what fails (a lost race, a busy database) is tried again in a while."""
        while not stop.is_set():
            try:
                await self.reconcile()
            except InfernoError as error:
                log.warning("models_folder_failed", error=error.message)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _offers(self) -> list[Offer]:
        """Return what there is; a file in the folder wins over the bundled model of its name.

        An adapter that is for one of the models goes with it; another one is told why not.
        """
        bundled = self._bundled.scan() if self._bundled is not None else []
        files = {file.name: file for file in bundled}
        packaged = set(files)
        found = self._folder.scan()
        packaged -= {file.name for file in found}
        files.update({file.name: file for file in found})
        adapters = _take_adapters(files)
        folder = f"{self._folder.path.absolute().as_uri()}/"
        offers = [
            offer_of(
                file,
                options=self._options_of(name),
                pinned=self._is_pinned(name),
                preload=name in packaged,
            )
            for name, file in files.items()
        ]
        for offer in offers:
            offer.model.lora.adapters.extend(adapters.get(offer.name, ())[:MAX_ADAPTERS])
        return [replace(offer, folder=folder) for offer in offers]


def _take_adapters(files: dict[str, ModelFile]) -> dict[str, list[LoRAAdapter]]:
    """Take the LoRA adapters that fit a model out of the files; return them by their models.

    What is left of adapters says what is wrong with it.
    """
    adapters: dict[str, list[LoRAAdapter]] = {}
    for title, file in list(files.items()):
        base, plus, name = file.path.stem.partition("+")
        model = files.get(_plain(base))
        if file.adapter is None or not plus or not _plain(name) or model is None:
            continue
        if model.header is not None and model.header.architecture != file.adapter.architecture:
            wrong = (
                f"The adapter is for models of architecture '{file.adapter.architecture}', and "
                f"'{model.name}' is of '{model.header.architecture}'."
            )
            files[title] = replace(file, error=FileError("AdapterUnusable", wrong))
            continue
        del files[title]
        adapter = LoRAAdapter(
            name=_plain(name),
            uri=file.path.absolute().as_uri(),
            size_bytes=file.size_bytes,
            modified_ns=file.mtime_ns,
        )
        adapters.setdefault(model.name, []).append(adapter)
    return adapters


def _plain(name: str) -> str:
    """Return a name as models have them; empty where nothing is left of it."""
    try:
        return safe_name(name)
    except InvalidRequest:
        return ""
