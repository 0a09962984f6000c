"""When to start a replica again: a pure decision over its history."""

from __future__ import annotations

from dataclasses import dataclass, replace

from inferno.engines.base import Failure


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patient the runtime is.

    Args:
        first_delay: seconds before the first restart.
        delay: seconds before the second restart; doubles from then on.
        max_delay: longest pause, in seconds.
        healthy_after: seconds of serving after which earlier failures are forgotten.
        load_attempts: starts that a replica gets to become ready for the first time.
    """

    first_delay: float = 0.2
    delay: float = 1.0
    max_delay: float = 60.0
    healthy_after: float = 60.0
    load_attempts: int = 2


@dataclass(frozen=True, slots=True)
class History:
    """What happened to a replica so far.

    Args:
        was_ready: it served at least once, so its model can be loaded.
        failures: in a row.
    """

    was_ready: bool = False
    failures: int = 0

    def after_failure(self, *, served: float | None, policy: RestartPolicy) -> History:
        """Return the history with one more failure.

        Args:
            served: seconds that the replica was ready; None when it did not become ready.
            policy: decides which failures are forgotten.
        """
        if served is None:
            return replace(self, failures=self.failures + 1)
        earlier = 0 if served >= policy.healthy_after else self.failures
        return History(was_ready=True, failures=earlier + 1)


def restart_delay(history: History, failure: Failure, policy: RestartPolicy) -> float | None:
    """Return the seconds to wait before the next start, or None to give up.

    Args:
        history: including `failure`.
        failure: the latest.
        policy: how patient to be.
    """
    if failure.permanent:
        return None
    if not history.was_ready and history.failures >= policy.load_attempts:
        return None
    if history.failures <= 1:
        return policy.first_delay
    doublings = min(history.failures - 2, 32)  # bounded, as floats are
    return min(policy.delay * 2.0**doublings, policy.max_delay)
