"""Creating, updating, patching, applying and deleting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import msgspec

from inferno.cluster import ownership, patches
from inferno.cluster.objects import Object, addressed, decode, encode
from inferno.cluster.ownership import Writer as FieldWriter
from inferno.cluster.permissions import require_own_files, require_own_servers
from inferno.cluster.reading import Reader
from inferno.cluster.requests import Request, decoded_body
from inferno.cluster.status import (
    RESOURCE_STATE,
    AlreadyExists,
    Subject,
    UnsupportedMediaType,
    success,
)
from inferno.cluster.validation import pruned, without_nulls
from inferno.core.cluster import NAMESPACE_FINALIZER, NAMESPACE_NAME_LABEL, Namespace
from inferno.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from inferno.core.kinds import Cause, InvalidResource
from inferno.core.resources import DEFAULT_NAMESPACE, ManagedFields, ObjectMeta, Resource
from inferno.storage.base import Propagation, ResourceStore
from inferno.storage.documents import timestamp

APPLY = "application/apply-patch+yaml"
PATCHES: dict[str, Callable[[Object, Any], Any]] = {
    "application/json-patch+json": patches.json_patch,
    "application/merge-patch+json": patches.merge_patch,
    "application/strategic-merge-patch+json": patches.strategic_merge,
}
CHANGED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)
NAME_TRIES = 8
APPLY_TRIES = 5

Make = Callable[[Object], Object]
"""What a write makes of an object; called in the transaction, perhaps more than once."""


class Writer:
    """Answers everything that changes resources.

    Args:
        store: where resources are.
        reader: finds those that a collection's deletion is about.
    """

    def __init__(self, store: ResourceStore, reader: Reader) -> None:
        self._store = store
        self._reader = reader

    async def create(self, request: Request) -> None:
        """Store a new resource."""
        given = await request.body()
        metadata = given.get("metadata") if isinstance(given, dict) else None
        generated = isinstance(metadata, dict) and not metadata.get("name")
        for last in (*[False] * NAME_TRIES, True):
            try:
                made = await self._create(request, given)
                break
            except AlreadyExists:
                if not generated or last:
                    raise
        await request.answer(made, status=201)

    async def _create(self, request: Request, given: Any) -> Resource:
        served = request.served
        namespace = request.place.namespace
        wanted = addressed(given, served, namespace=namespace, name=request.place.name)
        self._name_subject(request, str(wanted["metadata"].get("name") or ""))
        metadata = {**wanted["metadata"]}
        if metadata.pop("resourceVersion", None):
            raise InvalidRequest("resourceVersion should not be set on objects to be created")
        metadata.pop("managedFields", None)
        wanted = {**wanted, "metadata": metadata}
        if served.has_status:
            wanted.pop("status", None)
        resource = self._decoded(request, wanted, None)
        writer = self._field_writer(request)
        shown = encode(served, resource)
        fields = ownership.fields_of(shown, served.schema, subresource="")
        resource.metadata.managed_fields = ownership.after_update([], {}, fields, writer)
        return await self._add(request, resource)

    async def _add(self, request: Request, resource: Resource) -> Resource:
        """Store a new resource in a namespace that is there."""
        await self._check_namespace(request)
        if isinstance(resource, Namespace):
            name = resource.metadata.name
            resource.metadata.labels[NAMESPACE_NAME_LABEL] = name
            if NAMESPACE_FINALIZER not in resource.metadata.finalizers:
                resource.metadata.finalizers.append(NAMESPACE_FINALIZER)
        try:
            return await self._store.create(resource, dry_run=request.options.dry_run)
        except Conflict as error:
            try:
                metadata = resource.metadata
                await self._store.get(request.kind, metadata.name, metadata.namespace)
            except NotFound:
                raise error from None
            raise AlreadyExists(error.message) from None

    async def _check_namespace(self, request: Request) -> None:
        """Make sure that the namespace of a new resource is there, and stays.

        A tenant has its namespace without having to ask for it.
        """
        namespace = request.place.namespace
        if namespace is None:
            return
        try:
            found = await self._store.get(Namespace, namespace)
        except NotFound:
            if namespace == request.principal.tenant and not request.options.dry_run:
                await ensure_namespace(self._store, namespace)
                return
            raise NotFound(f'namespaces "{namespace[:63]}" not found', spelt_out=True) from None
        if found.metadata.deletion_timestamp:
            raise PermissionDenied(
                f"unable to create new content in namespace {namespace} because it is being "
                "terminated"
            )

    async def update(self, request: Request) -> None:
        """Replace a resource, or its status."""
        given = await request.body()
        await request.answer(await self._rewrite(request, lambda _: given))

    async def patch(self, request: Request) -> None:
        """Change a resource, or its status, by a patch; an apply may also create it."""
        kind = request.content_type
        if kind == APPLY:
            await self._apply(request)
            return
        change = PATCHES.get(kind)
        if change is None:
            raise UnsupportedMediaType(
                f"the body of the request was in an unknown format - accepted media types include: "
                f"{', '.join([*PATCHES, APPLY])}"
            )
        given = await request.body()
        if kind != "application/json-patch+json" and not isinstance(given, dict):
            raise InvalidRequest("The patch has to be a JSON object.")
        await request.answer(
            await self._rewrite(request, lambda before: change(before, copy.deepcopy(given)))
        )

    async def scale(self, request: Request) -> None:
        """Send how many replicas are wanted and there are, after changing the first if asked."""
        method = request.exchange.scope["method"]
        if method == "GET":
            stored = await self._store.get(request.kind, request.name, request.namespace)
        else:
            given = await request.body()
            change = PATCHES.get(request.content_type) if method == "PATCH" else None
            if method == "PATCH" and change is None:
                raise UnsupportedMediaType("A scale is patched by a JSON or a merge patch.")
            stored = await self._rewrite(
                request,
                lambda now: self._rescaled(
                    request,
                    now,
                    (lambda scale: change(scale, given)) if change else lambda _: given,
                ),
            )
        await request.send(self._scale_of(request, stored))

    def _scale_of(self, request: Request, stored: Resource) -> Object:
        return scale_of(request, encode(request.served, stored), stored)

    def _rescaled(self, request: Request, now: Object, change: Callable[[Object], Any]) -> Object:
        paths = request.served.definition.scale
        assert paths is not None  # noqa: S101 - only such kinds have the subresource
        wanted = change(scale_of(request, now, None))
        spec = wanted.get("spec") if isinstance(wanted, dict) else None
        replicas = (spec or {}).get("replicas", 0) if isinstance(spec, dict | None) else None
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            shown = msgspec.json.encode(replicas).decode()[:50]
            message = f"Invalid value: {shown}: must be an integer that is 0 or more"
            raise InvalidResource([Cause("spec.replicas", message)])
        result = copy.deepcopy(now)
        metadata = wanted.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if version:
            result["metadata"]["resourceVersion"] = version
        _set(result, paths.spec_replicas, replicas)
        return result

    async def _rewrite(self, request: Request, make: Make) -> Resource:
        """Change one resource in one transaction."""
        served, subresource = request.served, request.place.subresource
        status_only = subresource == "status"

        version = ""

        def change(stored: Resource) -> None:
            nonlocal version
            version = stored.metadata.resource_version
            before = encode(served, stored)
            wanted = addressed(
                make(copy.deepcopy(before)), served, namespace=request.place.namespace,
                name=request.name,
            )  # fmt: skip
            check_versions(before["metadata"], wanted["metadata"])
            if status_only:
                wanted = {**before, "status": wanted.get("status", {})}
            elif served.has_status:
                wanted = {**wanted, "status": before.get("status", {})}
            entries = _entries(wanted["metadata"], stored)
            resource = self._decoded(request, wanted, stored)
            self._keep_guards(resource)
            # A scale's change is of the resource itself, as far as its fields go.
            of = "status" if status_only else ""
            old = ownership.fields_of(before, served.schema, subresource=of)
            new = ownership.fields_of(encode(served, resource), served.schema, subresource=of)
            writer = self._field_writer(request)
            resource.metadata.managed_fields = ownership.after_update(entries, old, new, writer)
            _take_over(stored, resource)

        made = await self._store.modify(
            request.kind, request.name, change, namespace=request.namespace, status=status_only,
            dry_run=request.options.dry_run,
        )  # fmt: skip
        return _unwritten(made, version) if request.options.dry_run else made

    async def _apply(self, request: Request) -> None:
        """Apply a configuration (server-side apply)."""
        if not request.options.text("fieldManager"):
            raise InvalidResource(
                [
                    Cause(
                        "fieldManager",
                        "Required value: is required for apply patch",
                        "FieldValueRequired",
                    )
                ]
            )
        force = request.options.flag("force")
        given = await request.body()
        configuration = addressed(
            given, request.served, namespace=request.place.namespace, name=request.name
        )
        if configuration["metadata"].get("managedFields"):
            raise InvalidRequest("metadata.managedFields must be nil")
        configuration = self._known(request, configuration)
        for _ in range(APPLY_TRIES):
            try:
                await request.answer(await self._apply_to_live(request, configuration, force=force))
                return
            except NotFound:
                if request.place.subresource:
                    raise
            try:
                made = await self._apply_anew(request, configuration)
                await request.answer(made, status=201)
                return
            except AlreadyExists:
                continue
        raise Conflict("It is created and deleted all the time; try again.")

    async def _apply_to_live(
        self, request: Request, configuration: Object, *, force: bool
    ) -> Resource:
        served, subresource = request.served, request.place.subresource

        version = ""

        def change(stored: Resource) -> None:
            nonlocal version
            version = stored.metadata.resource_version
            before = encode(served, stored)
            check_versions(before["metadata"], configuration["metadata"])
            entries = stored.metadata.managed_fields
            wanted, entries = ownership.applied(
                before, _without_others(configuration, served.has_status, subresource),
                served.schema, entries, self._field_writer(request), force=force,
            )  # fmt: skip
            resource = self._decoded(request, wanted, stored)
            self._keep_guards(resource)
            resource.metadata.managed_fields = entries
            _take_over(stored, resource)

        made = await self._store.modify(
            request.kind, request.name, change, namespace=request.namespace,
            status=subresource == "status", dry_run=request.options.dry_run,
        )  # fmt: skip
        return _unwritten(made, version) if request.options.dry_run else made

    async def _apply_anew(self, request: Request, configuration: Object) -> Resource:
        served = request.served
        if "create" not in served.definition.verbs:
            raise NotFound(f"{served.kind} '{request.name}' not found.")
        if configuration["metadata"].get("uid"):
            raise Conflict("its uid was given, and there is no such object any more")
        configuration = _without_others(configuration, served.has_status, "")
        wanted, entries = ownership.applied(
            {}, configuration, served.schema, [], self._field_writer(request), force=True
        )
        resource = self._decoded(request, wanted, None)
        resource.metadata.managed_fields = entries
        return await self._add(request, resource)

    async def delete(self, request: Request) -> None:
        """Delete one resource."""
        options = await _delete_options(request)
        stored = await self._store.get(request.kind, request.name, request.namespace)
        last = await self._delete(request, stored.metadata, options)
        if last.finalizers or request.served.definition.plural == "pods":
            await request.answer(msgspec.structs.replace(stored, metadata=last))
            return
        await request.send(success(_subject(request, request.name), last.uid))

    async def delete_collection(self, request: Request) -> None:
        """Delete all that are meant."""
        options = await _delete_options(request)
        found = await self._reader.find(request)
        for resource in found.resources:
            try:
                await self._delete(request, resource.metadata, options)
            except NotFound:
                continue
        await request.send(success(_subject(request, ""), ""))

    async def _delete(
        self, request: Request, metadata: ObjectMeta, options: DeleteOptions
    ) -> ObjectMeta:
        if request.kind is Namespace and metadata.name == DEFAULT_NAMESPACE:
            raise PermissionDenied("this namespace may not be deleted")
        return await self._store.delete(
            request.kind,
            metadata.name,
            metadata.namespace,
            propagation=options.propagation,
            precondition=options.check,
            dry_run=options.is_dry or request.options.dry_run,
        )

    def _decoded(self, request: Request, wanted: Object, stored: Resource | None) -> Resource:
        """Return the resource that an object describes, minding unknown fields."""
        unknown: list[str] = []
        resource = decode(request.served, wanted, current=stored, unknown=unknown)
        self._mind(request, unknown)
        require_own_files(request.principal, stored, resource)
        require_own_servers(request.principal, stored, resource)
        return resource

    def _known(self, request: Request, configuration: Object) -> Object:
        """Return a configuration without what is not known."""
        unknown: list[str] = []
        schema = request.served.schema
        known: Object = pruned(without_nulls(configuration, schema), schema, "", unknown)
        self._mind(request, unknown)
        return known

    def _mind(self, request: Request, unknown: list[str]) -> None:
        """Refuse unknown fields, warn of them, or let them be. Raises InvalidRequest."""
        how = request.options.validation
        words = [f'unknown field "{path[:200]}"' for path in unknown]
        if words and how == "Strict":
            served = request.served
            raise InvalidRequest(
                f'{served.kind} in version "{served.version.name}" cannot be handled as a '
                f"{served.kind}: strict decoding error: {', '.join(words[:20])}"
            )
        if how == "Warn":
            request.warnings.extend(one for one in words if one not in request.warnings)

    def _keep_guards(self, resource: Resource) -> None:
        """Keep the label that names a namespace."""
        if isinstance(resource, Namespace):
            resource.metadata.labels[NAMESPACE_NAME_LABEL] = resource.metadata.name

    def _field_writer(self, request: Request) -> FieldWriter:
        subresource = request.place.subresource
        return FieldWriter(
            manager=request.manager,
            api_version=request.served.group_version,
            subresource="" if subresource == "scale" else subresource,
            now=timestamp(),
        )

    def _name_subject(self, request: Request, name: str) -> None:
        request.exchange.scope["state"][RESOURCE_STATE] = _subject(request, name[:253])


class DeleteOptions(msgspec.Struct, frozen=True):
    """How to delete.

    Args:
        propagation: what becomes of dependents.
        uid, version: what the resource has to have; empty for anything.
        is_dry: whether nothing is to be kept.
    """

    propagation: Propagation = "Background"
    uid: str = ""
    version: str = ""
    is_dry: bool = False

    def check(self, metadata: ObjectMeta) -> None:
        """Raise Conflict where the resource is not the one that was meant."""
        if self.uid and self.uid != metadata.uid:
            raise Conflict(
                f"Precondition failed: UID in precondition: {self.uid[:64]}, UID in object meta: "
                f"{metadata.uid}"
            )
        if self.version and self.version != metadata.resource_version:
            raise Conflict(
                "Precondition failed: ResourceVersion in precondition: "
                f"{self.version[:64]}, ResourceVersion in object meta: {metadata.resource_version}"
            )


async def _delete_options(request: Request) -> DeleteOptions:
    """Return what a deletion's query and body say. Raises InvalidRequest."""
    data = await request.exchange.body()
    body = decoded_body(data, request.content_type) if data else {}
    if not isinstance(body, dict):
        raise InvalidRequest("The body of a deletion is a DeleteOptions object.")
    options = request.options
    how = options.text("propagationPolicy") or body.get("propagationPolicy")
    if how is None and str(body.get("orphanDependents", "")).lower() == "true":
        how = "Orphan"
    if how not in (None, "", "Background", "Foreground", "Orphan"):
        raise InvalidResource(
            [
                Cause(
                    "propagationPolicy",
                    f'Unsupported value: "{str(how)[:50]}": supported values: "Foreground", '
                    '"Background", "Orphan"',
                    "FieldValueNotSupported",
                )
            ]
        )
    conditions = body.get("preconditions") or {}
    if not isinstance(conditions, dict):
        raise InvalidRequest("preconditions has to be an object.")
    return DeleteOptions(
        propagation=cast("Propagation", how or "Background"),
        uid=str(conditions.get("uid") or ""),
        version=str(conditions.get("resourceVersion") or ""),
        is_dry=body.get("dryRun") == ["All"],
    )


def check_versions(current: Object, wanted: Object) -> None:
    """Raise Conflict where a write was made from another state than the current one."""
    version, uid = wanted.get("resourceVersion"), wanted.get("uid")
    if uid and uid != current.get("uid"):
        raise Conflict(
            f"Precondition failed: UID in precondition: {str(uid)[:64]}, UID in object meta: "
            f"{current.get('uid')}"
        )
    if version and version != current.get("resourceVersion"):
        raise Conflict(CHANGED)


def scale_of(request: Request, shown: Object, stored: Resource | None) -> Object:
    """Return how many replicas an object wants and has, as a `Scale`."""
    paths = request.served.definition.scale
    assert paths is not None  # noqa: S101 - only such kinds have the subresource
    metadata = shown["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Object = {"replicas": _get(shown, paths.status_replicas) or 0}
    if paths.selector is not None and stored is not None:
        status["selector"] = paths.selector(stored)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": _get(shown, paths.spec_replicas) or 0},
        "status": status,
    }


def _get(shown: Any, path: str) -> Any:
    for part in path.split("."):
        shown = shown.get(part) if isinstance(shown, dict) else None
    return shown


def _set(shown: Object, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        shown = shown.setdefault(part, {})
    shown[last] = value


def _entries(metadata: Object, stored: Resource) -> list[ManagedFields]:
    """Return who looks after what, as a write says it; `[{}]` makes a fresh start."""
    given = metadata.get("managedFields")
    if given is None:
        return stored.metadata.managed_fields
    try:
        entries = msgspec.convert(given, list[ManagedFields])
    except msgspec.ValidationError as error:
        wrong = Cause("metadata.managedFields", f"Invalid value: {error}")
        raise InvalidResource([wrong]) from None
    index = ownership.unreadable(entries)
    if index is not None:
        path = f"metadata.managedFields[{index}].fieldsV1"
        raise InvalidResource([Cause(path, "Invalid value: no set of fields, or too large a one")])
    return [entry for entry in entries if entry.manager]


def _without_others(configuration: Object, has_status: bool, subresource: str) -> Object:
    """Return the part of a configuration that is applied here: the status, or all but it."""
    if subresource == "status":
        kept = ("apiVersion", "kind", "metadata", "status")
        return {key: value for key, value in configuration.items() if key in kept}
    if has_status:
        return {key: value for key, value in configuration.items() if key != "status"}
    return configuration


def _unwritten(made: Resource, version: str) -> Resource:
    """Return what a dry run made, with the version that is still stored."""
    metadata = msgspec.structs.replace(made.metadata, resource_version=version)
    return msgspec.structs.replace(made, metadata=metadata)


def _take_over(stored: Resource, wanted: Resource) -> None:
    """Make the stored copy what is wanted; the store keeps what is its own."""
    for name in stored.__struct_fields__:
        setattr(stored, name, getattr(wanted, name))


def _subject(request: Request, name: str) -> Subject:
    definition = request.served.definition
    return Subject(definition.group, definition.kind, definition.plural, name)


async def ensure_namespace(store: ResourceStore, name: str) -> None:
    """Make a namespace where it is missing."""
    metadata = ObjectMeta(
        name=name, labels={NAMESPACE_NAME_LABEL: name}, finalizers=[NAMESPACE_FINALIZER]
    )
    try:
        await store.create(Namespace(metadata=metadata))
    except Conflict:
        return
