"""What a command raises to end with one line on stderr and an exit code."""

from __future__ import annotations


class CommandFailed(Exception):
    """The command could not do what was asked.

    Args:
        message: one line for a person; what to do about it, where that is known.
        exit_code: of the process.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""


class Unreachable(CommandFailed):
    """The server does not answer, or broke off; it may be back in a while."""


class Refused(CommandFailed):
    """The server answered with an error.

    Args:
        message: what it said.
        status: of the answer.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
