"""Calls as values: what to send, and how to read what comes back.

Everything that the client can ask is a function that returns a `Call`; it does no I/O. The two
clients turn such functions into methods: one blocks, the other is awaited.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from inferno.client.errors import UnexpectedAnswer

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request.

    Args:
        method: HTTP method.
        path: with its query.
        read: turns the body of the answer into the result; raises UnexpectedAnswer.
        body: to send.
        headers: beyond those of every request.
        repeatable: whether it may be sent again although the platform may have begun with it.
        answers: error statuses that are answers.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    answers: frozenset[int] = field(default=frozenset())


def reader(kind: type[T]) -> Callable[[bytes], T]:
    """Return a function that reads an answer as a type; fields it does not know are left out."""
    decoder = msgspec.json.Decoder(kind)

    def read(body: bytes) -> T:
        try:
            return decoder.decode(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            named = getattr(kind, "__name__", "JSON value")
            raise UnexpectedAnswer(f"The answer is not a {named}: {error}") from None

    return read


def member(name: str, kind: type[T]) -> Callable[[bytes], T]:
    """Return a function that reads the one member of an answer that matters."""
    wrapper: Any = msgspec.defstruct(f"{name}_answer", [(name, kind)])
    read_wrapper = reader(wrapper)

    def read(body: bytes) -> T:
        found: T = getattr(read_wrapper(body), name)
        return found

    return read


def get(path: str, read: Callable[[bytes], T]) -> Call[T]:
    """Return a call that changes nothing."""
    return Call(method="GET", path=path, read=read)


def post(
    path: str,
    read: Callable[[bytes], T],
    body: Any = None,
    *,
    method: str = "POST",
    repeatable: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Call[T]:
    """Return a call with a JSON body; None sends no body."""
    content = None if body is None else msgspec.json.encode(body)
    said = {**({} if content is None else JSON), **(headers or {})}
    return Call(
        method=method, path=path, read=read, body=content, headers=said, repeatable=repeatable
    )


def delete(path: str, read: Callable[[bytes], T]) -> Call[T]:
    """Return a call that takes something away; sent again it finds nothing, which is told."""
    return Call(method="DELETE", path=path, read=read, repeatable=False)


def as_method_of(build: Callable[..., Any]) -> Callable[[F], F]:
    """Return a decorator that gives a method the name, documentation and parameters of a function.

    Args:
        build: describes a call; the method makes it.
    """

    def dress(method: F) -> F:
        functools.update_wrapper(method, build)
        signature = inspect.signature(build)
        client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        result = str(signature.return_annotation)
        result = result[len("Call[") : -1] if result.startswith("Call[") else result
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[client, *signature.parameters.values()],
            return_annotation=result.replace("StreamCall[", "Stream["),
        )
        return method

    return dress


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None: what is not given, the platform decides."""
    return {name: value for name, value in fields.items() if value is not None}


def segment(name: str) -> str:
    """Return a name or id as one segment of a path."""
    if not name or name in (".", ".."):
        raise ValueError(f"{name!r} names nothing.")
    return quote(name, safe="")


def query(**parameters: str | int | bool | None) -> str:
    """Return what is given as the query of a URL, `?` included; empty where nothing is."""
    said = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in given(**parameters).items()
    }
    return f"?{urlencode(said)}" if said else ""
