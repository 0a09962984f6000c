"""Waiting in a line for an endpoint that is not there yet: its model has to be loaded first.

Whoever waits keeps its turn, and hears of everything that changes: a model that cannot be loaded
is told at once to all who wait for it, in whichever line they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from inferno.gateway.endpoints import Endpoint
from inferno.gateway.lines import Line
from inferno.gateway.picking import Want


async def patient_place(
    line: Line,
    want: Want,
    *,
    check: Callable[[], Awaitable[None]],
    news: Callable[[], Awaitable[None]],
) -> Endpoint:
    """Return an endpoint with one of its places taken.

    Args:
        line: where to wait.
        want: what for.
        check: asked at the beginning and whenever there is news; what it raises ends the wait.
        news: returns when anything has changed.

    Raises:
        InfernoError: of `check`, or of the line.
    """
    heard = asyncio.ensure_future(news())
    place = asyncio.ensure_future(line.acquire(want))
    try:
        while True:
            await check()
            await asyncio.wait((place, heard), return_when=asyncio.FIRST_COMPLETED)
            if place.done():
                return place.result()
            heard = asyncio.ensure_future(news())
    except BaseException:
        await _leave(line, want, place)
        raise
    finally:
        heard.cancel()


async def _leave(line: Line, want: Want, place: asyncio.Future[Endpoint]) -> None:
    """Leave the line; a place that was handed over in the same instant goes back."""
    if not place.cancel() and not place.cancelled() and place.exception() is None:
        line.release(place.result(), want.give_way, want.unread)
    await asyncio.gather(place, return_exceptions=True)
