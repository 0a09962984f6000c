"""Which writer looks after which fields, and server-side apply. Pure.

A field is a path of steps in Kubernetes' notation: `f:spec`, `k:{"name":"a"}` for an item of a
list that is known by keys, `v:"x"` for a member of a set.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from inferno.cluster.schemas import Schema
from inferno.cluster.status import ApplyConflict
from inferno.core.kinds import Cause
from inferno.core.resources import ManagedFields

Path = tuple[str, ...]
Fields = dict[Path, Any]
"""Values by path; what has parts is there by its parts."""

MAX_DEPTH = 32
MAX_STEPS = 1_000_000
"""Of all paths of all entries together."""

_PRESENT = "present"
_NOBODYS = frozenset(
    {
        "name", "namespace", "generateName", "uid", "resourceVersion", "generation",
        "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields",
        "selfLink",
    }
)  # fmt: skip
"""Of the metadata, what no writer looks after."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, and how.

    Args:
        manager: its name.
        api_version: of what it sends.
        subresource: through which it writes; empty for the resource itself.
        now: RFC 3339.
    """

    manager: str
    api_version: str
    subresource: str
    now: str

    def is_of(self, entry: ManagedFields, operation: str) -> bool:
        """Return whether an entry speaks of this writer's own earlier writes."""
        return (
            entry.manager == self.manager
            and entry.operation == operation
            and entry.api_version == self.api_version
            and entry.subresource == self.subresource
        )


def fields_of(served: Mapping[str, Any], schema: Schema, *, subresource: str) -> Fields:
    """Return the fields of an object that writers look after.

    Args:
        served: the object.
        schema: of the whole object.
        subresource: `status` for its status alone, else everything but the status.
    """
    metadata = {k: v for k, v in served.get("metadata", {}).items() if k not in _NOBODYS}
    about = ("apiVersion", "kind", "metadata", "status")
    parts: dict[str, Any]
    if subresource == "status":
        parts = {"status": served.get("status", {})}
    else:
        parts = {"metadata": metadata, **{k: v for k, v in served.items() if k not in about}}
    known = schema["properties"]
    found: Fields = {}
    for name, value in parts.items():
        if value:
            found.update(_leaves(value, known.get(name, {}), (f"f:{name}",)))
    return found


def _leaves(value: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, _below(schema, key), (*path, f"f:{key}"))
        return
    kind = schema.get("x-kubernetes-list-type")
    if isinstance(value, list) and value and kind == "map":
        for item in value:
            step = _item_step(item, schema)
            yield (*path, step), _PRESENT
            for key, inner in item.items():
                below = _below(schema.get("items", {}), key)
                yield from _leaves(inner, below, (*path, step, f"f:{key}"))
        return
    if isinstance(value, list) and value and kind == "set":
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), item
        return
    yield path, value


def _below(schema: Schema, key: str) -> Schema:
    found = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
    return found if isinstance(found, dict) else {}


def _item_step(item: Mapping[str, Any], schema: Schema) -> str:
    keys = {key: item.get(key) for key in schema["x-kubernetes-list-map-keys"]}
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


def unreadable(entries: Iterable[ManagedFields]) -> int | None:
    """Return the first of a client's entries that is not in the notation, or is one too much.

    A path is kept for each field, so deep trees of many leaves cost far more than they look.
    """
    left = MAX_STEPS
    for index, entry in enumerate(entries):
        nodes: list[tuple[Any, int]] = [(entry.fields_v1, 1)]
        while nodes:
            node, depth = nodes.pop()
            if not isinstance(node, dict) or depth > MAX_DEPTH:
                return index
            left -= depth * len(node)
            if left < 0 or not all(map(_is_step, node)):
                return index
            nodes.extend((below, depth + 1) for below in node.values())
    return None


def _is_step(step: str) -> bool:
    tag, _, rest = step.partition(":")
    if tag == "f" or step == ".":
        return True
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        return False
    return tag == "v" or (tag == "k" and isinstance(value, dict))


def paths_of(entry: ManagedFields) -> set[Path]:
    """Return the paths that an entry lists."""
    found: set[Path] = set()
    _read(entry.fields_v1, (), found)
    return found


def _read(node: Any, path: Path, found: set[Path]) -> None:
    if not isinstance(node, dict):
        return
    steps = [step for step in node if step != "."]
    if path and (not steps or "." in node):
        found.add(path)
    for step in steps:
        _read(node[step], (*path, step), found)


def notation(paths: Iterable[Path]) -> dict[str, Any]:
    """Return paths in Kubernetes' notation."""
    root: dict[str, Any] = {}
    for path in sorted(paths, key=len):
        node = root
        for step in path[:-1]:
            if step in node and not node[step]:
                node[step]["."] = {}
            node = node.setdefault(step, {})
        node.setdefault(path[-1], {})
    return root


def after_update(
    entries: list[ManagedFields], old: Fields, new: Fields, writer: Writer
) -> list[ManagedFields]:
    """Return who looks after what once a writer has put `new` in the place of `old`."""
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    gone = old.keys() - new.keys()
    if not changed and not gone:
        return entries
    result: list[ManagedFields] = []
    own: set[Path] = set()
    for entry in entries:
        if entry.subresource != writer.subresource:
            result.append(entry)
        elif writer.is_of(entry, "Update"):
            own |= paths_of(entry)
        else:
            result.extend(_without(entry, changed | gone))
    own = (own | changed) - gone
    return [*result, _entry(own, writer, "Update")] if own else result


def _without(entry: ManagedFields, paths: set[Path]) -> list[ManagedFields]:
    """Return an entry without some paths; none where nothing is left."""
    before = paths_of(entry)
    left = before - paths
    if left == before:
        return [entry]
    return [msgspec.structs.replace(entry, fields_v1=notation(left))] if left else []


def _entry(paths: Iterable[Path], writer: Writer, operation: Any) -> ManagedFields:
    return ManagedFields(
        manager=writer.manager,
        operation=operation,
        api_version=writer.api_version,
        time=writer.now,
        fields_type="FieldsV1",
        fields_v1=notation(paths),
        subresource=writer.subresource,
    )


def applied(
    live: dict[str, Any],
    configuration: dict[str, Any],
    schema: Schema,
    entries: list[ManagedFields],
    writer: Writer,
    *,
    force: bool,
) -> tuple[dict[str, Any], list[ManagedFields]]:
    """Apply a configuration to a live object.

    Args:
        live: the object as it is; empty where there is none.
        configuration: the fields that the writer wants to look after, with their values.
        schema: of the whole object.
        entries: who looks after what.
        writer: who applies.
        force: take fields from others.

    Returns:
        The object, and who looks after what from now on.

    Raises:
        ApplyConflict: others look after some of the fields and want other values.
    """
    present = fields_of(live, schema, subresource=writer.subresource)
    wanted = fields_of(configuration, schema, subresource=writer.subresource)
    disputed = {p for p, value in wanted.items() if p in present and present[p] != value}
    others = [entry for entry in entries if not writer.is_of(entry, "Apply")]
    rivals = [e for e in others if e.subresource == writer.subresource]
    if not force:
        _refuse_conflicts(rivals, disputed, writer)
    kept: list[ManagedFields] = []
    for entry in others:
        kept.extend(_without(entry, disputed) if entry in rivals else [entry])
    mine = [entry for entry in entries if writer.is_of(entry, "Apply")]
    before = {path for entry in mine for path in paths_of(entry)}
    still = {path for entry in kept for path in paths_of(entry)}
    result = _merged(live, configuration, schema)
    # An item of a list goes before its fields: without them it could not be found.
    outer = {path[:length] for path in (*wanted, *still) for length in range(len(path))}
    gone = sorted(before - wanted.keys() - still - outer, key=len)
    if gone:
        result = copy.deepcopy(result)  # it shares parts with the live one
    for path in gone:
        _remove(result, path)
    entry = _entry(wanted, writer, "Apply")
    if result == live and len(mine) == 1 and mine[0].fields_v1 == entry.fields_v1:
        entry = mine[0]  # nothing is new, not even the time
    ordered = [entry, *kept] if wanted else kept
    if any(writer.is_of(one, "Apply") for one in entries):  # keep its place
        place = next(i for i, one in enumerate(entries) if writer.is_of(one, "Apply"))
        ordered = [*kept[:place], entry, *kept[place:]] if wanted else kept
    return result, ordered


def _refuse_conflicts(rivals: list[ManagedFields], disputed: set[Path], writer: Writer) -> None:
    causes: list[Cause] = []
    lines: list[str] = []
    for entry in rivals:
        fields = sorted(_spelt(path) for path in disputed & paths_of(entry))
        if not fields:
            continue
        who = f'"{entry.manager}"'
        if entry.operation == "Update":
            who += f" using {entry.api_version}"
        causes += [Cause(field, f"conflict with {who}") for field in fields]
        lines.append(
            f"conflict with {who}: {fields[0]}"
            if len(fields) == 1
            else f"conflicts with {who}:\n" + "\n".join(f"- {field}" for field in fields)
        )
    if causes:
        count = "1 conflict" if len(causes) == 1 else f"{len(causes)} conflicts"
        raise ApplyConflict(f"Apply failed with {count}: " + "\n".join(lines), causes)


def _spelt(path: Path) -> str:
    """Return a path as people read it: `.spec.replicas`, `.spec.containers[name="a"]`."""
    text = ""
    for step in path:
        tag, _, rest = step.partition(":")
        if tag == "f":
            text += f".{rest}"
        elif tag == "k":
            keys = json.loads(rest)
            text += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in keys.items()) + "]"
        else:
            text += f"[={rest}]"
    return text


def _merged(live: Any, wanted: Any, schema: Schema) -> Any:
    """Return the live value with everything that is wanted in it."""
    if isinstance(wanted, dict):
        result = copy.copy(live) if isinstance(live, dict) else {}
        for key, value in wanted.items():
            result[key] = _merged(result.get(key), value, _below(schema, key))
        return result
    kind = schema.get("x-kubernetes-list-type")
    present = live if isinstance(live, list) else []
    if isinstance(wanted, list) and kind == "map":
        items = {_item_step(item, schema): item for item in present}
        for item in wanted:
            step = _item_step(item, schema)
            items[step] = _merged(items.get(step), item, schema.get("items", {}))
        return list(items.values())
    if isinstance(wanted, list) and kind == "set":
        known = {json.dumps(item) for item in present}
        return [*present, *(item for item in wanted if json.dumps(item) not in known)]
    return wanted


def _remove(value: Any, path: Path) -> None:
    """Remove a field from an object; absent ones are fine."""
    for step in path[:-1]:
        tag, _, rest = step.partition(":")
        if tag == "f" and isinstance(value, dict) and rest in value:
            value = value[rest]
        elif tag == "k" and isinstance(value, list):
            index = _index(value, json.loads(rest))
            if index is None:
                return
            value = value[index]
        else:
            return
    tag, _, rest = path[-1].partition(":")
    if tag == "f" and isinstance(value, dict):
        value.pop(rest, None)
    elif tag == "k" and isinstance(value, list):
        index = _index(value, json.loads(rest))
        if index is not None:
            del value[index]
    elif tag == "v" and isinstance(value, list) and json.loads(rest) in value:
        value.remove(json.loads(rest))


def _index(items: list[Any], keys: Mapping[str, Any]) -> int | None:
    for index, item in enumerate(items):
        if isinstance(item, dict) and all(item.get(k) == v for k, v in keys.items()):
            return index
    return None
