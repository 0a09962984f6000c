"""Who is next, and what becomes of a try: decisions, without any action."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from inferno.core.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InfernoError,
    InvalidRequest,
    ModelLoadFailed,
    ModelNotLoaded,
    Overloaded,
)

LONGEST_PAUSE = 30.0
FIRST_PAUSE = 0.5


class Verdict(Enum):
    """What becomes of a try."""

    KEEP = "it is the result"
    AGAIN = "it is tried again, a bounded number of times"
    LATER = "nothing could take it; it is tried whenever something can"


def verdict(error: InfernoError | None, *, tries: int, attempts: int) -> Verdict:
    """Return what becomes of a try.

    Args:
        error: how it ended; None for an answer.
        tries: how often it has been tried, this time included, without those that found no room.
        attempts: how often it may be.
    """
    if error is None or isinstance(error, InvalidRequest | ModelLoadFailed):
        return Verdict.KEEP
    if isinstance(error, Overloaded | ModelNotLoaded):
        return Verdict.LATER
    passing = isinstance(error, InferenceFailed | DeadlineExceeded) or type(error) is InfernoError
    return Verdict.AGAIN if passing and tries < attempts else Verdict.KEEP


def pause_after(strikes: int) -> float:
    """Return the seconds to wait after so many failures in a row, spread at random.

    Spread, so that requests which a replica was lost under do not all meet in the next one: the one
    among them that killed it would take the others along again.
    """
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * float(2 ** min(strikes, 10)))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret


class Contender(Protocol):
    """A batch that may have something to do."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def running(self) -> int:
        """How many of its requests are being answered."""


def next_in_turn(ready: Sequence[Contender], everybody: Sequence[Contender]) -> int | None:
    """Return the place of the batch whose request is next, or None where none is ready.

    The tenant with the fewest requests in flight comes first, of its batches the one with the
    fewest; so a large batch holds up no small one, and no tenant another.

    Args:
        ready: batches that have a request to send now.
        everybody: all that are being worked on.
    """
    of_tenant: dict[str, int] = {}
    for one in everybody:
        of_tenant[one.tenant] = of_tenant.get(one.tenant, 0) + one.running
    places = range(len(ready))
    return min(places, key=lambda i: (of_tenant[ready[i].tenant], ready[i].running), default=None)
