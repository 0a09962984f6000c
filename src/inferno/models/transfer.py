"""What an install and its worker thread share: progress, cancellation, failures."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from inferno.core.errors import InfernoError

Phase = Literal["downloading", "copying", "verifying"]

_REPORT_SECONDS = 0.1


class InstallFailed(InfernoError):
    """A model could not be installed, for a reason outside the request.

    Args:
        reason: a CamelCase word for programs: `DiskFull`, `PermissionDenied`, `Unreachable`,
            `AccessDenied`, `TooLarge`, `BadAnswer`, `ChecksumMismatch`, `Failed`.
        message: what happened and what helps, for a person.
    """

    def __init__(self, reason: str, message: str, **details: Any) -> None:
        super().__init__(message, reason=reason, **details)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an install is.

    Args:
        done: bytes of the present phase that are done, over all files of the model so far.
        total: bytes that the phase has; None while nobody knows.
        phase: what is being done.
    """

    done: int
    total: int | None
    phase: Phase


class Cancelled(BaseException):
    """Ends the worker thread of an install that was cancelled; never leaves the package."""


class Transfer:
    """One install's link between the caller and the thread that works for it.

    Args:
        report: called with the progress, at most ten times a second and at the end of a phase.
        max_bytes: the most that the model may have.
    """

    def __init__(self, report: Callable[[Progress], None], max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._report = report
        self._cancelled = threading.Event()
        self._abort: Callable[[], None] | None = None
        self._reported: tuple[float, Phase] | None = None

    def cancel(self) -> None:
        """Asks the thread to stop; breaks the connection that it may be waiting on."""
        self._cancelled.set()
        if self._abort is not None:
            self._abort()

    def check(self) -> None:
        """Raises Cancelled once `cancel` was called."""
        if self._cancelled.is_set():
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Sleeps, unless the install is cancelled meanwhile."""
        self._cancelled.wait(seconds)
        self.check()

    def abort_with(self, abort: Callable[[], None] | None) -> None:
        """Sets what breaks the wait that the thread is about to begin."""
        self._abort = abort

    def report(self, phase: Phase, done: int, total: int | None) -> None:
        """Passes progress on, unless it is too soon after the last."""
        now = time.monotonic()
        recent = self._reported and now - self._reported[0] < _REPORT_SECONDS
        if recent and self._reported and self._reported[1] == phase and done != total:
            return
        self._reported = now, phase
        self._report(Progress(done, total, phase))


@contextmanager
def storage_failures() -> Iterator[None]:
    """Turns what the operating system says about disks into InstallFailed.

    Raises:
        InstallFailed: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full() from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InstallFailed(
                "PermissionDenied",
                "The platform's user may not write to the models folder. Give it write access.",
            ) from error
        raise InstallFailed(
            "Failed", f"The model could not be stored: {error.strerror or type(error).__name__}."
        ) from error


def disk_full() -> InstallFailed:
    """The error for a disk without room."""
    return InstallFailed(
        "DiskFull",
        "The disk of the models folder has no room for the model. What came so far is kept: "
        "make room and install again.",
    )
