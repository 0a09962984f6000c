"""Who may do what with which kind in which namespace. Pure.

A namespace belongs to the tenant of the same name. Callers who may manage users (admins) may do
everything everywhere; others work in their own tenant's namespace only, with the permissions that
they have in the inference API: `read_models` reads, `write_models` writes and reads secrets' names
and logs, `delete_models` deletes. What the platform observes, and where it connects to, is for
admins to write.
"""

from __future__ import annotations

from inferno.core.errors import PermissionDenied
from inferno.core.inference_pools import InferencePool
from inferno.core.kinds import READING, Verb
from inferno.core.registry_queries import ANNOTATIONS
from inferno.core.resources import InferenceService, PredictorModel, Resource
from inferno.core.tenancy import Permission, Principal

NEEDED: dict[str, Permission] = {
    "get": Permission.READ_MODELS,
    "list": Permission.READ_MODELS,
    "watch": Permission.READ_MODELS,
    "create": Permission.WRITE_MODELS,
    "update": Permission.WRITE_MODELS,
    "patch": Permission.WRITE_MODELS,
    "delete": Permission.DELETE_MODELS,
    "deletecollection": Permission.DELETE_MODELS,
}
READABLE_BY_ALL = frozenset({"nodes"})
"""Kinds without a namespace that everybody may read who may read models."""
GUARDED = frozenset({"secrets", "pods/log"})
"""What only those may read who may write."""


OPERATED = frozenset({"modelservers", "pods"})
"""What only admins may write: it says to which addresses the platform connects."""


def is_admin(principal: Principal) -> bool:
    """Return whether a caller may do everything in every namespace."""
    return Permission.MANAGE_USERS in principal.permissions


def may(
    principal: Principal, verb: Verb, resource: str, *, namespace: str | None, name: str = ""
) -> bool:
    """Return whether a caller may do something.

    Args:
        principal: who.
        verb: what.
        resource: with what: a plural, or `plural/subresource`.
        namespace: in which; None for all of them, or for a kind that lives in none.
        name: of the one that it is about; empty for many.
    """
    if is_admin(principal):
        return True
    plural, _, part = resource.partition("/")
    guarded = plural in GUARDED or resource in GUARDED
    needed = Permission.WRITE_MODELS if guarded else NEEDED[verb]
    if needed not in principal.permissions:
        return False
    if verb not in READING and (plural in OPERATED or part == "status"):
        return False
    if plural == "namespaces":
        # Watching and listing show those alone that are the caller's.
        return verb in ("list", "watch") or (verb == "get" and name == principal.tenant)
    if plural in READABLE_BY_ALL:
        return verb in ("get", "list", "watch")
    return namespace == principal.tenant


def sees(principal: Principal, plural: str, name: str) -> bool:
    """Return whether a resource of a kind that lives in no namespace shows in lists."""
    return plural != "namespaces" or is_admin(principal) or name == principal.tenant


def require_own_files(principal: Principal, current: Resource | None, wanted: Resource) -> None:
    """Refuse to have a file of this machine opened for somebody who may not name files.

    Raises:
        PermissionDenied: a caller other than an admin names another model file than before.
    """
    if not isinstance(wanted, InferenceService) or is_admin(principal):
        return
    before = current.spec.predictor.model if current is not None else PredictorModel()
    model = wanted.spec.predictor.model
    known = {adapter.uri for adapter in before.lora.adapters}
    field = ""
    if model.storage_uri != before.storage_uri:
        field = "storageUri"
    elif any(adapter.uri not in known for adapter in model.lora.adapters):
        field = "lora.adapters"
    if field:
        raise PermissionDenied(
            f'User "{principal.username}" cannot set spec.predictor.model.{field}: only admins '
            "name files of this machine"
        )


def require_own_servers(principal: Principal, current: Resource | None, wanted: Resource) -> None:
    """Refuse to let somebody say which of the registry's servers get prompts, who may not.

    Raises:
        PermissionDenied: a caller other than an admin changes what a pool asks of the registry.
    """
    if not isinstance(wanted, InferencePool) or is_admin(principal):
        return
    before = current.metadata.annotations if current is not None else {}
    for name in ANNOTATIONS:
        if wanted.metadata.annotations.get(name) != before.get(name):
            raise PermissionDenied(
                f'User "{principal.username}" cannot set the annotation {name}: only admins say '
                "which servers of the registry get requests"
            )


def require(
    principal: Principal,
    verb: Verb,
    group: str,
    resource: str,
    *,
    namespace: str | None,
    name: str = "",
) -> None:
    """Refuse what a caller may not do, before anything is looked up. Raises PermissionDenied."""
    if may(principal, verb, resource, namespace=namespace, name=name):
        return
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    raise PermissionDenied(
        f'User "{principal.username}" cannot {verb} resource "{resource}" in API group '
        f'"{group}"{where}',
        permission=NEEDED[verb].value,
    )
