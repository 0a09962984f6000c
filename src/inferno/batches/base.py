"""What batches need of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from inferno.batches.types import Answer, Batch, Item
from inferno.core.events import Event


class Outlook(NamedTuple):
    """What a request for a model can expect.

    Args:
        line: where it would wait; requests of one line wait for the same.
        is_there: whether anything can answer, be it busy; else a request waits until it can.
    """

    line: str
    is_there: bool


class Answerer(Protocol):
    """Answers requests of batches."""

    async def answer(self, batch: Batch, item: Item) -> Answer:
        """Try to answer a request as its owner; an error is part of the answer."""

    def outlook(self, model: str, tenant: str) -> Outlook:
        """Return whether a request for a model would find it there."""

    def knows_model(self, model: str, tenant: str) -> bool:
        """Return whether a tenant can reach a model of that name now."""


class Outbox(Protocol):
    """Tells webhooks of events."""

    async def add(
        self, connection: AsyncConnection, event: Event, *, url: str | None = None
    ) -> None:
        """Record an event in a transaction; it is delivered once that is committed.

        Args:
            connection: of the transaction.
            event: what has happened.
            url: told in addition to those who subscribed.
        """

    def wake(self) -> None:
        """Look for events to deliver now: a transaction has been committed."""


UrlCheck = Callable[[str], object]
"""Looks at an address that a caller wants to be told at. Raises InvalidRequest where it may not."""
