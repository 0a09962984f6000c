"""A registry somewhere else, as somebody sees it who has an entry there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from inferno.registry.calls import ENTRIES, ENTRY
from inferno.registry.entries import ID, Document
from inferno.version import __version__

if TYPE_CHECKING:
    import httpx2

SECONDS = 10.0
"""How long a registry may take to answer."""

LONGEST_ANSWER = 30.0
"""How long all of its answer may take, in however many pieces."""

MAX_ANSWER_BYTES = 2**20

LONGEST_WAIT = 3600.0
"""No registry makes us wait longer than this."""


class Away(Exception):
    """The registry cannot be asked now; it may be back in a while.

    Args:
        reason: for whoever reads the log.
        wait: seconds that it asked for; 0 where it did not.
    """

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class Refused(Exception):
    """The registry says no, and would say so again.

    Args:
        status: of the answer.
        message: what it says.
        field: which field is wrong, or which another entry has; empty where it does not say.
    """

    def __init__(self, status: int, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field


class RemoteRegistry:
    """Calls of one registry; each raises Away or Refused.

    Args:
        url: of the control plane that has it.
        token: returns an API key or a token, and may be asked again; None shows none.
    """

    def __init__(self, url: str, token: Callable[[], str | None]) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._http: httpx2.AsyncClient | None = None

    async def create(self, entry: Document) -> None:
        """Register an entry."""
        await self._ask("POST", ENTRY, entry)

    async def update(self, id_: str, entry: Document) -> None:
        """Set the fields of an entry."""
        await self._ask("PUT", _path(id_), {"$set": entry})

    async def beat(self, id_: str) -> None:
        """Keep an entry alive."""
        await self._ask("POST", f"{_path(id_)}/heartbeat")

    async def delete(self, id_: str) -> None:
        """Remove an entry."""
        await self._ask("DELETE", _path(id_))

    async def mine(self, filter_: Mapping[str, Any]) -> list[Document]:
        """Return the caller's own entries that match."""
        found = await self._ask("POST", ENTRIES, {"filter": filter_, "mine": True, "limit": 10})
        if not isinstance(found, list):
            return []
        return [one for one in found if isinstance(one, dict) and isinstance(one.get(ID), str)]

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the `data` of an answer."""
        import httpx2

        if self._http is None:
            self._http = httpx2.AsyncClient(timeout=SECONDS, follow_redirects=False)
        headers = {
            "user-agent": f"inferno/{__version__}",
            "accept-encoding": "identity",  # what is small when it comes stays small
            **self._credentials(),
        }
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = msgspec.json.encode(body)
        url = self.url + path
        try:
            async with (
                asyncio.timeout(LONGEST_ANSWER),
                self._http.stream(method, url, content=content, headers=headers) as response,
            ):
                text = b""
                async for piece in response.aiter_raw():
                    text += piece
                    if len(text) > MAX_ANSWER_BYTES:
                        raise Away("its answer is larger than that of any registry")
        except TimeoutError:
            raise Away(f"its answer took longer than {LONGEST_ANSWER:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Away(str(error) or type(error).__name__) from None
        return _data(response.status_code, response.headers, text)

    def _credentials(self) -> dict[str, str]:
        try:
            token = self._token()
        except OSError as error:
            raise Away(f"the token cannot be read: {error.strerror}") from None
        if token is not None and not (token.isascii() and token.isprintable()):
            raise Away("the token is none that a header can carry")  # others would show it
        return {} if token is None else {"authorization": f"Bearer {token}"}


def _path(id_: str) -> str:
    return f"{ENTRY}/{quote(id_, safe='')}"


def _data(status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """Return what a registry's answer carries. Raises Away, Refused."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    said = content if isinstance(content, dict) else {}
    if 200 <= status < 300 and said.get("success") is True:
        return said.get("data")
    message = said.get("error")
    text = (
        message[:300] if isinstance(message, str) else f"It answered {status}, as no registry does."
    )
    if status == 429 or status >= 500:
        raise Away(text, wait=_wait(headers.get("retry-after")))
    details = said.get("details")
    name = details.get("field") if isinstance(details, dict) else None
    raise Refused(status, text, name if isinstance(name, str) else "")


def _wait(retry_after: str | None) -> float:
    """Return the seconds that `Retry-After` asks for (RFC 9110, 10.2.3); 0 for a date."""
    if retry_after is None or not retry_after.strip().isdecimal():
        return 0.0
    return min(float(retry_after), LONGEST_WAIT)
