"""`kubectl auth can-i` and `kubectl auth whoami`: questions that are created to be answered."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from inferno.cluster.calls import Place
from inferno.cluster.permissions import may
from inferno.cluster.requests import content_type, decoded_body
from inferno.core.kinds import Verb
from inferno.core.tenancy import Principal
from inferno.web.errors import MethodNotAllowed
from inferno.web.exchange import Exchange, invalid_request


class ResourceAttributes(msgspec.Struct, rename="camel"):
    """What somebody would like to do."""

    verb: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class AccessSpec(msgspec.Struct, rename="camel"):
    """The question."""

    resource_attributes: ResourceAttributes | None = None


class AccessReview(msgspec.Struct, rename="camel"):
    """A `SelfSubjectAccessReview`."""

    spec: AccessSpec = msgspec.field(default_factory=AccessSpec)


async def review(exchange: Exchange, place: Place, principal: Principal) -> None:
    """Answer a question about the caller. Raises InvalidRequest."""
    if exchange.scope["method"] != "POST" or place.name is not None:
        raise MethodNotAllowed(exchange.scope["method"], "POST")
    given = decoded_body(await exchange.body(), content_type(exchange))
    try:
        asked = msgspec.convert(given, AccessReview)
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None
    body = _who(principal) if place.plural == "selfsubjectreviews" else _may(asked, principal)
    await exchange.respond_json(body, status=201)


def _who(principal: Principal) -> dict[str, Any]:
    groups = ["system:authenticated", f"role:{principal.role.value}", f"tenant:{principal.tenant}"]
    info = {"username": principal.username, "uid": principal.user_id, "groups": groups}
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "status": {"userInfo": info},
    }


def _may(asked: AccessReview, principal: Principal) -> dict[str, Any]:
    attributes = asked.spec.resource_attributes
    allowed = attributes is not None and _is_allowed(attributes, principal)
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": msgspec.to_builtins(asked.spec),
        "status": {"allowed": allowed},
    }


def _is_allowed(attributes: ResourceAttributes, principal: Principal) -> bool:
    verbs: tuple[Verb, ...] = get_args(Verb)
    wanted = [verb for verb in verbs if attributes.verb in (verb, "*")]
    resource = attributes.resource
    if attributes.subresource == "log":
        resource = f"{resource}/log"
    namespace = attributes.namespace or None
    return bool(wanted) and all(
        may(principal, verb, resource, namespace=namespace, name=attributes.name) for verb in wanted
    )
