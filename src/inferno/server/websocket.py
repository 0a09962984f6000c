"""`/ws`: seed 001's WebSocket, on which several inferences may run at once.

Messages are handled in the order in which they arrive. An inference is a task of its own from then
on, so answers come interleaved; the connection owns these tasks, and none outlives it. Whoever
sends waits until the client takes what was sent before, and while an inference waits its replica
is not read either: a slow client holds up its own answers and nothing else.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import Message, Receive, Scope, Send

from inferno.core.errors import (
    AuthenticationFailed,
    InfernoError,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
)
from inferno.core.tenancy import Permission
from inferno.gateway.forwarding import Call
from inferno.server import websocket_messages as messages
from inferno.server.completions import whole_completion
from inferno.server.inference import Ending, call_for, tokens
from inferno.server.operation import Services
from inferno.server.relay import first_error, repeated
from inferno.server.serving import Observed, destination_of
from inferno.server.websocket_messages import Auth, Cancel, Incoming, Inference, Malformed, Ping
from inferno.server.websocket_state import (
    GOING_AWAY,
    NORMAL,
    NOT_AUTHENTICATED,
    UNEXPECTED,
    Bounds,
    ConnectionState,
    Hangup,
    Stream,
)
from inferno.tenancy.access import Badge, Visit, require
from inferno.web.errors import status_of
from inferno.web.exchange import ClientDisconnected, header_of
from inferno.web.handshake import check_origin
from inferno.web.sockets import DRAINING

PATHS = ("/ws", "/v1/ws")
CANCELLED = "cancelled"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """How WebSockets are served.

    Args:
        bounds: what a connection may take.
        origins: web origins, besides our own, whose pages may connect.
        access_log: log every inference, not only those that fail.
    """

    bounds: Bounds
    origins: Collection[str] = ()
    access_log: bool = False


class Gone(ClientDisconnected):
    """The client is no longer there."""


class WebSocketEndpoint:
    """ASGI app of the WebSocket.

    Args:
        services: what inferences call.
        settings: how connections are served.
    """

    def __init__(self, services: Services, settings: SocketSettings) -> None:
        self._services = services
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection to its end.

        Raises:
            PermissionDenied: it was opened by a page of another site.
            AuthenticationFailed: its headers say who is calling, and nobody knows that.
            Overloaded: the server is shutting down.
        """
        check_origin(scope, self._settings.origins)
        draining: asyncio.Event = scope["extensions"].get(DRAINING) or asyncio.Event()
        if draining.is_set():
            raise Overloaded("The server is shutting down; try again elsewhere.", retry_after=5)
        access = self._services.access
        badge = None
        if header_of(scope, b"authorization") is not None or not access.enabled:
            badge = await access.present(scope)
        await receive()  # "websocket.connect"
        await send({"type": "websocket.accept"})
        connection = Connection(self._services, self._settings, scope, receive, send)
        await connection.serve(badge, draining)


class Connection:
    """One connection, from the accepted handshake on.

    Args:
        services: what inferences call.
        settings: how connections are served.
        scope: of the handshake.
        receive: ASGI receive.
        send: ASGI send; it waits while the client does not take what was sent before.
    """

    def __init__(
        self,
        services: Services,
        settings: SocketSettings,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._services = services
        self._settings = settings
        self._scope = scope
        self._receive = receive
        self._send = send
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def serve(self, badge: Badge | None, draining: asyncio.Event) -> None:
        """Serve until the client leaves or we hang up.

        Args:
            badge: by what the caller is recognised; None where it has to say who it is.
            draining: set when the server is to stop.
        """
        request_id, bounds = self._scope["state"]["request_id"], self._settings.bounds
        self._state = ConnectionState(request_id, bounds, badge, time.monotonic())
        try:
            async with asyncio.TaskGroup() as tasks:
                minding = [
                    tasks.create_task(self._mind_time()),
                    tasks.create_task(self._mind_draining(draining)),
                ]
                await self._read(tasks)
                for task in (*minding, *(stream.task for stream in self._state.streams.values())):
                    if task is not None:
                        task.cancel()
        except BaseExceptionGroup as errors:
            await self._hang_up(first_error(errors))
        except asyncio.CancelledError:  # the grace period is over
            await self._close(GOING_AWAY, "The server is shutting down.")
            raise

    async def _hang_up(self, reason: BaseException) -> None:
        """Close, for a reason that is ours. Raises what was not foreseen."""
        if isinstance(reason, Hangup):
            await self._close(reason.code, reason.reason)
            return
        await self._close(UNEXPECTED, "An internal error occurred.")
        raise reason

    async def _close(self, code: int, reason: str) -> None:
        with suppress(Gone):
            await self._emit({"type": "websocket.close", "code": code, "reason": reason})

    async def _mind_time(self) -> None:
        """Hang up on a client that does not say who it is, or says nothing at all."""
        while (left := self._state.seconds_left(time.monotonic())) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        bounds = self._settings.bounds
        if self._state.badge is not None:
            raise Hangup(NORMAL, f"Idle for {bounds.idle_seconds:g} seconds.")
        reason = f"No valid 'auth' message came within {bounds.auth_seconds:g} seconds."
        with suppress(Gone):
            await self._say(messages.error_text(AuthenticationFailed(reason)))
        raise Hangup(NOT_AUTHENTICATED, reason)

    async def _mind_draining(self, draining: asyncio.Event) -> None:
        """Hang up when the server is to stop and what runs has finished."""
        await draining.wait()
        self._state.draining = True
        await self._quiet.wait()
        raise Hangup(GOING_AWAY, "The server is shutting down.")

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        """Handle messages, one after the other, until the client leaves."""
        with suppress(Gone):
            while (received := await self._receive())["type"] != "websocket.disconnect":
                try:
                    message = messages.decode(received.get("text"))
                except Malformed as fault:
                    await self._say(messages.error_text(fault.error, fault.id))
                    self._state.heard(time.monotonic(), fault=True)
                else:
                    self._state.heard(time.monotonic(), fault=False)
                    await self._handle(message, tasks)
                # Messages that arrived together are many; others have their turn between them.
                await asyncio.sleep(0)

    async def _handle(self, message: Incoming, tasks: asyncio.TaskGroup) -> None:
        """Handle one message; what is wrong with it is said, and the connection lives on."""
        try:
            match message:
                case Auth():
                    await self._authenticate(message)
                case Inference():
                    self._begin(message, tasks)
                case Cancel():
                    self._cancel(message)
                case Ping():
                    await self._say(messages.pong(message))
        except InfernoError as error:
            about = message.id if isinstance(message, Inference | Cancel) else None
            await self._say(messages.error_text(error, about))

    async def _authenticate(self, message: Auth) -> None:
        access = self._services.access
        if self._state.badge is not None and access.enabled:
            raise InvalidRequest("The connection is authenticated already.", field="type")
        token = message.token.encode("utf-8", "surrogatepass")
        self._state.badge = await access.present(self._scope, token)
        await self._say(messages.encode(type="auth", status="ok"))

    def _begin(self, message: Inference, tasks: asyncio.TaskGroup) -> None:
        stream = self._state.begin(message.id)
        self._quiet.clear()
        stream.task = tasks.create_task(self._infer(stream, message))

    def _cancel(self, message: Cancel) -> None:
        stream = self._state.cancel(message.id)
        # A task that has not begun would end without a word.
        if stream.started and stream.task is not None:
            stream.task.cancel()

    async def _infer(self, stream: Stream, message: Inference) -> None:
        """Work on one inference, and send its end."""
        stream.started = True
        begun = time.perf_counter()
        try:
            last = await self._outcome(stream, message, begun)
            stream.finished = True
            await self._say(last)
        except Gone:
            return
        finally:
            self._state.end(stream, time.monotonic())
            if not self._state.streams:
                self._quiet.set()

    async def _outcome(self, stream: Stream, message: Inference, begun: float) -> str:
        """Return the last message of an inference: its completion, or what went wrong."""
        error: InfernoError | None = None
        try:
            if not stream.cancelled:
                return await self._answer(stream, message, begun)
        except asyncio.CancelledError:
            if not (stream.cancelled or self._state.draining):
                raise
            if stream.task is not None:
                stream.task.uncancel()
            if not stream.cancelled:
                error = Overloaded("The server is shutting down; try again elsewhere.")
        except InfernoError as known:
            error = known
        except Gone:
            raise
        except Exception:
            log.exception("unexpected_error", request_id=stream.request_id, path=self._path)
            error = InfernoError("An internal error occurred; the log has it under the request id.")
        self._log(stream, begun, error)
        if error is not None:
            return messages.error_text(error, stream.id, stream.request_id)
        return self._completed(stream, message, Ending(CANCELLED, stream.usage), begun)

    async def _answer(self, stream: Stream, message: Inference, begun: float) -> str:
        """Have an inference answered as a request over HTTP is; return its completion.

        Raises:
            InfernoError: whatever such a request may meet with.
            Gone: the client has left.
        """
        scope = {**self._scope, "state": {"request_id": stream.request_id}}
        visit = await self._enter(scope)
        try:
            return await self._work(stream, message, scope, visit, begun)
        except PermissionDenied as error:
            self._services.access.note_denial(scope, visit, error)
            raise
        finally:
            await self._services.access.leave(visit)

    async def _enter(self, scope: Scope) -> Visit:
        """Let an inference in; who has been let in before may no longer be welcome."""
        badge = self._state.badge
        if badge is None:
            raise AuthenticationFailed("Send an 'auth' message with a valid token first.")
        try:
            return await self._services.access.enter(scope, badge)
        except AuthenticationFailed:
            self._state.forget(badge, time.monotonic())
            raise

    async def _work(
        self, stream: Stream, message: Inference, scope: Scope, visit: Visit, begun: float
    ) -> str:
        streamed = message.stream is not False
        require(visit.principal, Permission.RUN_INFERENCE)
        if streamed:
            require(visit.principal, Permission.USE_STREAMING)
        if message.grammar is not None:
            require(visit.principal, Permission.WRITE_CONFIG)
        call = call_for(message, self._services, stream.request_id)
        stream.tally = call.tally
        call.destination = destination_of(
            self._services, scope, visit, call.model, "text_completion"
        )
        await self._services.access.reserve(scope, visit, [call.tally])
        more: dict[str, Any] = {}
        with Observed(self._services, scope, visit, [call], "text_completion", streamed=streamed):
            if streamed:
                sent = functools.partial(self._stream, stream, call)
                ending = await repeated(sent, lambda: stream.sent == 0)
            else:
                answer = await whole_completion(self._services.forwarder, call)
                choice = answer.choices[0]
                ending = Ending(choice.finish_reason or "stop", answer.usage)
                more = {"text": choice.text}
        self._log(stream, begun, None)
        return self._completed(stream, message, ending, begun, **more)

    async def _stream(self, stream: Stream, call: Call) -> Ending:
        """Send an answer's tokens as they come, and return how it ended."""
        ending = Ending()
        async with aclosing(tokens(self._services.forwarder, call, ending)) as texts:
            async for text in texts:
                await self._say(messages.token(stream.id, text, stream.sent))
                stream.sent += 1
        return ending

    def _completed(
        self, stream: Stream, message: Inference, ending: Ending, begun: float, **more: Any
    ) -> str:
        return messages.complete(
            stream.id,
            message.model,
            ending,
            request_id=stream.request_id,
            processing_time_ms=round((time.perf_counter() - begun) * 1000),
            **more,
        )

    async def _say(self, text: str) -> None:
        """Send a message. Raises Gone where nobody is there any more."""
        await self._emit({"type": "websocket.send", "text": text})

    async def _emit(self, message: Message) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError):  # it left; or it was told of the end below ASGI
            raise Gone from None

    @property
    def _path(self) -> str:
        return str(self._scope["path"])

    def _log(self, stream: Stream, begun: float, error: InfernoError | None) -> None:
        """Log an inference as a request over HTTP is logged."""
        if error is None and not self._settings.access_log:
            return
        failed = error is not None and status_of(error) >= 500
        reason = {"error": type(error).__name__} if error else {}
        if failed:
            reason["message"] = str(error)
        (log.warning if failed else log.info)(
            "inference",
            request_id=stream.request_id,
            path=self._path,
            cancelled=stream.cancelled,
            duration_ms=round((time.perf_counter() - begun) * 1000, 2),
            **reason,
        )
