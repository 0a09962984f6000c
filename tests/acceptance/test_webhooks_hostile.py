"""Receivers that are slow, down, redirecting or lying, and callers who name what is not theirs."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from inferno.webhooks.places import PER_TENANT
from tests.acceptance.access import NO_MODEL, UNLIMITED, as_caller, make_key, make_user
from tests.acceptance.certificates import authority_and_server
from tests.acceptance.platform import Platform
from tests.acceptance.receiver import Received, Receiver, answer
from tests.acceptance.webhooks import MANY, OPEN, send_test, settled, subscribe, tried

IMPATIENT = {"INFERNO_WEBHOOK_TIMEOUT": "1.5"}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that gives receivers little time."""
    data = tmp_path_factory.mktemp("impatient") / "data"
    environment = {**NO_MODEL, **OPEN, **MANY, **IMPATIENT, **UNLIMITED}
    with Platform(data, environment=environment) as running:
        yield running


@pytest.fixture
def closed(start: Callable[..., Platform]) -> Platform:
    """A platform whose operator has opened nothing."""
    return start(environment=NO_MODEL)


@contextlib.contextmanager
def talking(*, send: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that says what it likes on every connection; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            send(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_redirects_are_not_followed(impatient: Platform) -> None:
    with Receiver() as elsewhere, Receiver() as receiver:
        for status in (301, 302, 307, 308):
            receiver.respond = answer(status, location=elsewhere.url())
            id_ = send_test(impatient, subscribe(impatient, receiver.url()))
            shown = tried(impatient, id_)
            assert "redirects are not followed" in shown["last_error"]
        assert elsewhere.received == []


def test_a_receiver_that_is_down_is_tried_again(impatient: Platform) -> None:
    with Receiver() as receiver:
        port = receiver.port
        webhook = subscribe(impatient, receiver.url())
    id_ = send_test(impatient, webhook)
    shown = tried(impatient, id_)
    assert shown["last_error"] == "No connection could be made."
    with Receiver(port=port) as receiver:
        settled(impatient, id_, "delivered")
        assert receiver.received[0].id == id_


def test_heads_that_drip_end_with_the_deadline(impatient: Platform) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in range(1000):
            connection.sendall(b"x-%d: y\r\n" % number)
            time.sleep(0.1)

    with talking(send=drip) as url:
        shown = tried(impatient, send_test(impatient, subscribe(impatient, url)))
    assert shown["last_error"] == "No answer within 1.5 seconds."


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 999999 what\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: " + b"x" * 2_000_000 + b"\r\n\r\n",
        b"",
    ],
    ids=["another protocol", "no status", "endless head", "nothing"],
)
def test_nonsense_is_no_delivery(impatient: Platform, nonsense: bytes) -> None:
    with talking(send=lambda connection: connection.sendall(nonsense)) as url:
        shown = tried(impatient, send_test(impatient, subscribe(impatient, url)))
    assert shown["status"] == "pending"
    assert shown["last_status_code"] is None
    assert "broke off" in shown["last_error"]


def test_bodies_are_not_waited_for(impatient: Platform) -> None:
    """The status has said it all: neither a body without end nor a broken one changes it."""

    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    def broken(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n")

    def dripping(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.05)

    for send in (endless, broken, dripping):
        with talking(send=send) as url:
            settled(impatient, send_test(impatient, subscribe(impatient, url)), "delivered")


def test_one_tenants_dead_receivers_hold_up_nobody_else(start: Callable[..., Platform]) -> None:
    """More deliveries hang than a tenant has places; another tenant's goes all the same."""
    patient = {"INFERNO_WEBHOOK_TIMEOUT": "300"}
    platform = start(environment={**NO_MODEL, **OPEN, **MANY, **UNLIMITED, **patient})
    make_user(platform, "other", tenant="other")
    key = make_key(platform, "other").secret
    end = threading.Event()

    def hang(_: BaseHTTPRequestHandler, __: Received) -> None:
        end.wait(200)

    with Receiver(hang) as dead, Receiver() as alive:
        for n in range(PER_TENANT + 6):
            send_test(platform, subscribe(platform, dead.url(f"/{n}")))
        dead.wait(PER_TENANT)
        mine = subscribe(platform, alive.url("/mine"), key=key)
        with as_caller(platform, key) as client:
            client.post(f"/webhooks/{mine['id']}/test").raise_for_status()
        assert alive.wait()[0].path == "/mine"
        assert len(dead.received) == PER_TENANT
        end.set()


def test_certificates_are_checked(start: Callable[..., Platform], tmp_path: Path) -> None:
    trusted, right = authority_and_server(tmp_path, "127.0.0.1")
    (tmp_path / "wrong").mkdir()
    _, wrong_name = authority_and_server(tmp_path / "wrong", "elsewhere.example")
    environment = {**NO_MODEL, **OPEN, "SSL_CERT_FILE": str(trusted)}
    platform = start(environment=environment)
    with Receiver(tls=right) as receiver, Receiver(tls=wrong_name) as impostor:
        settled(platform, send_test(platform, subscribe(platform, receiver.url())), "delivered")
        shown = tried(platform, send_test(platform, subscribe(platform, impostor.url())))
        assert "certificate" in shown["last_error"]
        assert impostor.received == []


REFUSED = [
    "ftp://example.com/",
    "example.com/hook",
    "//example.com/hook",
    "http://",
    "http:///hook",
    "http://user:password@example.com/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:25/",
    "http://example.com/#fragment",
    "http://exa mple.com/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com/\r\nHost: x",
    "http://localhost:8080/",
    "http://LOCALHOST./",
    "http://anything.localhost/",
    "http://127.0.0.1/",
    "http://127.8.9.10:9000/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/",
    "http://168.63.129.16/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[::1%25eth0]/",
    "https://example.com/" + "x" * 2048,
]


def test_addresses_that_are_not_public_are_refused(closed: Platform) -> None:
    with closed.http() as client:
        for url in REFUSED:
            body = {"webhook_url": url, "events": ["batch.complete"]}
            refused = client.post("/webhooks", json=body)
            assert refused.status_code == 400, url
            assert refused.json()["error"]["details"]["field"] == "webhook_url", url
        body = {"webhook_url": "https://example.com/", "events": ["batch.complete"]}
        webhook = client.post("/webhooks", json=body).json()
        change = client.patch(f"/webhooks/{webhook['id']}", json={"webhook_url": REFUSED[16]})
        assert change.status_code == 400


def test_what_a_name_resolves_to_is_checked_when_connecting(closed: Platform) -> None:
    """These are names to us, and loopback to the resolver."""
    with Receiver() as receiver:
        for host in ("2130706433", "127.1", "0x7f000001", "0177.0.0.1"):
            webhook = subscribe(closed, receiver.url(host=host))
            shown = tried(closed, send_test(closed, webhook))
            assert "not public" in shown["last_error"], host
        assert receiver.connections == 0


def test_the_operator_opens_hosts_by_name(start: Callable[..., Platform]) -> None:
    platform = start(environment={**NO_MODEL, "INFERNO_WEBHOOK_ALLOW": "localhost"})
    with Receiver() as receiver:
        webhook = subscribe(platform, receiver.url(host="localhost"))
        settled(platform, send_test(platform, webhook), "delivered")
        assert receiver.received[0].headers["host"] == f"localhost:{receiver.port}"
        with platform.http() as client:
            body = {"webhook_url": receiver.url(), "events": ["batch.complete"]}
            assert client.post("/webhooks", json=body).status_code == 400


def test_proxies_of_the_environment_are_not_used(start: Callable[..., Platform]) -> None:
    with Receiver() as proxy, Receiver() as receiver:
        proxies = {"HTTP_PROXY": proxy.url("/"), "ALL_PROXY": proxy.url("/"), "NO_PROXY": ""}
        platform = start(environment={**NO_MODEL, **OPEN, **proxies})
        settled(platform, send_test(platform, subscribe(platform, receiver.url())), "delivered")
        assert proxy.received == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"events": ["batch.complete"]}, "webhook_url"),
        ({"webhook_url": "https://example.com/"}, "events"),
        ({"webhook_url": "https://example.com/", "events": []}, "events"),
        ({"webhook_url": "https://example.com/", "events": ["no.such"]}, "events[0]"),
        ({"webhook_url": "https://example.com/", "events": "batch.complete"}, "events"),
        ({"webhook_url": 5, "events": ["batch.complete"]}, "webhook_url"),
        (
            {"webhook_url": "https://example.com/", "events": ["batch.complete"], "secret": ""},
            "secret",
        ),
        (
            {
                "webhook_url": "https://example.com/",
                "events": ["batch.complete"],
                "secret": "whsec_?",
            },
            "secret",
        ),
        (
            {"webhook_url": "https://example.com/", "events": ["batch.complete"], "tenant": "x"},
            "tenant",
        ),
    ],
)
def test_wrong_fields_are_named(impatient: Platform, body: dict[str, object], field: str) -> None:
    with impatient.http() as client:
        refused = client.post("/webhooks", json=body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["details"]["field"] == field
