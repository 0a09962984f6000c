"""Attempts over real sockets: the address that was checked is the one that is connected to."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from inferno.webhooks.guard import Address, Guard
from inferno.webhooks.resolving import Resolve, resolve
from inferno.webhooks.sending import Sender
from tests.acceptance.receiver import Receiver

OPEN = Guard.of(["127.0.0.0/8"])


def resolving(*texts: str) -> tuple[Resolve, list[str]]:
    """Return a name server's answer, and what it was asked."""
    asked: list[str] = []

    async def answer(host: str) -> list[Address]:
        asked.append(host)
        return [ipaddress.ip_address(text) for text in texts]

    return answer, asked


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """No name server knows this name: whoever asked again would get nowhere."""
    names, asked = resolving("127.0.0.1")
    with Receiver() as receiver:
        sender = Sender(OPEN, timeout=10, resolve=names)
        answer = await sender.send(receiver.url(host="rebinding.invalid"), {"x-a": "b"}, b"{}")
    assert answer.accepted, answer.error
    assert asked == ["rebinding.invalid"]
    assert receiver.received[0].headers["host"] == f"rebinding.invalid:{receiver.port}"
    assert receiver.received[0].headers["x-a"] == "b"
    assert "cookie" not in receiver.received[0].headers


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"]])
async def test_one_closed_address_closes_the_name(addresses: list[str]) -> None:
    names, _ = resolving(*addresses)
    with Receiver() as receiver:
        sender = Sender(Guard(), timeout=10, resolve=names)
        answer = await sender.send(receiver.url(host="mixed.invalid"), {}, b"{}")
        assert receiver.connections == 0
    assert answer.status is None
    assert "not public" in answer.error
    assert "127.0.0.1" not in answer.error


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    names, _ = resolving("127.0.0.2", "127.0.0.1")
    with Receiver() as receiver:
        sender = Sender(OPEN, timeout=10, resolve=names)
        answer = await sender.send(receiver.url(host="two.invalid"), {}, b"{}")
    assert answer.accepted, answer.error


async def test_a_name_without_address_is_said_so() -> None:
    with Receiver() as receiver:
        answer = await Sender(OPEN, timeout=10).send(receiver.url(host="no.invalid"), {}, b"{}")
    assert answer.error == "The name cannot be resolved."


async def test_a_listener_that_never_accepts_ends_with_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        answer = await Sender(OPEN, timeout=0.3).send(url, {}, b"x" * 100_000)
    assert answer.error == "No answer within 0.3 seconds."


async def test_names_are_resolved_by_the_system() -> None:
    assert await resolve("127.0.0.1") == [ipaddress.ip_address("127.0.0.1")]
    assert ipaddress.ip_address("127.0.0.1") in await resolve("localhost")
    with pytest.raises(OSError, match=r".+"):
        await resolve("no-such-name.invalid")
