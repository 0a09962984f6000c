"""Resources: desired state and observed state, in the shape that Kubernetes gives them.

A resource has metadata, a spec (what somebody wants) and a status (what a controller saw).
Every way of getting a model served writes an `InferenceService`; its replicas are `Pod`s.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

DEFAULT_NAMESPACE = "default"


class Kind(msgspec.Struct, frozen=True):
    """Names one resource type.

    Args:
        group: API group (`serving.kserve.io`); empty for the core group.
        version: API version in the group (`v1beta1`).
        kind: singular CamelCase name.
        plural: lower-case plural, as in URLs.
    """

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """`group/version`, or `version` alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


class OwnerReference(msgspec.Struct, rename="camel", kw_only=True):
    """Points at the resource that a dependent goes away with.

    Args:
        controller: whether the owner is the controller that looks after the dependent.
        block_owner_deletion: whether the owner, deleted in the foreground, waits for this one.
    """

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = True
    block_owner_deletion: bool = False


class ManagedFields(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Which fields of a resource one of its writers looks after, as server-side apply sees it.

    Args:
        manager: the writer.
        operation: how it wrote them.
        api_version: in whose shape the fields are named.
        time: of its last write, RFC 3339.
        fields_type: always `FieldsV1`.
        fields_v1: the set of fields, in Kubernetes' notation.
        subresource: through which it wrote; empty for the resource itself.
    """

    manager: str = ""
    operation: Literal["Apply", "Update"] = "Update"
    api_version: str = ""
    time: str = ""
    fields_type: str = ""
    fields_v1: dict[str, Any] = msgspec.field(name="fieldsV1", default_factory=dict)
    subresource: str = ""


class ObjectMeta(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What every resource carries. The store fills uid, version, generation and timestamps."""

    name: str
    generate_name: str = ""
    namespace: str = DEFAULT_NAMESPACE
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    finalizers: list[str] = []
    managed_fields: list[ManagedFields] = []


class Condition(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """One observed fact about a resource, with its reason."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class Resource(msgspec.Struct, rename="camel", kw_only=True):
    """Base of all resources; subclasses add `spec` and `status` and set `KIND`."""

    KIND: ClassVar[Kind]
    metadata: ObjectMeta
    spec: Any
    status: Any


DEFAULT_CONTEXT_SIZE = 2048
DEFAULT_BATCH_SIZE = 512
DEFAULT_PARALLEL = 4
"""What `EngineOptions` mean where neither a setting nor a load call says anything."""


class EngineOptions(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True, frozen=True):
    """How an engine runs a model; None means the platform's default.

    Args:
        gpu_layers: layers offloaded to a GPU; -1 for all that fit.
        context_size: tokens that one request can hold.
        batch_size: tokens evaluated in one step of prompt processing.
        parallel: requests generated at once (slots).
        threads: CPU threads of the engine.
    """

    gpu_layers: int | None = None
    context_size: int | None = None
    batch_size: int | None = None
    parallel: int | None = None
    threads: int | None = None


class ModelFormat(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The model's file format, in KServe's terms."""

    name: str = "gguf"


class ModelInfo(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What the model's file says of itself; written by whoever put the model up.

    Args:
        display_name: the name for people (`Llama 2 7B`).
        size_bytes: of all its files.
        context_length: tokens that the model was trained for.
        vocabulary_size: tokens that it knows.
        problem_reason, problem: why the file cannot be served, as a word and as a sentence; empty
            where it can.
        cache_bytes_per_token: memory that a token of context takes, at most.
        modified_ns: when the file was last changed, in nanoseconds since the epoch: a file that
            is replaced is another model, and its replicas are replaced too.
    """

    display_name: str = ""
    architecture: str = ""
    quantization: str = ""
    license: str = ""
    size_bytes: int = 0
    parameters: int = 0
    context_length: int = 0
    embedding_length: int = 0
    vocabulary_size: int = 0
    problem_reason: str = ""
    problem: str = ""
    cache_bytes_per_token: int = 0
    modified_ns: int = 0
    capabilities: list[str] = []


MAX_ADAPTERS = 64
"""LoRA adapters of one model."""


class LoRAAdapter(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A LoRA adapter that is served beside its model.

    Args:
        name: what clients ask for.
        uri: its file (`file:///…`).
        size_bytes: of the file; 0 where nobody looked.
        modified_ns: when the file was last changed, as in `ModelInfo`.
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    uri: str
    size_bytes: int = 0
    modified_ns: int = 0


class LoRA(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """LoRA adapters of a model, in the shape of KServe's `LLMInferenceService`."""

    adapters: Annotated[list[LoRAAdapter], Meta(max_length=MAX_ADAPTERS)] = []


class PredictorModel(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What to serve: format, file (`file:///…`), how the engine runs it, what the file says.

    Args:
        lora: adapters that are loaded with the model; each is a model of its own to clients.
    """

    model_format: ModelFormat = msgspec.field(default_factory=ModelFormat)
    storage_uri: str = ""
    options: EngineOptions = EngineOptions()
    info: ModelInfo = msgspec.field(default_factory=ModelInfo)
    lora: LoRA = msgspec.field(default_factory=LoRA)

    @property
    def adapters(self) -> list[str]:
        """The names of its LoRA adapters."""
        return [adapter.name for adapter in self.lora.adapters]

    @property
    def cache_bytes(self) -> int:
        """Memory that one replica sets aside for contexts, in bytes, at most.

        Without a setting a context is never longer than what the model was trained for.
        """
        trained = self.info.context_length or DEFAULT_CONTEXT_SIZE
        context = self.options.context_size or min(DEFAULT_CONTEXT_SIZE, trained)
        return (
            self.info.cache_bytes_per_token * context * (self.options.parallel or DEFAULT_PARALLEL)
        )

    @property
    def template(self) -> tuple[Any, ...]:
        """What a replica is made from: two models with equal templates need no new replica.

        Of what the file says of itself, only what tells it from a file that was there before.
        """
        file = (self.storage_uri, self.info.size_bytes, self.info.modified_ns)
        adapters = [(a.name, a.uri, a.size_bytes, a.modified_ns) for a in self.lora.adapters]
        return (self.model_format.name, *file, self.options, *adapters)


class Predictor(msgspec.Struct, rename="camel", kw_only=True):
    """How many replicas of which model.

    `replicas` is the number wanted now: load, unload, loading on demand and scaling write it,
    between `min_replicas` and `max_replicas`.
    """

    min_replicas: int = 0
    max_replicas: int = 1
    replicas: int = 0
    model: PredictorModel = msgspec.field(default_factory=PredictorModel)


class InferenceServiceSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Desired state of a served model. `pinned` keeps it from being evicted when idle."""

    predictor: Predictor = msgspec.field(default_factory=Predictor)
    pinned: bool = False


ServiceState = Literal["Unloaded", "Pending", "Starting", "Ready", "Draining", "Failed"]


class InferenceServiceStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state of a served model; measured figures come from its replicas."""

    state: ServiceState = "Unloaded"
    reason: str = ""
    message: str = ""
    ready_replicas: int = 0
    observed_generation: int = 0
    conditions: list[Condition] = []


class InferenceService(Resource, rename="camel", kw_only=True):
    """A model that the platform serves (KServe's `InferenceService`, reduced to what we need)."""

    KIND: ClassVar[Kind] = Kind(
        "serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"
    )
    spec: InferenceServiceSpec = msgspec.field(default_factory=InferenceServiceSpec)
    status: InferenceServiceStatus = msgspec.field(default_factory=InferenceServiceStatus)


class PodSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """One replica to run.

    Args:
        service: name of the InferenceService it belongs to.
        engine: which engine runs it (`llama_cpp`).
        model: what the engine serves.
        template_hash: identifies the service's template that this pod was made from.
    """

    service: str
    engine: str
    model: PredictorModel
    template_hash: str = ""


PodPhase = Literal["Pending", "Starting", "Ready", "Draining", "Failed"]


class PodStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What the runtime saw of a replica.

    Args:
        phase: where it is in its life.
        reason: CamelCase word for programs, set when failed or restarting.
        message: for a person.
        restarts: how often its process was started again.
        host, port: where it listens; port 0 when it does not.
        pid: process id on the local runtime; 0 when none runs.
        started_at, ready_at: RFC 3339.
        load_time_ms: measured from process start to ready, in milliseconds.
        memory_bytes: measured resident memory of the process once ready, in bytes.
        context_size: tokens one request can hold, as the engine reports it.
        parallel: slots, as the engine reports them.
        capabilities: what the engine can do with the model (`tools`, `infill`, …).
        adapters: LoRA adapters that it has, in the order of the engine's numbers.
        adapter_problems: why it lacks others that it should have, by their names.
    """

    phase: PodPhase = "Pending"
    reason: str = ""
    message: str = ""
    restarts: int = 0
    host: str = ""
    port: int = 0
    pid: int = 0
    started_at: str = ""
    ready_at: str = ""
    load_time_ms: int = 0
    memory_bytes: int = 0
    context_size: int = 0
    parallel: int = 0
    capabilities: list[str] = []
    adapters: list[str] = []
    adapter_problems: dict[str, str] = {}


class Pod(Resource, rename="camel", kw_only=True):
    """A replica: one process (or pod) that serves one model."""

    KIND: ClassVar[Kind] = Kind("", "v1", "Pod", "pods")
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)


SERVICE_LABEL = "inferno.dev/service"
"""Label on pods that names the InferenceService they belong to."""

LOAD_REQUESTED_ANNOTATION = "inferno.dev/load-requested-at"
"""Annotation on services, copied to their pods: when somebody last asked for the model.

A replica that failed is tried again only for a later request.
"""

SUSPECTED_ANNOTATION = "inferno.dev/suspected-at"
"""Annotation on pods: when a stream of theirs last fell silent for too long, RFC 3339.

The runtime finds out whether the replica still works, and starts it again if it does not.
"""

RUNTIME_FINALIZER = "inferno.dev/runtime"
"""Finalizer on pods: the runtime takes it off once the replica has drained and is gone."""
