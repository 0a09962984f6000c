"""When a call is sent again, and how long to wait before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inferno.client.calls import Call
from inferno.client.errors import ApiError, ClientError, ConnectionFailed

FIRST_PAUSE = 0.25
JITTER = 0.25
"""Of a pause that the platform asked for, at most so much is added: clients that were refused
together should not come back together, and none should come early."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How persistent a client is. Durations are in seconds.

    Args:
        attempts: how often a call is sent at most; 1 sends nothing twice.
        longest_pause: where the platform asks for a longer one, the error is raised at once.
        deadline: no attempt begins later than this after the first one.
    """

    attempts: int = 4
    longest_pause: float = 30.0
    deadline: float = 60.0


class Tries:
    """The attempts of one call.

    What was never sent may be sent again, and what the platform refused with 429. What it may
    have begun to work on is sent again only where that does no harm. Nothing is once an answer
    has begun.

    Args:
        retries: how persistent to be.
        call: the call.
        clock: monotonic time in seconds.
        chance: a number from 0 to 1.
    """

    def __init__(
        self,
        retries: Retries,
        call: Call[Any],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._retries = retries
        self._call = call
        self._clock = clock
        self._chance = chance
        self._end = clock() + retries.deadline
        self._failed = 0

    def pause_after(self, error: ClientError) -> float | None:
        """Return how long to wait before the next attempt; None where there is none."""
        self._failed += 1
        if self._failed >= self._retries.attempts:
            return None
        pause = self._pause(error)
        if pause is None or self._clock() + pause > self._end:
            return None
        return pause

    def _pause(self, error: ClientError) -> float | None:
        if isinstance(error, ConnectionFailed):
            if error.sent and not (self._call.repeatable and self._call.method == "GET"):
                return None
            return self._own_pause()
        if not isinstance(error, ApiError) or error.retry_after is None:
            return None
        refused = error.status == 429 or (error.status == 503 and self._call.repeatable)
        if not refused or error.retry_after > self._retries.longest_pause:
            return None
        return error.retry_after * (1 + JITTER * self._chance())

    def _own_pause(self) -> float:
        """Return a pause that doubles each time, anywhere between half of it and all of it."""
        longest = min(FIRST_PAUSE * 2.0 ** (self._failed - 1), self._retries.longest_pause)
        return longest * (1 + self._chance()) / 2
