"""Hedging: asking a second endpoint when the first one takes long to begin.

What begins first is the answer; the other one is hung up on, which is how it learns that its work
is not wanted (Dean and Barroso, "The Tail at Scale", 2013). It is off by default: it is extra load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from inferno.gateway.endpoints import Endpoint
from inferno.gateway.upstream import UpstreamError, UpstreamResponse

Send = Callable[[Endpoint], Awaitable[UpstreamResponse]]


async def first_of(
    send: Send,
    endpoint: Endpoint,
    other: Callable[[], Endpoint | None],
    *,
    after: float,
) -> tuple[Endpoint, UpstreamResponse]:
    """Send a call to an endpoint, and to another one if the first has not begun in time.

    Args:
        send: sends the call; when it is cancelled it hangs up.
        endpoint: the first.
        other: takes a place at another one; None where there is none.
        after: seconds that the first may take to begin.

    Returns:
        The endpoint whose answer began first, and the answer's head.

    Raises:
        UpstreamError: that of the first endpoint, where no answer began.
    """
    tasks = {endpoint: asyncio.ensure_future(send(endpoint))}
    try:
        await asyncio.wait(tasks.values(), timeout=after)
        second = None if tasks[endpoint].done() else other()
        if second is not None:
            tasks[second] = asyncio.ensure_future(send(second))
        while (winner := _winner(tasks)) is None and not all(t.done() for t in tasks.values()):
            running = [task for task in tasks.values() if not task.done()]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        chosen = winner or endpoint
        return chosen, tasks.pop(chosen).result()
    finally:
        for task in tasks.values():
            await _give_up(task)


def _winner(tasks: Mapping[Endpoint, asyncio.Future[UpstreamResponse]]) -> Endpoint | None:
    """Return whose answer has begun."""
    for endpoint, task in tasks.items():
        if task.done() and not task.cancelled() and task.exception() is None:
            return endpoint
    return None


async def _give_up(task: asyncio.Future[UpstreamResponse]) -> None:
    """Hang up on an endpoint, whether its answer has begun meanwhile or not."""
    task.cancel()
    try:
        response = await task
    except (asyncio.CancelledError, UpstreamError):
        return
    response.abort()
