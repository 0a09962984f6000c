"""Where the keys of an outside issuer come from, and how they are kept fresh.

Keys are fetched off the event loop, within bounds on time and size, at a pace that callers cannot
quicken. What the bytes mean is told by whoever makes a source.
"""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, TypeAlias
from urllib.error import HTTPError
from urllib.parse import urlsplit

import structlog

from inferno.core.errors import ConfigurationError
from inferno.identity.compact import Header
from inferno.identity.issuer_settings import is_safe_url
from inferno.identity.verification_keys import VerificationKey

log = structlog.get_logger(__name__)

MAX_KEYS_BYTES = 1 << 20

REFRESH_SECONDS = 600.0
"""Keys are looked at again after ten minutes of use."""

RETRY_SECONDS = 10.0
"""Between two fetches, whatever asks for them."""

MAX_AGE_SECONDS = 86_400.0
"""How long keys are trusted while their source does not answer."""

FETCH_TIMEOUT = 5.0
"""Seconds without an answer, or a byte more of one."""

FETCH_DEADLINE = 15.0
"""Seconds for all of it."""


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not to where the settings do not trust."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise HTTPError(req.full_url, code, "redirected to another host", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    # Put together by hand: the usual one opens file:, ftp: and data: as well.
    opener = urllib.request.OpenerDirector()
    for handler in (
        # What is asked of this machine in clear text stays on it.
        urllib.request.ProxyHandler({} if url.startswith("http:") else None),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameOrigin(),
    ):
        opener.add_handler(handler)
    return opener


def fetch_over_http(url: str) -> bytes:
    """Return what is at a URL; blocks, with bounds on time and size.

    Raises:
        OSError: no answer, an answer of failure, or one that is too slow.
        ValueError: the URL is not a safe one, or the answer is larger than 1 MiB.
    """
    if not is_safe_url(url):
        raise ValueError("the URL is not https")
    deadline = time.monotonic() + FETCH_DEADLINE
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
    try:
        with _opener(url).open(request, timeout=FETCH_TIMEOUT) as response:
            return _body(response, deadline)
    except HTTPError as answer:
        answer.close()  # it holds the connection
        raise


def _body(response: HTTPResponse, deadline: float) -> bytes:
    body = b""
    # Read piece by piece: each may take the whole timeout, all of them may not.
    while chunk := response.read1(65_536):
        body += chunk
        if len(body) > MAX_KEYS_BYTES:
            raise ValueError("the answer is larger than 1 MiB")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer takes too long")
    return body


Fetch: TypeAlias = Callable[[str], bytes]


class KeySource:
    """The keys of one issuer, kept fresh; to be used on one event loop.

    A fetch begins when keys are ten minutes old or a token names a key that is not there, never
    more often than every ten seconds, and never twice at a time. Callers whose key is at hand do
    not wait; the others wait for the fetch that is under way, within bounds.

    Args:
        name: the issuer, for the log.
        read: returns what holds the keys; blocks; runs in a thread.
        parse: makes keys of it.
        wait: seconds that callers wait for a fetch, counted from its start.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], bytes],
        parse: Callable[[bytes], tuple[VerificationKey, ...]],
        *,
        wait: float,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._read = read
        self._parse = parse
        self._wait = wait
        self._clock = clock
        self._keys: tuple[VerificationKey, ...] = ()
        self._loaded_at = float("-inf")
        self._tried_at = float("-inf")
        self._under_way: asyncio.Event | None = None
        self._is_fetching = False
        self.version = 0
        """Changes when the keys do."""

    def load(self) -> None:
        """Read the keys now.

        Raises:
            ConfigurationError: they cannot be read.
        """
        try:
            keys = self._parse(self._read())
        except (OSError, ValueError) as problem:
            raise ConfigurationError(
                f"Token issuer '{self._name}': its keys cannot be read: {problem}"
            ) from problem
        self._accept(keys)

    def look(self) -> int | None:
        """Return the version of the keys in use, or None where there are none to be trusted.

        Begins to fetch them anew in the background when they are old.
        """
        now = self._clock()
        age = now - self._loaded_at
        if age >= REFRESH_SECONDS and self._may_fetch(now):
            self._begin(now)
        return self.version if age < MAX_AGE_SECONDS else None

    async def find(self, header: Header) -> Sequence[VerificationKey]:
        """Return the keys that may have signed a token with this header."""
        found = self._matching(header)
        if found:
            return found
        now = self._clock()
        if self._may_fetch(now):
            self._begin(now)
        if self._under_way is not None:
            await self._under_way.wait()
            found = self._matching(header)
        return found

    def _matching(self, header: Header) -> Sequence[VerificationKey]:
        if self.look() is None or (header.key_id is None and len(self._keys) > 1):
            return ()
        return [key for key in self._keys if key.matches(header)]

    def _may_fetch(self, now: float) -> bool:
        return not self._is_fetching and now - self._tried_at >= RETRY_SECONDS

    def _begin(self, now: float) -> None:
        self._tried_at = now
        self._is_fetching = True
        loop = asyncio.get_running_loop()
        # One timer for all who wait, however many: after it nobody waits for this fetch.
        self._under_way = asyncio.Event()
        loop.call_later(self._wait, self._under_way.set)
        # A daemon, not the loop's executor: a source that hangs must not delay the way out.
        threading.Thread(
            target=self._fetch, args=(loop,), name=f"keys of {self._name}", daemon=True
        ).start()

    def _fetch(self, loop: asyncio.AbstractEventLoop) -> None:
        outcome: tuple[VerificationKey, ...] | Exception
        try:
            outcome = self._parse(self._read())
        except Exception as problem:
            outcome = problem  # whatever it is, those who wait must be woken
        try:
            loop.call_soon_threadsafe(self._end, outcome)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    def _end(self, outcome: tuple[VerificationKey, ...] | Exception) -> None:
        self._is_fetching = False
        if isinstance(outcome, Exception):
            expected = isinstance(outcome, OSError | ValueError | HTTPException)
            log.warning(
                "keys of a token issuer could not be fetched",
                issuer=self._name,
                problem=str(outcome) if expected else type(outcome).__name__,
            )
        else:
            self._accept(outcome)
        if self._under_way is not None:
            self._under_way.set()

    def _accept(self, keys: tuple[VerificationKey, ...]) -> None:
        self._loaded_at = self._clock()
        if keys != self._keys:
            self._keys = keys
            self.version += 1
