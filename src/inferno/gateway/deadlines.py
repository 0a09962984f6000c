"""Deadlines of calls: what `asyncio.timeout` does, without coroutines.

Every request has one, and hardly any passes, so it costs a timer and nothing else.
"""

from __future__ import annotations

import asyncio


class Deadline:
    """Cancels the task that began it when its time is over.

    Like `asyncio.Timeout` it tells its own cancellation from those of others, which it counts when
    it begins.
    """

    __slots__ = ("_cancelling", "_loop", "_task", "_timer", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float | None) -> None:
        """Begin in the current task.

        Args:
            seconds: from now; None where `move` is to say.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - requests are served in tasks
        self._task = task
        self._loop = task.get_loop()
        self._cancelling = task.cancelling()
        if seconds is not None:
            self.move(seconds)

    def move(self, seconds: float) -> None:
        """Set what is left from now on; without effect once it is over."""
        if self.is_over:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._pass)

    def end(self, error: BaseException | None) -> bool:
        """Stop.

        Args:
            error: what the work between ended with.

        Returns:
            Whether that is because the time was over.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.is_over:
            return False
        only_ours = self._task.uncancel() <= self._cancelling
        return only_ours and isinstance(error, asyncio.CancelledError)

    def _pass(self) -> None:
        self._timer = None
        self.is_over = True
        self._task.cancel()
