"""Patches: what an object becomes. JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge.

Server-side apply is in `ownership`.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from inferno.core.errors import InvalidRequest
from inferno.core.kinds import Cause, InvalidResource

MAX_OPERATIONS = 1000
MAX_OBJECT_BYTES = 3 * 1024 * 1024
MAX_COPIED_BYTES = 8 * MAX_OBJECT_BYTES
"""What objects may weigh together after each of a patch's copies."""

MERGE_KEYS = {
    "ownerReferences": "uid",
    "conditions": "type",
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "tolerations": "",
}
"""By what the items of a list are known in a strategic merge, by the list's name."""

MERGED_SETS = frozenset({"finalizers"})
"""Lists of plain values that a strategic merge adds to."""


def json_patch(current: dict[str, Any], operations: Any) -> Any:
    """Return an object after the operations of a JSON patch.

    Raises:
        InvalidRequest: it is not a JSON patch.
        InvalidResource: an operation cannot be done, or a test fails.
    """
    import jsonpatch

    if not isinstance(operations, list):
        raise InvalidRequest("A JSON patch is a list of operations.")
    if len(operations) > MAX_OPERATIONS:
        raise InvalidRequest(f"A JSON patch has at most {MAX_OPERATIONS} operations.")
    result: Any = copy.deepcopy(current)
    index = copied = 0
    try:
        for index, operation in enumerate(operations):  # noqa: B007 - errors name it
            result = jsonpatch.JsonPatch([operation]).apply(result, in_place=True)
            # Copies of copies double in size, from a patch of a few lines; and each takes time.
            if operation.get("op") == "copy":
                copied += check_size(result)
                if copied > MAX_COPIED_BYTES:
                    raise InvalidRequest("The JSON patch copies too much.")
    except jsonpatch.InvalidJsonPatch as error:
        raise InvalidRequest(f"Operation {index} of the JSON patch is malformed: {error}") from None
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        why = str(error)[:200] or type(error).__name__
        raise InvalidResource(
            [Cause("patch", f"Invalid value: operation {index} cannot be applied: {why}")]
        ) from None
    except (TypeError, AttributeError, ValueError, KeyError):
        raise InvalidRequest(f"Operation {index} of the JSON patch is malformed.") from None
    return result


def check_size(value: Any) -> int:
    """Return the size of an object in bytes. Raises InvalidRequest where it is too large."""
    try:
        size = len(msgspec.json.encode(value))
    except RecursionError:
        raise InvalidRequest("The patched object is nested too deeply.") from None
    if size > MAX_OBJECT_BYTES:
        raise InvalidRequest(f"The patched object is larger than {MAX_OBJECT_BYTES} bytes.")
    return size


def merge_patch(current: Any, patch: Any) -> Any:
    """Return an object after a merge patch: null removes, lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    result = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge(current: Any, patch: Any, name: str = "") -> Any:
    """Return an object after a strategic merge patch.

    Args:
        current: the object, or a part of it.
        patch: the same part of the patch.
        name: of the field that the part is in.

    Raises:
        InvalidRequest: a directive is not understood.
    """
    if isinstance(patch, dict):
        return _merge_map(current, patch)
    if isinstance(patch, list):
        return _merge_list(current, patch, name)
    return patch


def _merge_map(current: Any, patch: dict[str, Any]) -> Any:
    directive = patch.get("$patch", "merge")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive != "merge":
        raise InvalidRequest(f"$patch is merge, replace or delete, not {str(directive)[:50]!r}.")
    result = dict(current) if isinstance(current, dict) else {}
    kept = patch.get("$retainKeys")
    if isinstance(kept, list):
        names = {key for key in kept if isinstance(key, str)}
        result = {key: value for key, value in result.items() if key in names}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            _delete_from(result, key.partition("/")[2], value)
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = strategic_merge(result.get(key), value, key)
    for key, value in patch.items():
        if key.startswith("$setElementOrder/") and isinstance(value, list):
            _reorder(result, key.partition("/")[2], value)
    return result


def _delete_from(result: dict[str, Any], name: str, gone: Any) -> None:
    if isinstance(gone, list) and isinstance(result.get(name), list):
        known = {msgspec.json.encode(item) for item in gone}
        result[name] = [item for item in result[name] if msgspec.json.encode(item) not in known]


def _merge_list(current: Any, patch: list[Any], name: str) -> list[Any]:
    present = list(current) if isinstance(current, list) else []
    if name in MERGED_SETS:
        known = {msgspec.json.encode(item) for item in present}
        return present + [item for item in patch if msgspec.json.encode(item) not in known]
    key = MERGE_KEYS.get(name)
    if not key or not all(isinstance(item, dict) for item in [*present, *patch]):
        return patch
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    merged = {_identity(item, key): item for item in present}
    for item in patch:
        identity = _identity(item, key)
        if item.get("$patch") == "delete":
            merged.pop(identity, None)
        else:
            merged[identity] = _merge_map(merged.get(identity), item)
    return list(merged.values())


def _identity(item: dict[str, Any], key: str) -> str:
    if key not in item:
        raise InvalidRequest(f"An item of a list that is merged by '{key}' has no such field.")
    return str(item[key])


def _reorder(result: dict[str, Any], name: str, order: list[Any]) -> None:
    """Put items into the order that the patch states; others keep their places behind."""
    items, key = result.get(name), MERGE_KEYS.get(name, "")
    if not isinstance(items, list):
        return
    wanted = [str(one.get(key)) if isinstance(one, dict) else str(one) for one in order]
    places = {identity: index for index, identity in enumerate(wanted)}

    def place(item: Any) -> int:
        identity = str(item.get(key)) if isinstance(item, dict) else str(item)
        return places.get(identity, len(places))

    result[name] = sorted(items, key=place)
