from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from inferno.core.errors import InvalidRequest, PayloadTooLarge
from inferno.server.uploads import Form, plain_name

TYPE = "multipart/form-data; boundary=x"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    more = f'; filename="{filename}"' if filename is not None else ""
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


async def read(body: bytes, *, size: int = 7, content_type: str = TYPE) -> tuple[Form, bytes]:
    """Read a form that arrives in pieces of a size."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    received = bytearray()

    async def receive(piece: bytes) -> None:
        received.extend(piece)

    form = Form("file")
    await form.read(content_type, pieces(), receive)
    return form, bytes(received)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_form_in_any_order_and_any_pieces(size: int) -> None:
    content = b"a\r\n--y\r\n\x00\xff"
    for body in (
        part("purpose", b"batch") + part("file", content, "a.jsonl"),
        part("file", content, "a.jsonl") + part("purpose", b"batch"),
    ):
        form, received = await read(body + b"--x--\r\n", size=size)
        assert received == content
        assert form.fields == {"purpose": "batch"}
        assert form.filename == "a.jsonl"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        part("file", b"x", "a"),
        part("purpose", b"batch") + b"--x--\r\n",
        part("file", b"x", "a") * 2 + b"--x--\r\n",
        part("a", b"x") * 40 + part("file", b"x", "a") + b"--x--\r\n",
        b"--y\r\n\r\n",
        b"--x\r\nA" * 3,
        b"--x\r\n" + b"A: " + b"b" * 20_000 + b"\r\n\r\nx\r\n--x--\r\n",
    ],
)
async def test_what_is_no_such_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await read(body)


async def test_fields_have_an_end() -> None:
    with pytest.raises(PayloadTooLarge):
        await read(part("purpose", b"x" * 100_000), size=4096)


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x"])  # fmt: skip  # noqa: E501
async def test_other_types_are_refused(kind: str) -> None:
    with pytest.raises(InvalidRequest):
        await read(part("file", b"x", "a") + b"--x--\r\n", content_type=kind)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (b"a.jsonl", "a.jsonl"),
        (b"../../etc/passwd", "passwd"),
        (b"C:\\temp\\a.txt", "a.txt"),
        (b"a\x00\x1b[31m.txt", "a[31m.txt"),
        (b"..", ".."),
        (b"", "file"),
        (b"/", "file"),
        (b"\xff", "\ufffd"),
        (b"x" * 300, "x" * 255),
    ],
)
def test_names_are_only_names(given: bytes, shown: str) -> None:
    assert plain_name(given) == shown


async def test_a_boundary_that_is_too_long() -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        await read(b"", content_type=f"multipart/form-data; boundary={'b' * 5000}")
