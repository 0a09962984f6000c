"""Structured logs: one event a line, for people on a terminal or as JSON for programs."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog


def configure(
    *,
    format: Literal["auto", "console", "json"],  # noqa: A002 - the setting's name
    level: str,
    stream: TextIO | None = None,
) -> None:
    """Send logs to a stream (default: standard error).

    Args:
        format: `auto` is `console` on a terminal and `json` elsewhere.
        level: least severe level that is logged.
        stream: where to.
    """
    stream = stream or sys.stderr
    console = format == "console" or (format == "auto" and stream.isatty())
    last: list[structlog.typing.Processor]
    if console:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # others show local variables
            )
        ]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    # Whatever fails in an app is logged by our own door, with the request's id.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(levelname)s %(message)s")
