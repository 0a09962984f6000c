"""The protocol of a runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol


class Runtime(Protocol):
    """Makes the `Pod`s in the store real and writes their status."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then drain all replicas and return when none is left.

        Pods that an earlier run left behind are cleaned up first. Cancelling kills the replicas.
        """

    def log(self, pod: str, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[str]:
        """Yield lines of a replica's log, without line ends.

        Args:
            pod: name of the pod.
            tail: begin with this many of the last lines; None for all that are kept.
            follow: go on with new lines until the pod is gone.

        Raises:
            NotFound: no such replica runs or ran here.
        """
