"""HTTP as attackers speak it, slow clients, origins, hosts and TLS, on both planes."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.acceptance.access import NO_MODEL, UNLIMITED, Raw, as_caller, connect, exchange, read
from tests.acceptance.platform import Platform, clean_environment, wait_until

HEADER_SECONDS = 1.5
BODY_SECONDS = 1.5
SLOW = 15.0
"""Seconds within which a slow client has to be gone, on a busy machine."""

HIDDEN = "hidden-request"
HEAD_LIMIT = 8192


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    environment = {
        **NO_MODEL,
        **UNLIMITED,
        "INFERNO_HEADER_TIMEOUT": str(HEADER_SECONDS),
        "INFERNO_BODY_TIMEOUT": str(BODY_SECONDS),
        "INFERNO_MAX_HEADER_BYTES": str(HEAD_LIMIT),
    }
    with Platform(tmp_path_factory.mktemp("http") / "data", environment=environment) as running:
        yield running


@pytest.fixture(params=["inference", "management"])
def plane(request: pytest.FixtureRequest, doors: Platform) -> str:
    return doors.url if request.param == "inference" else doors.management_url


@pytest.fixture
def auth(doors: Platform) -> bytes:
    return b"Host: here\r\nAuthorization: Bearer " + doors.api_key.encode() + b"\r\n"


def check_refusal(raw: Raw, status: int) -> None:
    """Check that there is one answer, in an envelope, and that the connection is closed."""
    assert raw.statuses == [status], raw.data
    assert raw.closed
    assert "error" in json.loads(raw.body)
    assert (raw.header("x-request-id") or "").startswith("req_")
    assert raw.header("connection") == "close"
    assert raw.header("x-content-type-options") == "nosniff"


CHUNKED = b"Transfer-Encoding: chunked\r\n"
AMBIGUOUS: dict[str, tuple[bytes, bytes]] = {
    "length and chunks": (b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    "chunks and length": (CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
    "two lengths": (b"Content-Length: 0\r\nContent-Length: 44\r\n", b""),
    "two equal lengths": (b"Content-Length: 2\r\nContent-Length: 2\r\n", b"{}"),
    "a list of lengths": (b"Content-Length: 2, 2\r\n", b"{}"),
    "signed length": (b"Content-Length: +2\r\n", b"{}"),
    "negative length": (b"Content-Length: -1\r\n", b"{}"),
    "hexadecimal length": (b"Content-Length: 0x2\r\n", b"{}"),
    "huge length": (b"Content-Length: 99999999999999999999\r\n", b"{}"),
    "space before the colon": (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "folded line": (b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "unknown coding": (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "identity": (b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n"),
    "chunked is not the last": (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "chunked twice": (CHUNKED + CHUNKED, b"0\r\n\r\n"),
    "bare line feed in the head": (b"X: a\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "bare carriage return": (b"X: a\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "NUL": (b"X: a\0b\r\n", b""),
    "no name": (b": x\r\n", b""),
    "control character in a name": (b"X\x01: x\r\n", b""),
    "second Host": (b"Host: there\r\n", b""),
    "bare line feed in a chunk's head": (CHUNKED, b"2\n{}\r\n0\r\n\r\n"),
    "line feed in an extension": (CHUNKED, b"2;\nxx\r\n{}\r\n0\r\n\r\n"),
    "negative chunk": (CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n"),
    "prefixed chunk": (CHUNKED, b"0x2\r\n{}\r\n0\r\n\r\n"),
    "overflowing chunk": (CHUNKED, b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "chunk longer than it says": (CHUNKED, b"2\r\n{}xx\r\n0\r\n\r\n"),
}
"""Headers and body of requests whose end could be seen in two places."""


@pytest.mark.parametrize("vector", AMBIGUOUS)
def test_no_request_hides_behind_another(plane: str, auth: bytes, vector: str) -> None:
    headers, body = AMBIGUOUS[vector]
    hidden = b"GET /health HTTP/1.1\r\nX-Request-ID: " + HIDDEN.encode() + b"\r\n" + auth + b"\r\n"
    raw = exchange(plane, b"POST /health HTTP/1.1\r\n" + auth + headers + b"\r\n" + body + hidden)
    check_refusal(raw, 400)
    assert HIDDEN.encode() not in raw.data


@pytest.mark.parametrize(
    "request_line",
    [
        b"GARBAGE",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello",
        b"GET /auth/me HTTP/1.9",
        b"PRI * HTTP/2.0",
        b"FETCH /auth/me HTTP/1.1",
        b"GET /auth/\x01me HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"CONNECT here:80 HTTP/1.1",
    ],
)
def test_what_is_not_http_is_answered_in_the_envelope(
    plane: str, auth: bytes, request_line: bytes, request: pytest.FixtureRequest
) -> None:
    if request_line.startswith(b"\x16") and "management" in request.node.name:
        request_line = request_line[1:]  # there it is the beginning of TLS, which is spoken too
    check_refusal(exchange(plane, request_line + b"\r\n" + auth + b"\r\n"), 400)


def test_a_request_has_to_name_its_host(plane: str) -> None:
    check_refusal(exchange(plane, b"GET /health HTTP/1.1\r\nAccept: */*\r\n\r\n"), 400)
    assert exchange(plane, b"GET /health HTTP/1.0\r\n\r\n").statuses == [200]


def test_fields_behind_the_body_are_no_headers(plane: str, auth: bytes) -> None:
    head = b"POST /auth/api-keys HTTP/1.1\r\nHost: here\r\n" + CHUNKED
    raw = exchange(plane, head + b"\r\n0\r\n" + auth.partition(b"\r\n")[2] + b"\r\n")
    assert raw.statuses == [401]


def test_no_request_hides_behind_an_upgrade(doors: Platform, auth: bytes) -> None:
    head = b"GET /auth/me HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + auth
    hidden = b"GET /auth/me HTTP/1.1\r\nX-Request-ID: " + HIDDEN.encode() + b"\r\n" + auth
    raw = exchange(doors.url, head + b"\r\n" + hidden + b"\r\n")
    assert len(raw.statuses) == 1
    assert HIDDEN.encode() not in raw.data


def test_pipelined_requests_are_answered_in_turn(doors: Platform, auth: bytes) -> None:
    paths = [b"/health", b"/nothing", b"/auth/me"]
    requests = [b"GET " + path + b" HTTP/1.1\r\n" + auth + b"\r\n" for path in paths]
    raw = exchange(doors.url, b"".join(requests), answers=3)
    assert raw.statuses == [200, 404, 200]
    assert not raw.closed


def test_garbage_gets_no_answer_that_belongs_to_another_request(
    doors: Platform, auth: bytes
) -> None:
    raw = exchange(doors.url, b"GET /auth/me HTTP/1.1\r\n" + auth + b"\r\nGARBAGE\r\n\r\n")
    assert raw.closed
    assert raw.statuses in ([], [200])


@pytest.mark.parametrize(
    "padding",
    [
        b"X: " + b"a" * HEAD_LIMIT + b"\r\n",
        b"X: a\r\n" * (HEAD_LIMIT // 6),
        b"Cookie: " + b"b" * 300_000 + b"\r\n",
    ],
    ids=["one long", "many short", "huge"],
)
def test_a_head_has_a_largest_size(plane: str, auth: bytes, padding: bytes) -> None:
    raw = exchange(plane, b"GET /health HTTP/1.1\r\n" + auth + padding + b"\r\n")
    check_refusal(raw, 431)


def test_a_long_target_is_refused(plane: str, auth: bytes) -> None:
    target = b"/health?" + b"x" * HEAD_LIMIT
    check_refusal(exchange(plane, b"GET " + target + b" HTTP/1.1\r\n" + auth + b"\r\n"), 431)


def test_a_head_that_just_fits_is_read(plane: str, auth: bytes) -> None:
    padding = b"X: " + b"a" * (HEAD_LIMIT - 300) + b"\r\n"
    raw = exchange(plane, b"GET /health HTTP/1.1\r\n" + auth + padding + b"\r\n")
    assert raw.statuses == [200]


def test_a_large_body_is_no_large_head(doors: Platform) -> None:
    with doors.http() as client:
        assert client.post("/inference", content=b"x" * (HEAD_LIMIT * 50)).status_code == 400


@pytest.mark.parametrize("what", ["trailers", "an extension", "empty lines"])
def test_nothing_else_of_a_request_is_endless(plane: str, auth: bytes, what: str) -> None:
    head = b"POST /health HTTP/1.1\r\n" + auth + CHUNKED + b"\r\n"
    endless = {
        "trailers": head + b"0\r\n" + b"X: y\r\n" * 100_000,
        "an extension": head + b"2;x=" + b"y" * 500_000,
        "empty lines": b"\r\n" * 300_000,
    }[what]
    raw = exchange(plane, endless)
    assert raw.closed
    assert len(raw.statuses) <= 1


def drip(connection: socket.socket, data: bytes, every: float = 0.1) -> float:
    """Send byte by byte until the server has had enough, and return how long that took."""
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for byte in data:
            connection.sendall(bytes([byte]))
            connection.settimeout(every)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65536, socket.MSG_PEEK):
                    break
                break
    return time.monotonic() - begun


def test_a_slow_head_is_not_waited_for(plane: str, auth: bytes) -> None:
    with connect(plane) as connection:
        taken = drip(connection, b"GET /health HTTP/1.1\r\n" + auth + b"X: " + b"a" * 1000)
        raw = read(connection)
    assert HEADER_SECONDS * 0.9 < taken < SLOW
    check_refusal(raw, 408)


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
def test_a_client_that_says_nothing_is_not_waited_for(plane: str, sent: bytes) -> None:
    with connect(plane) as connection:
        connection.sendall(sent)
        begun = time.monotonic()
        raw = read(connection)
    assert (raw.data, raw.closed) == (b"", True)
    assert time.monotonic() - begun < SLOW


def test_empty_lines_do_not_keep_a_connection_open(plane: str, auth: bytes) -> None:
    request = b"GET /health HTTP/1.1\r\n" + auth + b"\r\n"
    with connect(plane) as connection:
        connection.sendall(request)
        assert read(connection).statuses == [200]
        begun = time.monotonic()
        drip(connection, b"\r\n" * 200)
    assert time.monotonic() - begun < SLOW


def test_a_slow_body_is_not_waited_for(doors: Platform, auth: bytes) -> None:
    head = b"POST /inference HTTP/1.1\r\n" + auth + b"Content-Length: 1000\r\n\r\n{"
    begun = time.monotonic()
    raw = exchange(doors.url, head)
    assert (raw.statuses, raw.closed) == ([], True)
    assert time.monotonic() - begun < SLOW


def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(plane: str) -> None:
    head = b"POST /auth/users HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n"
    with connect(plane) as connection:
        connection.sendall(head)
        assert read(connection).statuses == [401]
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < SLOW:
                connection.sendall(b"x")
                time.sleep(0.1)
    assert time.monotonic() - begun < SLOW


def test_idle_connections_hold_nobody_up(doors: Platform) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(connect(doors.url))
        with doors.http() as client:
            assert client.get("/auth/me").status_code == 200

    def is_rid_of_them() -> bool:
        with doors.http() as client:
            return client.get("/health").status_code == 200

    wait_until(is_rid_of_them, SLOW, "the platform does not answer")


def test_every_answer_has_the_security_headers(doors: Platform) -> None:
    for management in (False, True):
        for credential in (None, doors.api_key):
            with as_caller(doors, credential, management=management) as client:
                for path in ("/health", "/nothing", "/openapi.json", "/docs"):
                    headers = client.get(path).headers
                    assert headers["x-content-type-options"] == "nosniff"
                    assert headers["x-frame-options"] == "DENY"
                    assert headers["referrer-policy"] == "no-referrer"
                    assert headers["x-request-id"]
                    assert "server" not in headers


ORIGIN = "https://console.example.com"


class TestOrigins:
    def test_are_all_strangers_by_default(self, doors: Platform) -> None:
        with doors.http() as client:
            client.headers["Origin"] = ORIGIN
            assert "access-control-allow-origin" not in client.get("/health").headers
            asked = {"Access-Control-Request-Method": "POST"}
            answer = client.options("/inference", headers=asked)
            assert not [name for name in answer.headers if name.startswith("access-control")]

    def test_that_are_listed_may_call(self, start: Callable[..., Platform]) -> None:
        platform = start(environment={**NO_MODEL, "CORS_ORIGINS": f"{ORIGIN}, https://b.example"})
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        for url in (platform.url, platform.management_url):
            with httpx.Client(base_url=url, headers={"Origin": ORIGIN}) as client:
                preflight = client.options("/health", headers=asked)
                assert preflight.status_code == 200
                assert preflight.headers["access-control-allow-origin"] == ORIGIN
                assert "access-control-allow-credentials" not in preflight.headers
                assert preflight.headers["x-content-type-options"] == "nosniff"
                assert preflight.headers["x-request-id"]
                allowed = preflight.headers["access-control-allow-headers"].lower()
                assert {"authorization", "content-type"} <= set(allowed.split(", "))
                refused = client.get("/nothing")
                assert refused.status_code == 401
                assert refused.headers["access-control-allow-origin"] == ORIGIN
                exposed = refused.headers["access-control-expose-headers"]
                assert {"X-Request-ID", "Retry-After", "X-RateLimit-Remaining"} <= set(
                    exposed.split(", ")
                )
            for other in ("https://evil.example", f"{ORIGIN}.evil.example", "null"):
                with httpx.Client(base_url=url, headers={"Origin": other}) as client:
                    assert client.options("/health", headers=asked).status_code == 400
                    assert "access-control-allow-origin" not in client.get("/health").headers


class TestHosts:
    def test_other_names_are_refused(self, start: Callable[..., Platform]) -> None:
        names = "127.0.0.1, api.example.com, *.in.example.com"
        platform = start(environment={**NO_MODEL, "INFERNO_TRUSTED_HOSTS": names})
        for url in (platform.url, platform.management_url):
            for host, status in {
                "api.example.com": 200,
                "API.EXAMPLE.COM:8080": 200,
                "a.in.example.com": 200,
                "in.example.com": 400,
                "evil.example": 400,
                "api.example.com.evil.example": 400,
                "evil-in.example.com": 400,
                "": 400,
            }.items():
                answer = httpx.get(f"{url}/health", headers={"Host": host})
                assert answer.status_code == status, host
                assert answer.headers["x-request-id"]
                assert answer.headers["x-frame-options"] == "DENY"
                if status == 400:
                    assert "Host" in answer.text
                    assert "error" in answer.json()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "inferno")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def refusal_to_start(tmp_path: Path, *arguments: str, **environment: str) -> str:
    """Return what a platform that cannot start like this says, in one short line."""
    command = [
        *(sys.executable, "-m", "inferno", "serve", "--data-dir", str(tmp_path / "data")),
        *("--port", "0", "--management-port", "0", *arguments),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={**clean_environment(), **NO_MODEL, **environment},
    )
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "run.json").exists()
    return done.stderr


class TestTls:
    def test_serves_https_and_nothing_else(
        self, start: Callable[..., Platform], pair: tuple[Path, Path]
    ) -> None:
        environment = {
            **NO_MODEL,
            "INFERNO_TLS_CERT": str(pair[0]),
            "INFERNO_TLS_KEY": str(pair[1]),
        }
        platform = start(environment=environment)
        trusted = ssl.create_default_context(cafile=str(pair[0]))
        for url in (platform.url, platform.management_url):
            assert url.startswith("https://")
            assert httpx.get(f"{url}/health", verify=trusted).status_code == 200
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/health")
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{url.replace('https', 'http')}/health")
        old = ssl.create_default_context(cafile=str(pair[0]))
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert httpx.get(f"{platform.url}/health", verify=old).status_code == 200

    def test_needs_a_pair_that_belongs_together(
        self, tmp_path: Path, pair: tuple[Path, Path]
    ) -> None:
        other = tmp_path / "other.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        other.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        said = refusal_to_start(tmp_path, INFERNO_TLS_CERT=str(pair[0]), INFERNO_TLS_KEY=str(other))
        assert "tls_cert" in said
        assert "belong together" in said

    def test_needs_files_that_are_there(self, tmp_path: Path, pair: tuple[Path, Path]) -> None:
        said = refusal_to_start(
            tmp_path, INFERNO_TLS_CERT=str(pair[0]), INFERNO_TLS_KEY=str(tmp_path / "none.pem")
        )
        assert "tls_key" in said

    def test_needs_both_halves(self, tmp_path: Path, pair: tuple[Path, Path]) -> None:
        said = refusal_to_start(tmp_path, INFERNO_TLS_CERT=str(pair[0]))
        assert "--tls-cert" in said
        assert "--tls-key" in said


class TestUnsafeCombinations:
    def test_no_authentication_on_a_public_address(self, tmp_path: Path) -> None:
        said = refusal_to_start(tmp_path, "--no-auth", "--host", "0.0.0.0")
        assert "--host 127.0.0.1" in said
        assert "Keep authentication on" in said

    @pytest.mark.parametrize("password", ["admin", "password", "admin123", "Password1", "short"])
    def test_a_weak_password_on_a_public_address(self, tmp_path: Path, password: str) -> None:
        said = refusal_to_start(tmp_path, "--host", "0.0.0.0", INFERNO_ADMIN_PASSWORD=password)
        assert "INFERNO_ADMIN_PASSWORD" in said
        assert "leave it unset" in " ".join(said.split())
        assert f"'{password}'" not in said

    @pytest.mark.parametrize("variable", ["JWT_SECRET", "INFERNO_JWT_SECRET"])
    def test_a_short_secret(self, tmp_path: Path, variable: str) -> None:
        said = refusal_to_start(tmp_path, **{variable: "s3cret-but-short"})
        assert "jwt_secret" in said
        assert "32" in said
        assert "s3cret" not in said

    def test_a_proxy_list_that_is_none(self, tmp_path: Path) -> None:
        said = refusal_to_start(tmp_path, INFERNO_TRUSTED_PROXIES="everybody")
        assert "trusted_proxies" in said
