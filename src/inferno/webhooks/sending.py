"""One attempt: a name resolved, its addresses checked, a request sent to one of those very ones.

Connections are made to the checked address, not to the name, so a name server that answers
differently the second time changes nothing. No redirects, no proxies, no cookies, no kept
connections; the answer's body is not looked at. One deadline holds for all of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from inferno.core.errors import InvalidRequest
from inferno.webhooks.guard import Address, Guard, Target
from inferno.webhooks.resolving import Resolve, resolve
from inferno.webhooks.schedule import retry_after_of

if TYPE_CHECKING:
    import ssl

    import httpx2

DRAINED = 64 * 1024
DRAIN_SECONDS = 1.0
"""Of an answer's body, so much is taken so that honest receivers see no broken connection."""

MAX_ERROR = 255

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt.

    Args:
        status: of the answer; None where there was none.
        error: what went wrong, for whoever set the webhook up; empty where nothing did.
        retry_after: seconds that the receiver asked us to wait.
        duration_ms: how long it took.
        refused: whether nothing was sent, because the address is none that is open to us.
    """

    status: int | None
    error: str
    retry_after: float | None = None
    duration_ms: int = 0
    refused: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the receiver has taken the delivery."""
        return self.status is not None and 200 <= self.status < 300


class _Failed(Exception):
    """The attempt got no answer; says why."""


class _Closed(_Failed):
    """The address is not open to us."""


def _warn(host: str, address: Address) -> None:
    log.warning("webhook_address_refused", host=host, address=str(address))


class Sender:
    """Sends requests to addresses that callers named.

    Args:
        guard: says which may be connected to.
        timeout: seconds for a whole attempt.
        resolve: how names become addresses.
        on_refusal: told of names that lead to addresses that are not open to us.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        timeout: float,
        resolve: Resolve = resolve,
        on_refusal: Callable[[str, Address], None] = _warn,
    ) -> None:
        self._guard = guard
        self._on_refusal = on_refusal
        self._timeout = timeout
        self._resolve = resolve
        self._tls: ssl.SSLContext | None = None

    async def load(self) -> None:
        """Get ready beside the event loop: libraries and certificates take a while to load."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(_how_to_trust)

    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes, *, method: str = "POST"
    ) -> Answer:
        """Send one request and return what came of it; never raises for what others do."""
        await self.load()
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                status, retry_after = await self._exchange(method, url, headers, body)
        except TimeoutError:
            answer = Answer(None, f"No answer within {self._timeout:g} seconds.")
        except _Failed as error:
            closed = isinstance(error, _Closed)
            answer = Answer(None, str(error)[:MAX_ERROR], refused=closed)
        else:
            answer = Answer(status, _complaint(status), retry_after)
        took = round((time.monotonic() - begun) * 1000)
        return replace(answer, duration_ms=took)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, float | None]:
        try:
            target = self._guard.check_url(url)
        except InvalidRequest as error:
            raise _Closed(error.message) from None
        failure = _Failed("The name has no address.")
        addresses = await self._addresses(target)
        # One that swallows packets must leave time for the next.
        connect = self._timeout / (len(addresses) + 1)
        for address in addresses:
            request = _Request(method, target, address, headers, body, connect)
            try:
                return await self._ask(request)
            except _NotConnected as error:
                failure = _Failed(str(error))
        raise failure

    async def _addresses(self, target: Target) -> list[Address]:
        """Return a target's addresses. Raises _Failed unless all of them are open to us."""
        try:
            addresses = await self._resolve(target.host)
        except OSError:
            raise _Failed("The name cannot be resolved.") from None
        for address in addresses:
            if not self._guard.permits(target.host, address):
                self._on_refusal(target.host, address)
                # Not which address: names inside the operator's network are nobody's business.
                raise _Closed(
                    "The name leads to an address that is not public; the operator can open it "
                    f"with the setting '{self._guard.setting}'."
                )
        return addresses

    async def _ask(self, request: _Request) -> tuple[int, float | None]:
        import httpx2

        verify = True if self._tls is None else self._tls
        transport = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False, http2=False)
        async with transport:
            try:
                response = await transport.handle_async_request(request.built())
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                raise _NotConnected(_reason(error)) from None
            except (httpx2.TransportError, httpx2.InvalidURL, OSError) as error:
                raise _Failed(f"The connection broke off ({type(error).__name__}).") from None
            await _drain(response)
            return response.status_code, retry_after_of(response.headers.get("retry-after"))


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to one address of a target.

    Args:
        method: of HTTP.
        target: whom the request names.
        address: whom it goes to.
        headers: beside `Host`.
        body: what is sent.
        connect: seconds to connect in.
    """

    method: str
    target: Target
    address: Address
    headers: Mapping[str, str]
    body: bytes
    connect: float

    def built(self) -> httpx2.Request:
        """Return the request as the HTTP library takes it."""
        import httpx2

        address = self.address
        url = httpx2.URL(
            scheme=self.target.scheme,
            host=f"[{address}]" if address.version == 6 else str(address),
            port=self.target.port,
            raw_path=self.target.resource.encode("ascii"),
        )
        return httpx2.Request(
            self.method,
            url,
            headers={"host": self.target.authority, "accept": "*/*", **self.headers},
            content=self.body,
            # The certificate has to be the name's, whatever the address is.
            extensions={"sni_hostname": self.target.host, "timeout": {"connect": self.connect}},
        )


def _how_to_trust() -> ssl.SSLContext:
    """Return how certificates are checked: by those that the system trusts, or SSL_CERT_FILE."""
    import httpx2

    return httpx2.create_ssl_context()


class _NotConnected(Exception):
    """The address does not answer; another one may."""


def _reason(error: Exception) -> str:
    text = str(error)
    if "CERTIFICATE" in text or "certificate" in text:
        return f"The certificate is not trusted: {text}"
    if "SSL" in text or "TLS" in text:
        return f"TLS failed: {text}"
    return "No connection could be made."


def _complaint(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed."
    return f"The receiver answered {status}."


async def _drain(response: httpx2.Response) -> None:
    """Take a little of a body that nobody reads; the status has said it all."""
    import httpx2

    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            taken = 0
            async for piece in response.aiter_raw():
                taken += len(piece)
                if taken > DRAINED:
                    break
    except (TimeoutError, httpx2.HTTPError, OSError):
        return
    finally:
        await response.aclose()
