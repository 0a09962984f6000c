"""`AsyncClient`: calls that are awaited; see `blocking`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, nullcontext, suppress
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

import httpx2

from inferno.client import access, batches, models, openai, service, webhooks
from inferno.client import inference as native
from inferno.client.async_sockets import AsyncSocket
from inferno.client.batches import POLL_SECONDS, Batch, Progress
from inferno.client.calls import Call, as_method_of
from inferno.client.connection import TIMEOUT, Settings, events_of, is_answer, refusal, translated
from inferno.client.errors import ClientError
from inferno.client.events import StreamCall, cut_off
from inferno.client.retries import Retries, Tries

P = ParamSpec("P")
T = TypeVar("T")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Performs(Protocol):
    """What can make calls."""

    async def perform(self, call: Call[T]) -> T:
        """Make a call and return its result."""

    async def open(self, call: Call[Any]) -> httpx2.Response:
        """Make a call and return its answer, not read yet."""


def method(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[Performs, P], Coroutine[Any, Any, T]]:
    """Return a method that makes the call which a function describes."""

    @as_method_of(build)
    async def perform(self: Performs, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.perform(build(*args, **kwargs))

    return perform


def streamed(
    build: Callable[P, StreamCall[Piece, Result]],
) -> Callable[Concatenate[Performs, P], AsyncStream[Piece, Result]]:
    """Return a method that streams the answer to the call which a function describes."""

    @as_method_of(build)
    def perform(self: Performs, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[Piece, Result]:
        return AsyncStream(self, build(*args, **kwargs))

    return perform


class AsyncStream(Generic[Piece, Result]):
    """An answer that comes in pieces: iterate over it in an `async with`.

    The call is made when the block begins, or with the first piece. Leaving the block early, or
    `close`, ends the work on the platform's side too.

    Args:
        client: makes the call.
        call: to make.
    """

    def __init__(self, client: Performs, call: StreamCall[Piece, Result]) -> None:
        self._client = client
        self._call = call
        self._reader = call.reader()
        self._response: httpx2.Response | None = None
        self._events: AsyncIterator[httpx2.ServerSentEvent] | None = None

    async def __aenter__(self) -> Self:
        if self._response is None:
            self._response = await self._client.open(self._call.call)
            self._events = aiter(events_of(self._response))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        owner = self if self._response is None else None
        async with owner or nullcontext(), aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(self) -> AsyncGenerator[Piece, None]:
        if self._response is None or self._events is None or self._response.is_closed:
            return
        with translated():
            async for event in self._events:
                piece = self._reader.read(event.data)
                if piece is not None:
                    yield piece
                if self._reader.result is not None:
                    with suppress(httpx2.TransportError):  # at its end the connection is free again
                        async for _ in self._events:
                            pass
                    return
        raise cut_off()

    async def read(self) -> Result:
        """Read what is left, and return the whole answer."""
        async for _ in self:
            pass
        return self.result

    @property
    def result(self) -> Result:
        """The whole answer, once the last piece has come.

        Raises:
            RuntimeError: it has not come.
        """
        if self._reader.result is None:
            raise RuntimeError("The stream has not ended; read it to its end first.")
        return self._reader.result

    async def close(self) -> None:
        """End the stream."""
        if self._response is not None:
            await self._response.aclose()


class AsyncGroup:
    """Calls that belong together.

    Args:
        client: makes them.
    """

    def __init__(self, client: Performs) -> None:
        self.perform = client.perform
        self.open = client.open


class AsyncModels(AsyncGroup):
    """`client.models`."""

    list = method(models.list_models)
    get = method(models.get_model)
    load = method(models.load_model)
    unload = method(models.unload_model)


class AsyncBatches(AsyncGroup):
    """`client.batches`."""

    create = method(batches.create_batch)
    get = method(batches.get_batch)
    results = method(batches.batch_results)
    cancel = method(batches.cancel_batch)
    list = method(batches.list_batches)
    delete = method(batches.delete_batch)

    async def wait(
        self,
        batch_id: str,
        *,
        progress: Progress | None = None,
        poll_seconds: float = POLL_SECONDS,
        within: float | None = None,
    ) -> Batch:
        """Wait until a batch has ended, however it did.

        Args:
            batch_id: of the batch.
            progress: called with the batch at first, and whenever it has come further.
            poll_seconds: between two looks.
            within: seconds to wait in all; None waits for ever.

        Raises:
            TimeoutError: it goes on.
        """
        watch = batches.Watch(batch_id, progress, within)
        while not watch.look(await self.get(batch_id)):  # noqa: ASYNC110 - it is elsewhere
            await asyncio.sleep(watch.pause(poll_seconds))
        return watch.latest


class AsyncWebhooks(AsyncGroup):
    """`client.webhooks`."""

    create = method(webhooks.create_webhook)
    list = method(webhooks.list_webhooks)
    get = method(webhooks.get_webhook)
    change = method(webhooks.change_webhook)
    delete = method(webhooks.delete_webhook)
    rotate = method(webhooks.rotate_webhook)
    test = method(webhooks.test_webhook)
    deliveries = method(webhooks.list_deliveries)
    delivery = method(webhooks.get_delivery)
    resend = method(webhooks.resend)
    secret = method(webhooks.shared_secret)


class AsyncApiKeys(AsyncGroup):
    """`client.auth.api_keys`."""

    list = method(access.list_keys)
    get = method(access.get_key)
    create = method(access.create_key)
    change = method(access.change_key)
    rotate = method(access.rotate_key)
    revoke = method(access.revoke_key)


class AsyncUsers(AsyncGroup):
    """`client.auth.users`."""

    list = method(access.list_users)
    get = method(access.get_user)
    create = method(access.create_user)
    change = method(access.change_user)
    delete = method(access.delete_user)


class AsyncRateLimits(AsyncGroup):
    """`client.auth.rate_limits`."""

    list = method(access.list_limits)
    set = method(access.set_limits)
    usage = method(access.usage)
    reset = method(access.reset_usage)


class AsyncAuth(AsyncGroup):
    """`client.auth`."""

    login = method(access.login)
    refresh = method(access.refresh)
    logout = method(access.logout)
    change_password = method(access.change_password)
    me = method(access.me)

    def __init__(self, client: Performs) -> None:
        super().__init__(client)
        self.api_keys = AsyncApiKeys(client)
        self.users = AsyncUsers(client)
        self.rate_limits = AsyncRateLimits(client)


class AsyncAudit(AsyncGroup):
    """`client.audit`."""

    events = method(access.audit_events)
    verify = method(access.verify_audit)


class AsyncCaller:
    """What makes calls, for `async with`; tasks of one event loop may share it.

    Args:
        settings: where it connects, and as whom.
        retries: when calls are sent again.
    """

    def __init__(self, settings: Settings, retries: Retries) -> None:
        self._settings = settings
        self._retries = retries
        self._http = httpx2.AsyncClient(**settings.http_options)

    async def perform(self, call: Call[T]) -> T:
        """Make a call and return its result.

        Raises:
            ClientError: any of the tree.
        """
        response = await self.open(call)
        try:
            with translated():
                return call.read(await response.aread())
        finally:
            await response.aclose()

    async def open(self, call: Call[Any]) -> httpx2.Response:
        """Make a call, again where that may help, and return its answer, not read yet."""
        tries = Tries(self._retries, call)
        while True:
            try:
                return await self._send(call)
            except ClientError as error:
                pause = tries.pause_after(error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _send(self, call: Call[Any]) -> httpx2.Response:
        request = self._http.build_request(**self._settings.request(call))
        with translated():
            response = await self._http.send(request, stream=True)
            if is_answer(call, response.status_code):
                return response
            try:
                body = await response.aread()
            finally:
                await response.aclose()
        raise refusal(call, response.status_code, response.headers, body)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncClient(AsyncCaller):
    """A client of one platform, for one event loop; tasks may share it.

    Args:
        url: base of the inference API; default `INFERNO_URL`, else `http://localhost:8080`.
        api_key: an API key or a token; default `INFERNO_API_KEY`.
        timeout: seconds between two parts of an answer; a model may have to be loaded first.
        retries: when calls are sent again.
        tls: how servers prove who they are; None for the usual authorities.

    Raises:
        ValueError: the URL is none.
    """

    health = method(service.health)
    live = method(service.live)
    ready = method(service.ready)
    metrics = method(service.metrics)
    metrics_json = method(service.metrics_json)
    metrics_snapshot = method(service.metrics_snapshot)
    custom_metric = method(service.custom_metric)
    delete_custom_metric = method(service.delete_custom_metric)
    traces = method(service.traces)
    inference = method(native.inference)
    stream = streamed(native.stream)
    embeddings = method(native.embeddings)
    chat = method(openai.chat)
    stream_chat = streamed(openai.stream_chat)
    completions = method(openai.completions)
    stream_completions = streamed(openai.stream_completions)

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(Settings.of(url, api_key, timeout, tls), retries)
        self.models = AsyncModels(self)
        self.batches = AsyncBatches(self)
        self.webhooks = AsyncWebhooks(self)
        self.auth = AsyncAuth(self)
        self.audit = AsyncAudit(self)

    def connect(self) -> AsyncSocket:
        """Open a WebSocket, on which many inferences can run at once; use it in an `async with`."""
        return AsyncSocket(self._settings)
