"""Work on documents that may take long, where it keeps nobody waiting.

Whoever asks writes the filter, and others the documents; the two together may be seconds of work on
a single entry. The event loop serves everybody, so such work goes to a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

HEAVY = 30_000
"""Tests times bytes of a document: some milliseconds."""


class Examiner:
    """Does what is light at once, and what is heavy in a thread, one piece after the other."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    async def ask(self, cost: int, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Return what some work comes to.

        Args:
            cost: of it, in tests times bytes.
            work: changes nothing, and needs nothing but what it is given.
            given: to it.
            named: likewise.
        """
        if cost <= HEAVY:
            return work(*given, **named)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: work(*given, **named))
