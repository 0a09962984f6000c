"""Metrics of HTTP requests by operation and status, and of what was refused at the door."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from starlette.types import Scope

from inferno.telemetry.metrics import OTHER, Family, Measured

REQUESTS = Family(
    "inferno_http_requests_total",
    "counter",
    "HTTP requests that were answered; status 0 where the client left before.",
    ("api", "operation", "method", "status"),
)
REFUSED = Family(
    "inferno_requests_refused_total",
    "counter",
    "Requests that were refused: by a limit's name, or for authentication or permission.",
    ("reason",),
)

FAMILIES = (REQUESTS, REFUSED)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics:
    """Counts requests. Labels are of our own tables, so callers cannot make new series."""

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str, str, int], int] = {}
        self._refused: dict[str, int] = {}

    def refused(self, reason: str) -> None:
        """Count a request that was refused."""
        self._refused[reason] = self._refused.get(reason, 0) + 1

    def answering(self, api: str) -> Callable[[Scope, int, float], None]:
        """Return what counts the requests to one API, given scope, status and seconds."""

        def answered(scope: Scope, status: int, _: float) -> None:
            key = (api, operation_of(scope), scope["method"], status)
            if key in self._answered:
                self._answered[key] += 1
            else:
                self._begin(key)

        return answered

    def _begin(self, key: tuple[str, str, str, int]) -> None:
        api, operation, method, status = key
        if method not in METHODS:
            key = (api, operation, OTHER, status)
        self._answered[key] = self._answered.get(key, 0) + 1

    def measured(self) -> Iterator[Measured]:
        """Return all values; a `Source`."""
        answered = self._answered.items()
        yield Measured(REQUESTS, [((*key[:3], str(key[3])), count) for key, count in answered])
        yield Measured(REFUSED, [((reason,), count) for reason, count in self._refused.items()])


def operation_of(scope: Scope) -> str:
    """Return the path of the operation that served a request, with its `{placeholders}`."""
    if scope["type"] == "websocket":
        return "websocket"
    operation = scope["state"].get("operation") or getattr(scope.get("route"), "path", None)
    return operation or OTHER
