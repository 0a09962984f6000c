"""Who is sent to next: how many deliveries may run at once, and for whom. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

IN_FLIGHT = 64
PER_TENANT = 24
PER_ENDPOINT = 8

FAILURES = 3
"""After so many in a row, an endpoint gets one delivery at a time."""

REMEMBERED = 10_000
"""Failing endpoints that are remembered."""


class Places:
    """The places for running attempts: so many in all, for each tenant, and for each endpoint."""

    def __init__(self) -> None:
        self._endpoints: Counter[str] = Counter()
        self._tenants: Counter[str] = Counter()
        self._failures: dict[str, int] = {}

    @property
    def free(self) -> int:
        """How many there are left."""
        return IN_FLIGHT - self._endpoints.total()

    def busy_endpoints(self) -> list[str]:
        """Return the endpoints that have all they get."""
        return [e for e, running in self._endpoints.items() if running >= self._room(e)]

    def busy_tenants(self) -> list[str]:
        """Return the tenants that have all they get."""
        return [t for t, running in self._tenants.items() if running >= PER_TENANT]

    def chosen(self, candidates: Iterable[tuple[str, str, str]]) -> list[str]:
        """Return those of (id, endpoint, tenant) for which there is room, first come first served.

        They do not have their places yet.
        """
        endpoints, tenants, chosen = self._endpoints.copy(), self._tenants.copy(), []
        for id_, endpoint, tenant in candidates:
            if endpoints[endpoint] >= self._room(endpoint) or tenants[tenant] >= PER_TENANT:
                continue
            endpoints[endpoint] += 1
            tenants[tenant] += 1
            chosen.append(id_)
        return chosen[: self.free]

    def take(self, endpoint: str, tenant: str) -> None:
        """Give a place away."""
        self._endpoints[endpoint] += 1
        self._tenants[tenant] += 1

    def give_back(self, endpoint: str, tenant: str) -> None:
        """Take it back."""
        for counter, name in ((self._endpoints, endpoint), (self._tenants, tenant)):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]

    def note(self, endpoint: str, *, accepted: bool) -> None:
        """Remember how often an endpoint has failed in a row."""
        if accepted:
            self._failures.pop(endpoint, None)
            return
        if len(self._failures) >= REMEMBERED:
            self._failures.clear()
        self._failures[endpoint] = self._failures.get(endpoint, 0) + 1

    def _room(self, endpoint: str) -> int:
        return 1 if self._failures.get(endpoint, 0) >= FAILURES else PER_ENDPOINT
