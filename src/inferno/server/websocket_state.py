"""What is known of an open WebSocket connection, and what may happen on it next: no I/O."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from inferno.core.errors import AuthenticationFailed, InvalidRequest, Overloaded
from inferno.limits.base import PLACE_WAIT, Refused
from inferno.limits.tally import Tally
from inferno.server.types import Usage
from inferno.tenancy.access import Badge

MAX_FAULTS = 100
"""Messages in a row that mean nothing, after which the connection is not worth keeping."""

NORMAL, GOING_AWAY, POLICY, UNEXPECTED, NOT_AUTHENTICATED = 1000, 1001, 1008, 1011, 4401
"""Codes of closing; those from 4000 on are an application's own (RFC 6455, 7.4)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection may take.

    Args:
        streams: inferences at once.
        auth_seconds: until it is known who is calling.
        idle_seconds: without a message from the client and without an inference.
    """

    streams: int
    auth_seconds: float
    idle_seconds: float


class Hangup(Exception):
    """The connection ends, on our side.

    Args:
        code: of closing.
        reason: in words, at most 123 bytes.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(slots=True, eq=False)
class Stream:
    """One inference.

    Args:
        id: the client's name for it.
        request_id: ours.
        task: that works on it.
        tally: what it takes.
        sent: tokens that the client was sent.
        started: whether the task has begun.
        cancelled: whether the client has cancelled it.
        finished: whether its last message is on its way, so that it can no longer be cancelled.
    """

    id: str
    request_id: str
    task: asyncio.Task[None] | None = None
    tally: Tally | None = None
    sent: int = 0
    started: bool = False
    cancelled: bool = False
    finished: bool = False

    @property
    def usage(self) -> Usage:
        """What it has taken so far: what limits count of it, should it end now."""
        if self.tally is None or not self.tally.begun:
            return Usage()
        prompt, generated = self.tally.prompt_estimate, self.tally.pieces
        return Usage(
            prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated
        )


class ConnectionState:
    """An open connection.

    Args:
        request_id: of the handshake; those of inferences begin with it.
        bounds: what it may take.
        badge: by what the caller is recognised; None where nobody knows it yet.
        now: monotonic time.
    """

    def __init__(self, request_id: str, bounds: Bounds, badge: Badge | None, now: float) -> None:
        self.badge = badge
        self.draining = False
        self.streams: dict[str, Stream] = {}
        self._request_id = request_id
        self._bounds = bounds
        self._begun = 0
        self._faults = 0
        self._unknown_since = now
        self._active_at = now

    def heard(self, now: float, *, fault: bool) -> None:
        """Note that a message came.

        Raises:
            Hangup: too many in a row meant nothing.
        """
        self._active_at = now
        self._faults = self._faults + 1 if fault else 0
        if self._faults > MAX_FAULTS:
            raise Hangup(POLICY, f"More than {MAX_FAULTS} messages in a row meant nothing.")

    def forget(self, badge: Badge, now: float) -> None:
        """Note that a badge is no longer accepted; the caller may authenticate anew."""
        if self.badge is badge:
            self.badge = None
            self._unknown_since = now

    def begin(self, id: str) -> Stream:  # noqa: A002 - its name in the messages
        """Take up an inference.

        Raises:
            AuthenticationFailed: nobody knows who is calling.
            Overloaded: the server is shutting down.
            InvalidRequest: one with that id is running.
            Refused: too many are.
        """
        if self.badge is None:
            raise AuthenticationFailed("Send an 'auth' message with a valid token first.")
        if self.draining:
            raise Overloaded("The server is shutting down; try again elsewhere.", retry_after=5)
        if id in self.streams:
            raise InvalidRequest(f"An inference with the id '{id}' is running.", field="id")
        maximum = self._bounds.streams
        if len(self.streams) >= maximum:
            limit = "max_streams_per_connection"
            raise Refused(limit, maximum, wait=PLACE_WAIT, standing=None)
        self._begun += 1
        stream = Stream(id, f"{self._request_id}.{self._begun}")
        self.streams[id] = stream
        return stream

    def cancel(self, id: str) -> Stream:  # noqa: A002
        """Mark an inference as cancelled and return it.

        Raises:
            InvalidRequest: none with that id is running.
        """
        stream = self.streams.get(id)
        if stream is None or stream.cancelled or stream.finished:
            raise InvalidRequest(f"No inference with the id '{id}' is running.", field="id")
        stream.cancelled = True
        return stream

    def end(self, stream: Stream, now: float) -> None:
        """Note that an inference is over, and that the client has all of it."""
        del self.streams[stream.id]
        self._active_at = now

    def seconds_left(self, now: float) -> float:
        """Return for how long the connection may stay as it is, at least; 0 or less to end it."""
        allowed = self._bounds.idle_seconds if self.badge else self._bounds.auth_seconds
        if self.streams:
            return allowed
        return allowed + (self._active_at if self.badge else self._unknown_since) - now
