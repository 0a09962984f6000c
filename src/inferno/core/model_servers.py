"""`ModelServer`: a server of models that somebody else runs, as an endpoint for our pools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from inferno.core import addresses, conditions
from inferno.core.kinds import Cause
from inferno.core.quotas import Quotas
from inferno.core.references import ObjectName, PortNumber
from inferno.core.resources import Condition, Kind, Resource

PLATFORM_GROUP = "inferno.dev"
MAX_MODELS = 256

READY = "Ready"
REACHABLE = "Reachable"

ServedModelName = Annotated[str, Meta(min_length=1, max_length=253)]


class SecretKeyReference(msgspec.Struct, rename="camel", kw_only=True):
    """One value of a Secret in the same namespace.

    Args:
        name: the Secret's name.
        key: the value's key in it.
    """

    name: ObjectName
    key: Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class ServerTLS(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """How the server is spoken to over TLS; `{}` is TLS with the system's authorities.

    Args:
        server_name: the name that its certificate has to carry; empty for the address.
        ca_bundle: PEM certificates of the authorities to trust instead of the system's.
        insecure_skip_verify: whether any certificate will do.
    """

    server_name: Annotated[str, Meta(max_length=253)] = ""
    ca_bundle: Annotated[str, Meta(max_length=262_144)] = ""
    insecure_skip_verify: bool = False


class ModelServerSpec(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Where the server is, and how to speak to it. Its labels put it into pools.

    Args:
        address: host name or IP address, without scheme, port or path.
        port: where it listens; by default the target ports of the pool that it is in.
        tls: how to speak TLS to it; without it, it is spoken to in the clear.
        api_key_secret_ref: the key to show it, as a bearer token.
        metrics: which engine's names its `/metrics` uses, `auto` to find out, `none` to leave it.
        models: the names that it answers for, LoRA adapters among them; empty to ask it.
        quota: how many requests it takes; without it, as many as it has room for.
    """

    address: Annotated[str, Meta(min_length=1, max_length=253)]
    port: PortNumber | None = None
    tls: ServerTLS | None = None
    api_key_secret_ref: SecretKeyReference | None = None
    metrics: Literal["auto", "vllm", "llamacpp", "sglang", "none"] = "auto"
    models: Annotated[list[ServedModelName], Meta(max_length=MAX_MODELS)] = []
    quota: Quotas | None = None


class ModelServerStatus(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """Observed state of a model server.

    Args:
        engine: what it turned out to run (`vllm`).
        models: the names that it answers for, as it says itself.
        conditions: `Reachable` and `Ready`.
    """

    engine: str = ""
    models: list[str] = []
    conditions: list[Condition] = []


class ModelServer(Resource, rename="camel", kw_only=True):
    """A model server outside the platform that requests can be sent to."""

    KIND: ClassVar[Kind] = Kind(PLATFORM_GROUP, "v1alpha1", "ModelServer", "modelservers")
    spec: ModelServerSpec
    status: ModelServerStatus = msgspec.field(default_factory=ModelServerStatus)

    @property
    def is_ready(self) -> bool:
        """Whether requests can be sent to it: what was observed holds for the spec as it is."""
        ready = conditions.find(self.status.conditions, READY)
        return (
            ready is not None
            and ready.status == "True"
            and ready.observed_generation == self.metadata.generation
            and self.metadata.deletion_timestamp is None
        )


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a look at a model server.

    Args:
        generation: of the spec that was used.
        reachable: whether it answered.
        reason: a CamelCase word, where it did not (`ConnectionRefused`, `Timeout`, …).
        message: for a person.
        engine: what it runs; empty where that is not known.
        models: the names that it answers for; None where it was not asked.
    """

    generation: int
    reachable: bool
    reason: str = ""
    message: str = ""
    engine: str = ""
    models: tuple[str, ...] | None = None


def observed(server: ModelServer, seen: Observation, *, now: str) -> ModelServerStatus:
    """Return the status after an observation, `Ready` left to the controller.

    An observation of a spec that has changed since says nothing of the server as it is now.
    """
    status = server.status
    if seen.generation != server.metadata.generation:
        return status
    condition = Condition(
        type=REACHABLE,
        status="True" if seen.reachable else "False",
        reason=seen.reason or ("Answered" if seen.reachable else "Unreachable"),
        message=seen.message
        or ("The server answers." if seen.reachable else "The server does not answer."),
    )
    generation = seen.generation
    return msgspec.structs.replace(
        status,
        engine=seen.engine or status.engine,
        models=status.models if seen.models is None else list(seen.models),
        conditions=conditions.settled(
            status.conditions, [condition], generation=generation, now=now
        ),
    )


def violations(spec: ModelServerSpec) -> Iterator[Cause]:
    """Find what is wrong with a spec beyond what its types say."""
    problem = addresses.problem_with(spec.address)
    if problem:
        yield Cause("spec.address", f'Invalid value: "{spec.address}": {problem}')
    if spec.tls is not None and spec.tls.server_name:
        problem = addresses.problem_with_name(spec.tls.server_name)
        if problem:
            yield Cause(
                "spec.tls.serverName", f'Invalid value: "{spec.tls.server_name}": {problem}'
            )
    seen: set[str] = set()
    for index, name in enumerate(spec.models):
        if name in seen:
            message = f'Duplicate value: "{name}"'
            yield Cause(f"spec.models[{index}]", message, "FieldValueDuplicate")
        seen.add(name)
