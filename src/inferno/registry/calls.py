"""What a request asks for: its path, its options, its body. Pure.

A query is a filter, as seed 000 has it, or an object of options, the filter among them. Options may
stand in the URL too: `?limit=20&sort={"registered_at":-1}`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Set
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from inferno.core.documents.projections import Projection, parse_projection
from inferno.core.documents.sorting import Sort, parse_sort
from inferno.core.documents.tree import Filter
from inferno.core.documents.updates import parse_update
from inferno.core.errors import InvalidRequest
from inferno.registry.catalog import Change
from inferno.registry.finding import MAX_LIMIT, MAX_SORTED, Query, parse, searching

ENTRY, ENTRIES = "/inference_server", "/inference_servers"
WATCH = f"{ENTRIES}/watch"
FILTER = "filter"
OPTIONS = frozenset(
    {FILTER, "projection", "sort", "skip", "limit", "count", "cursor", "search", "mine"}
)
WATCHING = frozenset({FILTER, "since"})
CHANGE = frozenset({"update", "arrayFilters", FILTER})
MAX_SKIP = 1_000_000
_CURSOR = "after:"
_decoder = msgspec.json.Decoder()


def entry_path(path: str) -> tuple[str, str] | None:
    """Return the id and what comes behind it, of a path below `/inference_server/`."""
    rest = path.removeprefix(f"{ENTRY}/")
    id_, _, action = rest.partition("/")
    return (id_, action) if rest != path and id_ else None


def decode(text: bytes, option: str = "") -> Any:
    """Return the value of a JSON text.

    Args:
        text: of the request's body, or of an option in the URL.
        option: its name.

    Raises:
        InvalidRequest: it is none; names the option.
    """
    what = f"'{option}'" if option else "The request body"
    details = {"field": option} if option else {}
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise InvalidRequest(f"{what} is nested too deeply.", **details) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{what} is not valid JSON: {error}.", **details) from None


def watch_of(query: bytes, last: str) -> tuple[Filter, int | None]:
    """Return which changes a request asks for, and after which of them.

    Args:
        query: of the URL: `filter` and `since`.
        last: the `Last-Event-ID` of a client that comes back.

    Raises:
        InvalidRequest: names the parameter, or the operator and the path in the filter.
    """
    options = url_options(query, known=WATCHING)
    since = options.get("since")
    if since is None and last.isdigit() and len(last) <= 18:
        since = int(last)
    known = None if since is None else _number({"since": since}, "since", 0, 2**53)
    return parse(options.get(FILTER)), known


def url_options(query: bytes, *, known: Set[str] = OPTIONS) -> dict[str, Any]:
    """Return the options in a URL. Raises InvalidRequest."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise InvalidRequest("The URL has too many parameters.") from None
    options: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known:
            listed = ", ".join(sorted(known))
            raise InvalidRequest(
                f"Unknown parameter '{name[:50]}'; there are {listed}.", field=name[:50]
            )
        if name in options:
            raise InvalidRequest(f"'{name}' is given twice.", field=name)
        options[name] = text if name in ("cursor", "search") else decode(text.encode(), name)
    return options


def query_of(url: bytes, body: bytes, *, owner: str | None) -> Query:
    """Return the query of a request.

    Args:
        url: its query string.
        body: a filter, options with a filter, null or nothing.
        owner: who is asking, for `mine`.

    Raises:
        InvalidRequest: names the option, or the operator and the path in the filter.
    """
    given: Any = decode(body) if body.strip() else None
    options: dict[str, Any] = dict(given) if _is_options(given) else {FILTER: given}
    for name, value in url_options(url).items():
        if options.get(name) is not None:
            raise InvalidRequest(f"'{name}' is in the URL and in the body.", field=name)
        options[name] = value
    return _query(options, owner)


def _is_options(body: Any) -> bool:
    """Tell options from a filter: no entry has a field that is called like an option.

    Raises:
        InvalidRequest: there is a filter, and beside it what is no option.
    """
    if not isinstance(body, dict) or not body:
        return False
    unknown = [name for name in body if name not in OPTIONS]
    if unknown and FILTER in body:
        raise InvalidRequest(
            f"'{unknown[0][:50]}' beside 'filter' is no option; there are "
            f"{', '.join(sorted(OPTIONS))}.",
            field=unknown[0][:50],
        )
    return not unknown


def _query(options: Mapping[str, Any], owner: str | None) -> Query:
    filter_ = parse(options.get(FILTER))
    words = options.get("search")
    if words is not None:
        if not isinstance(words, str):
            raise InvalidRequest("'search' must be text.", field="search")
        filter_ = searching(filter_, words)
    sort = _sort(options.get("sort"))
    skip = _number(options, "skip", 0, MAX_SKIP)
    limit = _number(options, "limit", MAX_LIMIT, MAX_LIMIT)
    after = _after(options.get("cursor"))
    if sort.fields and after:
        raise InvalidRequest(
            "A cursor goes on in the order of registration; with 'sort' use 'skip'.", field="cursor"
        )
    if sort.fields and skip + limit > MAX_SORTED:
        raise InvalidRequest(
            f"With 'sort', 'skip' and 'limit' may be {MAX_SORTED} together.", field="skip"
        )
    mine = _flag(options, "mine")
    if mine and owner is None:
        raise InvalidRequest("'mine' needs credentials.", field="mine")
    return Query(
        filter=filter_,
        projection=_projection(options.get("projection")),
        sort=sort,
        skip=skip,
        limit=limit,
        count=_flag(options, "count"),
        after=after,
        owner=owner if mine else None,
    )


def change_of(body: bytes) -> Change:
    """Return the change that a request asks for.

    Args:
        body: an update, or an object with `update` and `arrayFilters` or `filter`.

    Raises:
        InvalidRequest: it is malformed; names the operator.
    """
    if not body.strip():
        raise InvalidRequest('The request body is empty; send an update such as {"$set": {…}}.')
    given = decode(body)
    if isinstance(given, dict) and "update" in given and set(given) <= CHANGE:
        condition = parse(given[FILTER]) if given.get(FILTER) is not None else None
        update = parse_update(given["update"], given.get("arrayFilters"))
        return Change(update, condition, size=len(body))
    return Change(parse_update(given), size=len(body))


def cursor_of(seq: int) -> str:
    """Return what a caller goes on with behind an entry."""
    return base64.urlsafe_b64encode(f"{_CURSOR}{seq}".encode()).decode().rstrip("=")


def _after(cursor: Any) -> int:
    if cursor is None or cursor == "":
        return 0
    wrong = InvalidRequest("The cursor is none that was given out here.", field="cursor")
    if not isinstance(cursor, str) or len(cursor) > 64 or not cursor.isascii():
        raise wrong
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise wrong from None
    number = text.removeprefix(_CURSOR)
    if number == text or not number.isdigit() or len(number) > 18:
        raise wrong
    return int(number)


def _sort(value: Any) -> Sort:
    try:
        return parse_sort(value)
    except InvalidRequest as error:
        raise InvalidRequest(f"sort: {error.message}", field="sort") from None


def _projection(value: Any) -> Projection:
    try:
        return parse_projection(value)
    except InvalidRequest as error:
        raise InvalidRequest(f"projection: {error.message}", field="projection") from None


def _number(options: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise InvalidRequest(f"'{name}' must be a whole number from 0 to {most}.", field=name)
    return value


def _flag(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{name}' must be true or false.", field=name)
    return value
