"""What an entry is: the fields of seed 000's `InferenceServer`, and what the registry adds. Pure.

The registry itself keeps `registered_at`, `updated_at`, `state`, `expires_at` and `health`; nobody
else may set them. All else is its owner's, who may change everything but the id.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec

from inferno.core.errors import InvalidRequest
from inferno.core.quotas import quotas_in

Document = dict[str, Any]

ID = "inference_server_id"
NAME = "inference_server_name"
METADATA = "inference_server_metadata"
TAGS = "inference_server_tags"
URL = "inference_server_public_url"
URLS = "inference_server_urls"
TTL = "ttl_seconds"
HEALTH_CHECK = "health_check"
REGISTERED, UPDATED, STATE, EXPIRES = "registered_at", "updated_at", "state", "expires_at"
HEALTH = "health"

KEPT = (REGISTERED, UPDATED, STATE, EXPIRES, HEALTH)
"""What the registry sets."""

ACTIVE, EXPIRED = "active", "expired"
HEALTHY, UNHEALTHY, UNKNOWN = "healthy", "unhealthy", "unknown"

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_VALUES = 2000
MAX_TAGS = 256
MIN_TTL, MAX_TTL = 5, 31 * 86_400
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_INT64 = 2**63
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_PATH = re.compile(r"/[!-\[\]-~]{0,511}")
"""Printable ASCII, which is what a request can have, without a backslash."""

_SCHEMES = frozenset({"http", "https", "ws", "wss", "grpc", "grpcs"})


def text_of(moment: datetime) -> str:
    """Return a time as entries have it: RFC 3339 in UTC with milliseconds; text sorts as time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_id(text: str) -> bool:
    """Return whether a text can be an entry's id."""
    return _ID.fullmatch(text) is not None


def new_entry(given: Any, now: datetime) -> Document:
    """Return the entry that a caller registers.

    Args:
        given: the request's body.
        now: when it is registered.

    Raises:
        InvalidRequest: it is no inference server; names the field.
    """
    if not isinstance(given, dict):
        raise InvalidRequest("An inference server is a JSON object.")
    for name in KEPT:
        if name in given:
            raise InvalidRequest(f"'{name}' is set by the registry; leave it out.", field=name)
    entry: Document = {
        ID: given.get(ID) or str(uuid.uuid4()),
        NAME: "",
        METADATA: {},
        TAGS: [],
        URL: "",
        **{name: value for name, value in given.items() if name != ID},
        REGISTERED: text_of(now),
    }
    entry = refreshed({**entry, UPDATED: entry[REGISTERED]}, now)
    check(entry)
    return entry


def changed_entry(before: Mapping[str, Any], after: Document, now: datetime) -> Document:
    """Return an entry after an update, which must not touch what the registry keeps.

    Args:
        before: the entry.
        after: what the update makes of it.
        now: when.

    Returns:
        `before` itself where the update changes nothing, so that nobody has to be told.

    Raises:
        InvalidRequest: the result is no inference server; names the field.
    """
    for name in (ID, *KEPT):
        if not same(before.get(name), after.get(name)) or (name in before) != (name in after):
            whose = "cannot be changed" if name == ID else "is set by the registry"
            raise InvalidRequest(f"'{name}' {whose}.", field=name)
    if same(before, after):
        return dict(before)
    check(after)
    if before[URL] != after[URL] or not same(before.get(HEALTH_CHECK), after.get(HEALTH_CHECK)):
        after = _unexamined(after)  # what was found there says nothing of what is here
    if before.get(TTL) != after.get(TTL):
        after = refreshed(after, now)
    return {**after, UPDATED: text_of(now)}


def refreshed(entry: Document, now: datetime) -> Document:
    """Return an entry as a heartbeat leaves it: active, for as long as it asked for."""
    fresh = {name: value for name, value in entry.items() if name != EXPIRES}
    fresh[STATE] = ACTIVE
    ttl = fresh.get(TTL)
    if isinstance(ttl, int) and not isinstance(ttl, bool) and 0 < ttl <= MAX_TTL:
        fresh[EXPIRES] = text_of(now + timedelta(seconds=ttl))
    return fresh


def expired(entry: Document) -> Document:
    """Return an entry whose time is over; nobody looks at its server any more."""
    return {**_unexamined(entry), STATE: EXPIRED}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at an entry's server has shown.

    Args:
        id: of the entry.
        url: that was looked at; the entry may have another by now.
        state: healthy, unhealthy or unknown; None where nobody looks any more.
        reason: for people; empty where it is healthy.
    """

    id: str
    url: str
    state: str | None
    reason: str = ""


def examined(entry: Document, finding: Finding, now: datetime) -> Document:
    """Return an entry with what was found of its server; itself where that is known already."""
    if entry[STATE] != ACTIVE or entry[URL] != finding.url:
        return entry
    if finding.state is None:
        return _unexamined(entry)
    if entry.get(HEALTH, {}).get("state") == finding.state:
        return entry
    health = {"state": finding.state, "since": text_of(now)}
    if finding.reason:
        health["reason"] = finding.reason
    return {**entry, HEALTH: health}


def _unexamined(entry: Document) -> Document:
    return {name: value for name, value in entry.items() if name != HEALTH}


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are alike in type and order too; for Python 1 equals True."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def check(entry: Mapping[str, Any]) -> None:
    """Refuse what is no inference server.

    Raises:
        InvalidRequest: names the field.
    """
    for name in entry:
        if name not in _CHECKS and name not in KEPT:
            raise InvalidRequest(
                f"Unknown field '{name[:80]}'; what is particular to a server belongs into "
                f"{METADATA}.",
                field=name[:80],
            )
    for name in (ID, NAME, METADATA, TAGS, URL):
        if name not in entry:
            raise InvalidRequest(f"'{name}' cannot be removed.", field=name)
    for name, checked in _CHECKS.items():
        if name in entry:
            checked(name, entry[name])
    _Bounds().check(entry, "", 0)
    if len(msgspec.json.encode(entry)) > MAX_BYTES:
        raise InvalidRequest(f"The entry is larger than {MAX_BYTES} bytes.", limit_bytes=MAX_BYTES)


def _wrong(field: str, right: str) -> InvalidRequest:
    return InvalidRequest(f"'{field}' must be {right}.", field=field)


def _check_id(field: str, value: Any) -> None:
    if not isinstance(value, str) or not is_id(value):
        raise _wrong(field, "1 to 128 letters, digits and . _ ~ -, the first a letter or a digit")


def _check_name(field: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > 255 or not _is_line(value):
        raise _wrong(field, "text of at most 255 characters without control characters")
    if value != value.strip():
        raise _wrong(field, "text that neither begins nor ends with a blank")


def _check_metadata(field: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _wrong(field, "an object")
    quotas_in(value, path=field)


def _check_tags(field: str, value: Any) -> None:
    if not isinstance(value, list) or len(value) > MAX_TAGS:
        raise _wrong(field, f"a list of at most {MAX_TAGS} texts")
    for index, tag in enumerate(value):
        if not isinstance(tag, str) or len(tag) > 255:
            raise _wrong(f"{field}.{index}", "text of at most 255 characters")


def _check_url(field: str, value: Any) -> None:
    if value != "" and not _is_url(value):
        raise _wrong(
            field,
            "a URL such as https://inference.example.com, without a user or a password, or empty",
        )


def _is_url(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > 2048:
        return False
    if not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in _SCHEMES
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and parts.port != 0
        )
    except ValueError:
        return False


def same_place(url: str) -> str:
    """Return a URL as all ways of writing it have it: two of them are one server's (RFC 3986, 6.2).

    Args:
        url: that `check` has let through.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}{query}"


def _check_urls(field: str, value: Any) -> None:
    if not isinstance(value, dict) or len(value) > 32:
        raise _wrong(field, "an object of at most 32 addresses by protocol")
    for name, address in value.items():
        if not isinstance(address, str) or len(address) > 2048 or not _is_line(address):
            raise _wrong(f"{field}.{name[:80]}", "an address of at most 2048 characters")
        if "@" in address.partition("://")[2].partition("/")[0]:
            raise _wrong(f"{field}.{name[:80]}", "an address without a user or a password")


def _check_ttl(field: str, value: Any) -> None:
    right = isinstance(value, int) and not isinstance(value, bool) and MIN_TTL <= value <= MAX_TTL
    if not right:
        raise _wrong(field, f"a whole number of seconds from {MIN_TTL} to {MAX_TTL}")


def _check_health_check(field: str, value: Any) -> None:
    if not isinstance(value, dict) or not value.keys() <= {"enabled", "path"}:
        raise _wrong(field, "an object with 'enabled' or 'path'")
    if not isinstance(value.get("enabled", True), bool):
        raise _wrong(f"{field}.enabled", "true or false")
    path = value.get("path", "/")
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise _wrong(f"{field}.path", "a path such as /healthz, of at most 512 characters")


def _is_line(text: str) -> bool:
    return not any(character < " " or character == "\x7f" for character in text)


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    ID: _check_id,
    NAME: _check_name,
    METADATA: _check_metadata,
    TAGS: _check_tags,
    URL: _check_url,
    URLS: _check_urls,
    TTL: _check_ttl,
    HEALTH_CHECK: _check_health_check,
}


class _Bounds:
    """Counts the values of a document, and refuses what no database of ours can keep."""

    def __init__(self) -> None:
        self._values = 0

    def check(self, value: Any, path: str, depth: int) -> None:
        """Look at a value and all that is in it. Raises InvalidRequest."""
        if depth > MAX_DEPTH:
            raise InvalidRequest(
                f"The entry is nested more than {MAX_DEPTH} deep.", field=path[:200]
            )
        self._values += 1
        if self._values > MAX_VALUES:
            raise InvalidRequest(f"The entry has more than {MAX_VALUES} values.")
        match value:
            case dict():
                for key, child in value.items():
                    here = f"{path}.{key}" if path else key
                    _check_key(key, here)
                    self.check(child, here, depth + 1)
            case list():
                for index, child in enumerate(value):
                    self.check(child, f"{path}.{index}", depth + 1)
            case str() if not _is_storable(value):
                raise InvalidRequest(
                    f"'{path[:200]}' has a zero character or half of a surrogate pair.",
                    field=path[:200],
                )
            case int() if not -_INT64 <= value < _INT64:
                raise InvalidRequest(
                    f"'{path[:200]}' does not fit into 64 bits; write it as text.", field=path[:200]
                )
            case float() if value != value or value in (float("inf"), float("-inf")):
                raise InvalidRequest(f"'{path[:200]}' is no finite number.", field=path[:200])
            case None | str() | bool() | int() | float():
                pass
            case _:
                raise InvalidRequest(
                    f"'{path[:200]}' is no JSON value.",
                    field=path[:200],
                )


def _check_key(key: str, path: str) -> None:
    """Refuse names that would pass for operators, or that no database keeps."""
    if key.startswith("$"):
        raise InvalidRequest(
            f"Field names must not begin with $: '{path[:200]}'.", field=path[:200]
        )
    if not _is_storable(key):
        raise InvalidRequest("A field name has a zero character or half of a surrogate pair.")


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text
