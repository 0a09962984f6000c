"""Whether an endpoint is fit for requests, from what requests and probes see of it.

    well ── failures in a row ──► ejected ── its time is over ──► half-open ── a success ──► well
                                     ▲                                │
                                     └────────── a failure ───────────┘

An endpoint that keeps failing stays away longer each time. One that comes back is not given its
full share at once (slow start): what is cold, or has just been overwhelmed, is slow.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 3
"""Failures in a row after which an endpoint is ejected."""

EJECTED_SECONDS = 1.0
"""For the first time; twice as long each further time in a row."""

MAX_EJECTED_SECONDS = 30.0

SLOW_START_SECONDS = 10.0
"""After which an endpoint that came back has its full share."""

SLOW_START_SHARE = 0.1
"""Of its full share, what it begins with."""


@dataclass(slots=True)
class Health:
    """The state of one endpoint. Times are of `time.monotonic`, in seconds.

    Args:
        failures: in a row.
        ejections: in a row.
        ejected_until: when it may be tried again.
        trying: whether its one trial request is on its way.
        well_since: when it came back; 0 where it was never away.
        reachable: what probes say; requests do not go where it is False.
    """

    failures: int = 0
    ejections: int = 0
    ejected_until: float = 0.0
    trying: bool = False
    well_since: float = 0.0
    reachable: bool = True

    def admits(self, now: float) -> bool:
        """Return whether a request may be sent."""
        if not self.reachable:
            return False
        if not self.ejections:
            return True
        return now >= self.ejected_until and not self.trying

    def sending(self) -> None:
        """Note that a request is sent: a trial, where the endpoint is half-open."""
        if self.ejections:
            self.trying = True

    def succeeded(self, now: float) -> None:
        """Note that a request was answered."""
        self.failures = 0
        self.trying = False
        if self.ejections:
            self.ejections = 0
            self.well_since = now

    def failed(self, now: float, *, surely: bool) -> None:
        """Note that a request failed through the endpoint's fault.

        Args:
            now: the time.
            surely: whether nothing was there at all; that ejects at once.
        """
        self.trying = False
        self.failures += 1
        if surely or self.ejections or self.failures >= FAILURES:
            away = min(EJECTED_SECONDS * 2**self.ejections, MAX_EJECTED_SECONDS)
            self.ejections = min(self.ejections + 1, 16)
            self.ejected_until = now + away

    def undecided(self) -> None:
        """Note that a trial ended without telling anything: its client left."""
        self.trying = False

    def share(self, now: float) -> float:
        """Return the share of its capacity that it is given, above 0 and up to 1."""
        if not self.well_since:
            return 1.0
        age = (now - self.well_since) / SLOW_START_SECONDS
        if age >= 1.0:
            self.well_since = 0.0
            return 1.0
        return SLOW_START_SHARE + (1.0 - SLOW_START_SHARE) * age
