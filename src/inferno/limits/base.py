"""The protocol of a limiter, and the algorithm that its implementations share.

The algorithm is the sliding-window log: every admitted request is remembered with its time for as
long as the longest window, so that no stretch of 60 seconds ever holds more requests than the
limit, wherever it begins. A request that fills the limit makes room for the next exactly when it
is 60 seconds old, not before. Fixed windows let twice the limit through around their edge, and
token buckets admit a burst on top of the rate; the log costs memory instead.

A refused request consumes nothing. Tokens are reserved from an estimate before the work and
corrected to the engine's count after it: what was reserved in excess is given back where it was
counted, and what was used in excess counts from the correction on, so that a long answer cannot
hide tokens in a window that has passed.

A log has an end. It is exact up to `EXACT_REQUESTS` requests (`EXACT_RESERVATIONS` reservations of
tokens) in a window. Beyond, what arrives within 1/10,000 (1/1,000) of the window shares an entry
that bears the time of the latest: a place may then come free up to that much later, never sooner,
and a log never has more than twice as many entries.

Only what is limited is counted: a limit that is set later begins with an empty log. A limit that
is changed applies at once to what was counted before.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import msgspec

from inferno.core.errors import RateLimitExceeded
from inferno.core.tenancy import LimitPolicy

MINUTE = 60.0
HOUR = 3600.0

EXACT_REQUESTS = 10_000
"""Requests that a window tells apart."""

EXACT_RESERVATIONS = 1_000
"""Reservations of tokens that a window tells apart; fewer, as refusals may have to search them."""

PLACE_WAIT = 1.0
"""Seconds to wait for a concurrent place: nobody knows when one comes back."""


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How a caller stands, as `X-RateLimit-…` headers say it.

    Args:
        limit: requests per minute; per hour where minutes are not limited.
        remaining: how many more fit now.
        reset_after: seconds until the oldest counted request leaves the window, and one more fits;
            0 where none is counted.
    """

    limit: int
    remaining: int
    reset_after: float


class Admission(msgspec.Struct):
    """A request that was let in. Give it back with `settle`, once.

    Args:
        subject: whom it counts against.
        policy: the limits in force.
        standing: after it was let in; None where requests are not limited.
        handle: the limiter's own.
    """

    subject: str
    policy: LimitPolicy
    standing: Standing | None
    handle: Any = None


class Refused(RateLimitExceeded):
    """A limit is used up.

    Args:
        limit: its name (`requests_per_minute`).
        maximum: its value.
        wait: seconds until the same request would be let in.
        standing: for the headers.
    """

    def __init__(self, limit: str, maximum: int, *, wait: float, standing: Standing | None) -> None:
        super().__init__(retry_after=max(1, math.ceil(wait)), limit=limit, maximum=maximum)
        self.wait = wait
        self.standing = standing


class InstantLimiter(Protocol):
    """A limiter that need not wait for anything; what its calls mean, `Limiter` says."""

    def admit_now(self, subject: str, policy: LimitPolicy) -> Admission:
        """See `Limiter.admit`."""

    def reserve_now(self, admission: Admission, tokens: int) -> None:
        """See `Limiter.reserve`."""

    def settle_now(self, admission: Admission, tokens: int | None) -> None:
        """See `Limiter.settle`."""


class Limiter(Protocol):
    """Keeps callers within their limits; every call is atomic."""

    @property
    def instant(self) -> InstantLimiter | None:
        """The same limiter without waiting; None where it has to ask somebody else."""

    async def admit(self, subject: str, policy: LimitPolicy) -> Admission:
        """Count a request and take a place among the concurrent ones.

        Raises:
            Refused: a limit is used up; nothing was counted.
        """

    async def reserve(self, admission: Admission, tokens: int) -> None:
        """Count tokens that the request is expected to take; once for an admission.

        Raises:
            Refused: they do not fit; the admission is undone as if it had never been.
        """

    async def settle(self, admission: Admission, tokens: int | None) -> None:
        """Give the concurrent place back and correct the tokens; never raises.

        Args:
            admission: from `admit`; settling it again does nothing.
            tokens: what was used; None leaves the reservation as it is.
        """

    async def standing(self, subject: str, policy: LimitPolicy) -> dict[str, int]:
        """Return what is used of each limit, by the limit's name."""

    async def reset(self, subject: str) -> None:
        """Forget what was counted for a subject; requests that run keep their places."""

    async def close(self) -> None:
        """Let go of what the limiter holds."""


def standing_of(policy: LimitPolicy, minute: int, hour: int, reset_after: float) -> Standing | None:
    """Return what the headers say: of the minute, else of the hour.

    Args:
        policy: the limits in force.
        minute: requests counted in the minute.
        hour: requests counted in the hour.
        reset_after: seconds until the oldest request leaves that window.
    """
    limit, used = policy.requests_per_minute, minute
    if limit is None:
        limit, used = policy.requests_per_hour, hour
    if limit is None:
        return None
    return Standing(limit, limit - used if used < limit else 0, reset_after)
