"""Downloads over HTTP that survive dropped connections, killed processes and hostile servers.

Uses `httpx2`, which huggingface-hub brings: the hub's client and this one then share one set of
proxy and certificate settings. fsspec's HTTP file system would need aiohttp, and cannot bind a
range to one state of the file (`If-Range`), so it does not help with resuming.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inferno.core.errors import InvalidRequest, NotFound
from inferno.models.incoming import Part
from inferno.models.transfer import InstallFailed, Transfer, disk_full

if TYPE_CHECKING:
    import httpx2

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
_MAX_REDIRECTS = 10
_MAX_ATTEMPTS = 1000  # that got at least a byte further
_MAX_FAILURES = 4  # in a row, that did not
_BACKOFF_SECONDS = 0.2
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What to download.

    Args:
        url: http or https.
        headers: sent to the address's own host, and to none that it redirects to.
        size: bytes that the file must have, where it is known.
        accept_size: called with the size once it is known; may raise to decline.
        report: called with the bytes that are there and the size.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    accept_size: Callable[[int], None]
    report: Callable[[int, int | None], None]


class _Interrupted(Exception):
    """The attempt broke off; another may get further."""


def download(wanted: Download, part: Part, transfer: Transfer) -> None:
    """Downloads a file, going on where an earlier attempt or process stopped.

    Blocks: run it in a thread. Whatever ends it, the bytes that came stay in the part.

    Args:
        wanted: the file.
        part: where its bytes go.
        transfer: the install that it belongs to.

    Raises:
        NotFound: the server has no such file.
        InvalidRequest: the address is malformed.
        InstallFailed: the server refused, misbehaved or could not be reached.
        OSError: the disk failed.
    """
    import httpx2

    timeout = httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
    failures = 0
    try:
        with httpx2.Client(timeout=timeout, follow_redirects=False) as client:
            for _ in range(_MAX_ATTEMPTS):
                before = part.size
                try:
                    return _attempt(client, wanted, part, transfer)
                except (_Interrupted, httpx2.TransportError) as error:
                    transfer.check()  # a broken connection is how cancelling looks from here
                    failures = 0 if part.size > before else failures + 1
                    if failures >= _MAX_FAILURES:
                        raise _unreachable(wanted, error) from error
                transfer.wait(_BACKOFF_SECONDS * 2**failures)
            raise _unreachable(wanted, "the connection keeps breaking")
    except httpx2.InvalidURL as error:
        raise InvalidRequest(f"The address is malformed: {error}.", field="source") from error
    finally:
        transfer.abort_with(None)


def _attempt(client: httpx2.Client, wanted: Download, part: Part, transfer: Transfer) -> None:
    origin = part.origin(wanted.url)
    start = part.size if origin else 0
    if origin and origin.size:
        # of a complete file the last byte is asked for again: only the server can tell whether
        # it is still the same file
        start = min(start, origin.size - 1)
    headers = {**wanted.headers, "Accept-Encoding": "identity"}
    if origin and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": origin.validator}
    with _response(client, wanted.url, headers, transfer) as response:
        _check_status(response, part)
        begin, total = _span(response, start, part)
        _check_size(wanted, total, transfer, part, begin)
        if response.status_code == 200:
            part.restart(wanted.url, _validator(response), total)
        _receive(response, begin, total, wanted, part, transfer)


@contextmanager
def _response(
    client: httpx2.Client, address: str, headers: dict[str, str], transfer: Transfer
) -> Iterator[httpx2.Response]:
    """Sends the request and follows redirects, without taking credentials along."""
    import httpx2

    url = httpx2.URL(address)
    for _ in range(_MAX_REDIRECTS + 1):
        if url.scheme not in ("http", "https") or not url.host:
            raise _bad_answer("leads to an address that is neither http nor https")
        extensions = {"trace": _connection_watch(transfer)}
        with client.stream("GET", url, headers=headers, extensions=extensions) as response:
            if response.status_code not in _REDIRECTS:
                yield response
                return
            target = url.join(response.headers.get("Location", ""))
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            headers = {
                name: value
                for name, value in headers.items()
                if name.lower() not in ("authorization", "cookie")
            }
        url = target
    raise _bad_answer(f"redirects more than {_MAX_REDIRECTS} times")


def _connection_watch(transfer: Transfer) -> Callable[[str, Mapping[str, Any]], None]:
    """Lets cancelling break the connection's wait, as soon as there is a connection."""

    def trace(_event: str, info: Mapping[str, Any]) -> None:
        stream = info.get("return_value")
        if stream is None or not hasattr(stream, "get_extra_info"):
            return
        connected = stream.get_extra_info("socket")

        def abort() -> None:
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

        transfer.abort_with(abort)
        transfer.check()  # cancelled just before: nobody would call it any more

    return trace


def _check_status(response: httpx2.Response, part: Part) -> None:
    status = response.status_code
    if status in (200, 206):
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise _bad_answer(f"sends the file in the encoding '{encoding[:40]}'")
        return
    if status == 416:  # the file there is shorter than what we have: it is another one
        part.discard()
        raise _Interrupted("the file has changed")
    if status in (404, 410):
        raise NotFound("The server has no model file at this address.")
    if status in (401, 403):
        raise InstallFailed(
            "AccessDenied",
            "The server does not let us have the file. Give a token that may read it, and accept "
            "the model's terms there if it has any.",
        )
    if status in _PASSING:
        raise _Interrupted(f"the server answers {status}")
    raise _bad_answer(f"answers {status}")


def _span(response: httpx2.Response, start: int, part: Part) -> tuple[int, int | None]:
    """From which byte on the body is, and how long the whole file is."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not match or not start or int(match[1]) != start:
        part.discard()
        raise _bad_answer("sends another part of the file than it was asked for")
    return start, None if match[3] == "*" else int(match[3])


def _check_size(
    wanted: Download, total: int | None, transfer: Transfer, part: Part, begin: int
) -> None:
    known = part.origin(wanted.url)
    if begin and known and total is not None and known.size not in (None, total):
        part.discard()
        raise _bad_answer("sends a part of a file of another size")
    if total is None:
        return
    if wanted.size is not None and total != wanted.size:
        raise _bad_answer(f"sends {total} bytes where the model has {wanted.size}")
    if total > transfer.max_bytes:
        raise _too_large(transfer)
    wanted.accept_size(total)
    if shutil.disk_usage(part.path.parent).free < total - begin:
        raise disk_full()


def _receive(
    response: httpx2.Response,
    position: int,
    total: int | None,
    wanted: Download,
    part: Part,
    transfer: Transfer,
) -> None:
    with part.open_at(position) as file:
        # pieces as they come: collecting larger ones would lose them when the connection breaks
        for piece in response.iter_raw():
            transfer.check()
            position += len(piece)
            if total is not None and position > total:
                raise _bad_answer("sends more than it announced")
            if position > transfer.max_bytes:
                file.truncate(0)
                raise _too_large(transfer)
            file.write(piece)
            wanted.report(position, total)
    if total is not None and position < total:
        raise _Interrupted("the connection broke")
    wanted.report(position, position)


def _validator(response: httpx2.Response) -> str:
    """What ties a range to this state of the file; HTTP allows no weak tags for that."""
    tag: str = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    date: str = response.headers.get("Last-Modified", "")
    return date


def _unreachable(wanted: Download, error: object) -> InstallFailed:
    import httpx2

    detail = str(error) or type(error).__name__
    return InstallFailed(
        "Unreachable",
        f"The file could not be downloaded from {httpx2.URL(wanted.url).host}: {detail}. What "
        "came so far is kept: install again to go on.",
    )


def _bad_answer(what: str) -> InstallFailed:
    return InstallFailed("BadAnswer", f"The server {what}; nothing was installed.")


def _too_large(transfer: Transfer) -> InstallFailed:
    return InstallFailed(
        "TooLarge",
        f"The file is larger than the {transfer.max_bytes} bytes that a model may have here.",
        limit_bytes=transfer.max_bytes,
    )
